"""The command ``prithvi-tg``. Only commands that need Lightning import it, so the help appears at once."""

import sys

from . import __version__
from .cli.errors import unwrapped
from .cli.messages import shown_messages
from .errors import ConfigError, own_error

USAGE = """\
usage: prithvi-tg COMMAND [options]

Fine-tune Prithvi for semantic segmentation, and turn satellite scenes into maps.

commands:
  fit         train a model:  prithvi-tg fit --config configs/sen1floods11.yaml
  validate    score a checkpoint on the validation set
  test        score a checkpoint on the test set:  prithvi-tg test --config X.yaml --ckpt_path best.ckpt
  predict     map scenes:  prithvi-tg predict --ckpt_path best.ckpt SCENE.tif [...]
  embed       write features of an encoder:  prithvi-tg embed SCENE.tif --output emb.tif --ckpt_path best.ckpt
  check       check data, weights and configuration before training:  prithvi-tg check --config X.yaml
  report      write an HTML page that compares runs:  prithvi-tg report runs/version_0 --maps maps/SCENE_pred.tif
  stats       compute band statistics and class weights of the training set:  prithvi-tg stats --config X.yaml
  chips       cut labelled scenes into chips:  prithvi-tg chips data/chips --config configs/scenes.yaml
  export      write weights as safetensors:  prithvi-tg export best.ckpt weights.safetensors
  sweep       search over configuration keys:  prithvi-tg sweep space.yaml --config X.yaml
  synthetic   write a small synthetic data set:  prithvi-tg synthetic data/demo

prithvi-tg COMMAND --help lists the options of a command; prithvi-tg --version prints the version.
To list the keys of a configuration: prithvi-tg fit --model.help PrithviSegmentationTask and
prithvi-tg fit --data.help Sen1Floods11DataModule.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, 1 for an error in the data or the weights, 2 for one in the configuration.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"prithvi-tg {__version__}")
        return 0
    try:
        with shown_messages():
            return _run(command, arguments)
    except Exception as error:
        ours = own_error(error)
        if (
            ours is None and type(error).__name__ == "MisconfigurationException"
        ):  # Lightning's, of its options
            ours = ConfigError(str(error).replace("\n", " "))
        if ours is None:
            if (theirs := unwrapped(error)) is error:
                raise
            raise theirs from None
        # The text of an error of a loader process contains its traceback; the last line is the message.
        name = f"{type(ours).__module__}.{type(ours).__name__}: "
        line = str(ours).strip().split("\n")[-1].removeprefix(name)
        print(f"prithvi-tg: error: {line}", file=sys.stderr)
        return 2 if isinstance(ours, ConfigError) else 1


def _run(command: str, arguments: list[str]) -> int:
    if command in ("fit", "validate", "test", "predict"):
        from .cli.lightning import PrithviCLI

        PrithviCLI.run_command(arguments)
        return 0
    if command == "check":
        from .commands.check import run as run_check

        return run_check(arguments[1:])
    if command == "embed":
        from .commands.embed import run as run_embed

        return run_embed(arguments[1:])
    if command == "report":
        from .commands.report import run as run_report

        return run_report(arguments[1:])
    if command == "stats":
        from .commands.stats import run as run_stats

        return run_stats(arguments[1:])
    if command == "chips":
        from .commands.chips import run as run_chips

        return run_chips(arguments[1:])
    if command == "export":
        from .commands.export import run as run_export

        return run_export(arguments[1:])
    if command == "sweep":
        from .commands.sweep import run as run_sweep

        return run_sweep(arguments[1:])
    if command == "synthetic":
        from .commands.synthetic import run

        return run(arguments[1:])
    print(f"prithvi-tg: error: unknown command {command!r}; see prithvi-tg --help", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
