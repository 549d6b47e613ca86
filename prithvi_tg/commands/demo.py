"""``prithvi-tg demo``: synthetic data, training, test, map and report, one command after another."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from ..cli.table import COMMANDS
from ..errors import ConfigError

#: Configurations that ship with the package; in a checkout, a link to ``configs``.
CONFIGS = Path(__file__).parents[1] / "configs"
#: The configuration of a demo in its folder; marks a folder that may be overwritten.
CONFIG = "demo.yaml"


def run(arguments: list[str]) -> int:
    """Parse the arguments, and run the commands of the demo until one fails.

    Returns:
        The exit code of the last command.

    Raises:
        ConfigError: The output folder exists and may not be overwritten, or the number of epochs is not positive.
    """
    options = COMMANDS["demo"].parser().parse_args(arguments)
    output = options.output
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"epochs: {options.epochs} must be 1 or more")
    if output.exists() and not options.overwrite:
        raise ConfigError(f"output: {output} exists; add --overwrite to replace it, or give another folder")
    if output.exists():
        _remove_demo(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / CONFIG).write_text(yaml.safe_dump(demo_config(output, options.epochs), sort_keys=False))
    for words in demo_commands(output):
        print(f"\n$ prithvi-tg {shlex.join(words)}", flush=True)
        name, *others = words
        code = COMMANDS[name].run(others)
        if code:
            return code
    return 0


def demo_config(output: Path, epochs: int | None = None) -> dict[str, Any]:
    """The shipped configuration of the demo, for another folder.

    Args:
        output: The folder.
        epochs: Number of epochs; `None` for that of the configuration.
    """
    config: dict[str, Any] = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    config["data"]["init_args"] |= {"root": f"{output}/data", "splits": f"{output}/data/splits.csv"}
    trainer = config["trainer"]
    trainer["default_root_dir"] = f"{output}/runs"
    if epochs is not None:
        trainer["max_epochs"] = epochs
        trainer["check_val_every_n_epoch"] = min(epochs, trainer["check_val_every_n_epoch"])
    return config


def demo_commands(output: Path) -> list[list[str]]:
    """The words of each command of the demo in a folder."""
    data, config, runs, maps = (str(output / name) for name in ("data", CONFIG, "runs", "maps"))
    best = f"{runs}/version_0/checkpoints/best.ckpt"
    return [
        ["synthetic", data],
        ["fit", "--config", config],
        ["test", "--config", config, "--ckpt_path", best],
        ["predict", "--ckpt_path", best, f"{data}/scene.tif", "--output", maps, "--quicklook"],
        [
            "report", f"{runs}/version_0", f"{runs}/version_1", "--names", "training", "test",
            "--maps", f"{maps}/scene_pred.tif", "--output", str(output / "report.html"),
        ],
    ]  # fmt: skip


def _remove_demo(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"output: {folder} has no {CONFIG}, so it was not written by demo; give another folder"
        )
    for name in ("data", "runs", "maps"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    (folder / "report.html").unlink(missing_ok=True)
