"""Help and errors of the command line come before anything heavy is imported."""

import contextlib
import inspect
import json
import logging
import os
import subprocess
import sys
import warnings
from importlib import import_module
from typing import get_args

import pytest

from prithvi_tg.__main__ import console
from prithvi_tg.choices import Layout, SceneFormatName
from prithvi_tg.cli.class_names import _names_of, check_class_paths
from prithvi_tg.cli.errors import with_options
from prithvi_tg.cli.messages import ShortWarnings, shown_messages
from prithvi_tg.cli.options.configured import TRAINER_KEYS
from prithvi_tg.cli.parsers import ConfiguredParser, option_names
from prithvi_tg.cli.spelling import with_underscores
from prithvi_tg.cli.table import COMMANDS, LightningCommand
from prithvi_tg.errors import ConfigError

#: Packages that take seconds to import, or that no help needs.
HEAVY = ("torch", "lightning", "torchgeo", "kornia", "rasterio", "numpy", "pandas", "timm", "optuna")

#: Runs several commands, one after another; prints exit code, output, error and imported modules of each as JSON.
SEVERAL = """
import contextlib, io, json, sys
from prithvi_tg.__main__ import main
results = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code or 0
    found = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "imported": sorted(sys.modules)}
    results.append(found)
print(json.dumps(results))
"""


def run_several(commands, cwd=None):
    """Run commands one after another in a new process; see `SEVERAL`."""
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def helps():
    """Results of ``--help`` of each command; what one of them imports also counts for the following ones."""
    return dict(zip(COMMANDS, run_several([[name, "--help"] for name in COMMANDS]), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy_and_fits_two_screens(name, helps):
    out = helps[name]["out"]
    assert (helps[name]["code"], helps[name]["err"]) == (0, "")
    assert {*HEAVY}.isdisjoint(helps[name]["imported"])
    assert out.startswith(f"usage: prithvi-tg {name}")
    assert out.count("\n") <= 100
    assert "(default: )" not in out
    known = {*COMMANDS[name].parser().format_help().split()}
    assert {*out.split()} == known


def test_own_options_come_first_and_in_groups(command):
    _, out, _ = command("predict", "--help")
    titles = [
        "reading:",
        "windows:",
        "outputs:",
        "hardware and precision:",
        "configuration and weights:",
        "more help:",
    ]
    assert [line for line in out.splitlines() if line in titles] == titles
    assert out.index("reading:") < out.index("--bands") < out.index("windows:") < out.index("--stride")


def write_files(folder):
    """Configurations, some of which are wrong."""
    good = "data: {class_path: prithvi_tg.datamodules.Sen1Floods11DataModule, init_args: {root: x}}\n"
    (folder / "good.yaml").write_text(good)
    (folder / "runs/version_0/checkpoints").mkdir(parents=True)
    (folder / "runs/version_0/checkpoints/best.ckpt").touch()
    (folder / "module.yaml").write_text("model: {class_path: no_such_package.tasks.Mine}\n")
    (folder / "class.yaml").write_text(good.replace("Sen1Floods11D", "Sen1FloodsD"))
    (folder / "short.yaml").write_text("model: {class_path: PrithviSegmentation}\n")
    (folder / "broken.yaml").write_text("model: [\n")
    for name, text in (("empty", ""), ("comment", "# none yet\n"), ("list", "- data\n"), ("word", "data\n")):
        (folder / f"{name}.yaml").write_text(text)
    (folder / "callback.yaml").write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callback.Timer}]}\n" + good
    )


#: Command, exit code, and a part of the error.
ERRORS = [
    ("fitt", 2, "unknown command 'fitt'; did you mean fit?"),
    ("fit", 2, "data, model: not given; give a configuration, --config FILE"),
    ("fit --config gone.yaml", 2, "--config: gone.yaml: no such file"),
    ("fit --config=gone.yaml", 2, "--config: gone.yaml: no such file"),
    ("check -c gone.yaml", 2, "--config: gone.yaml: no such file"),
    ("sweep space.yaml --config gone.yaml", 2, "--config: gone.yaml: no such file"),
    ("fit --config broken.yaml", 2, "config: broken.yaml, line 2: not YAML"),
    (
        "fit --config module.yaml",
        2,
        "model: no module named 'no_such_package'; put its folder on PYTHONPATH",
    ),
    ("fit --config callback.yaml", 2, "trainer.callbacks: no module named 'lightning.pytorch.callback'"),
    (
        "fit --config class.yaml",
        2,
        "has no class 'Sen1FloodsDataModule'; did you mean Sen1Floods11DataModule?",
    ),
    ("fit --config short.yaml", 2, "model: unknown class 'PrithviSegmentation'; did you mean Prithvi"),
    ("fit --config good.yaml --model=my.Task", 2, "model: no module named 'my'"),
    ("fit --config good.yaml --trainer.max_epocs 2", 2, "did you mean --trainer.max_epochs?"),
    (
        "fit --config good.yaml --trainer.max-epoch 2",
        2,
        "are not abbreviated; write --trainer.max_epochs",
    ),
    ("fit --config good.yaml --confg good.yaml", 2, "--confg: unknown option; did you mean --config?"),
    ("test --config good.yaml --ckpt_path gone.ckpt", 1, "gone.ckpt: no such file"),
    (
        "fit --config good.yaml --epochs 3",
        2,
        "--epochs: unknown option; did you mean --trainer.max_epochs?",
    ),
    ("fit --config good.yaml --learning-rate 3", 2, "did you mean --model.lr?"),
    (
        "predict --ckpt_path runs/version_0/best.ckpt a.tif",
        1,
        "did you mean runs/version_0/checkpoints/best.ckpt?",
    ),
    *(
        (
            f"{words} a.tif",
            1,
            "runs/version_0: is a folder; give a file in it: runs/version_0/checkpoints/best.ckpt",
        )
        for words in (
            "predict --ckpt_path runs/version_0",
            "embed --ckpt_path runs/version_0 --output b.tif",
            "export runs/version_0",
        )
    ),
    (
        "test --config good.yaml --ckpt_path runs",
        1,
        "runs: is a folder; give a file in it: runs/version_0/ch",
    ),
    ("fit --config empty.yaml", 2, "--config: empty.yaml: is empty; a configuration has the sections"),
    ("check --config comment.yaml", 2, "--config: comment.yaml: is empty; "),
    (
        "stats --config list.yaml",
        2,
        "--config: list.yaml: is a list; a configuration has keys, such as model:",
    ),
    ("sweep space.yaml --config word.yaml", 2, "--config: word.yaml: is a single value; "),
    (
        "embed a.tif b.tif --output c.tif",
        2,
        "b.tif: not accepted; embed takes one scene; repeat the command",
    ),
    ("area change a.tif b.tif c.tif", 2, "c.tif: not accepted; area change takes one "),
    (
        "fit good --config good.yaml",
        2,
        "good: not accepted; fit takes options only, such as --config FILE",
    ),
    ("report a --overwrite b", 2, "b: not accepted here; give all RUN together, before the options"),
    ("fit --config good.yaml --model.weights gone.pt", 1, "gone.pt: no such file"),
    ("stats --config good.yaml --data.root gone", 1, "--data.root: gone: no such folder"),
    (
        "fit --config good.yaml --data.root . --data.splits gone.csv",
        1,
        "gone.csv: no such file; splits is a CSV",
    ),
    ("predict --ckpt_path good.yaml a.tif --aoi gone.gpkg", 1, "a.tif: no such file or folder"),
    ("predict --ckpt_path good.yaml good.yaml --aoi gone.gpkg", 2, "--aoi: gone.gpkg: no such file"),
    ("predict", 2, "scenes: none given"),
    ("predict scene.tif", 2, "ckpt_path: not given; predict needs trained weights"),
    ("predict --ckpt_path gone.ckpt scene.tif", 1, "gone.ckpt: no such file"),
    ("predict --ckpt_path good.yaml gone.tif", 1, "gone.tif: no such file or folder"),
    ("embed a.tif --output b.tif --checkpoint good.yaml", 2, "unknown option; did you mean --ckpt_path?"),
    ("embed gone.tif --output a.tif --ckpt_path good.yaml", 1, "gone.tif: no such file or folder"),
    ("test --config good.yaml", 2, "ckpt_path: not given; test needs trained weights"),
    (
        "predict scene.tif --skip-exist",
        2,
        "--skip_exist: options are not abbreviated; write --skip_existing",
    ),
    ("synthetic new --layout chps", 2, "--layout: chps must be sen1floods11, hls_burn_scars, "),
    ("synthetic new --chips many", 2, "--chips: many is not a whole number"),
    (
        "predict scene.tif --blending han",
        2,
        "blending: han must be average, hann or crop; did you mean hann?",
    ),
    ("predict scene.tif --trainer.devices 1 --window wide", 2, "window: wide is not a whole number"),
    ("embed scene.tif --outp a.tif", 2, "--outp: options are not abbreviated; write --output"),
    ("embed scene.tif --output a.tif --ckpt_path gone.ckpt", 1, "gone.ckpt: no such file"),
    ("stats --config good.yaml --skip", 2, "--skip: options are not abbreviated; write --skip_bad"),
    ("chips --config good.yaml", 2, "folder"),
    ("export gone.ckpt a.safetensors", 1, "gone.ckpt: no such file"),
    ("report", 2, "the following arguments are required: RUN"),
    ("sweep space.yaml --trial 3", 2, "--trial: options are not abbreviated; write --trials"),
]


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Results of all `ERRORS` by command; what one command imports also counts for the following ones."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    commands = [words for words, _, _ in ERRORS]
    return dict(zip(commands, run_several([words.split() for words in commands], folder), strict=True))


@pytest.mark.parametrize(("words", "code", "message"), ERRORS)
def test_errors_of_the_command_line_import_nothing_heavy(errors, words, code, message):
    found = errors[words]
    assert found["code"] == code
    assert {*HEAVY}.isdisjoint(found["imported"])
    (line,) = found["err"].splitlines()
    assert line.startswith("prithvi-tg: error: ")
    assert message in line


def real_options(name):
    """Options of the parser that parses a command, without the keys of the trainer."""
    from prithvi_tg.cli.lightning import PrithviCLI

    found = []

    class Parsers(PrithviCLI):
        def _prepare_subcommand_parser(self, klass, subcommand, **kwargs):
            found.append((subcommand, super()._prepare_subcommand_parser(klass, subcommand, **kwargs)))
            return found[-1][1]

    with contextlib.suppress(SystemExit):
        Parsers.run_command([name, "--config", "gone.yaml"])
    ((built, parser),) = found  # the parsers of other commands are not built
    assert built == name
    return {option for option in option_names(parser) if not option.startswith("--trainer.")}


@pytest.mark.parametrize(
    "name", [name for name, one in COMMANDS.items() if isinstance(one, LightningCommand)]
)
def test_every_option_of_lightning_is_known_and_none_is_invented(name, capsys):
    described = {one for one in option_names(COMMANDS[name].parser()) if not one.startswith("--trainer.")}
    assert described - {"--model.KEY", "--data.KEY", "--skip_bad", "--print_shtab"} == real_options(
        COMMANDS[name].method
    )


def test_keys_of_the_trainer_and_words_of_options_are_those_of_the_modules_that_use_them():
    from lightning.pytorch import Trainer

    from prithvi_tg.commands.synthetic import LAYOUTS
    from prithvi_tg.readers import SCENE_FORMATS

    assert tuple(inspect.signature(Trainer).parameters) == TRAINER_KEYS
    assert get_args(Layout) == tuple(LAYOUTS)
    assert get_args(SceneFormatName) == tuple(SCENE_FORMATS)


@pytest.mark.parametrize("name", ["stats", "check", "chips"])
def test_every_option_of_a_command_with_data_is_known(name):
    from prithvi_tg.commands.data_parser import data_parser

    described = option_names(COMMANDS[name].parser())
    assert option_names(data_parser(name)) <= described


def test_trainer_help_lists_its_keys(command):
    code, out, _ = command("fit", "--trainer.help")
    assert code == 0
    assert "--trainer.max_epochs" in out
    assert "--model" not in out


@pytest.mark.parametrize(
    ("given", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "100"}, None)],
)
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(monkeypatch, given, policy):
    """Spinning threads slow a map down where other programs use the cores: see experiments/throughput."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["prithvi-tg", "--version"])
    assert console() == 0
    assert os.environ.pop("OMP_WAIT_POLICY", None) == policy


def test_options_may_have_hyphens():
    words = [
        "--skip-bad",
        "--trainer.max-epochs=3",
        "--data.init_args.batch-size",
        "2",
        "--title",
        "a-b",
        "x-y.tif",
    ]
    assert with_underscores(words) == [
        "--skip_bad", "--trainer.max_epochs=3", "--data.init_args.batch_size", "2", "--title", "a-b", "x-y.tif",
    ]  # fmt: skip
    assert with_underscores(["--model.classes.dry-land=1", "--", "--a-b"]) == [
        "--model.classes.dry-land=1",
        "--",
        "--a-b",
    ]


def test_options_of_a_configuration_are_left_to_its_parser():
    parser = COMMANDS["predict"].parser()
    assert isinstance(parser, ConfiguredParser)
    words = ["a.tif", "--nodata", "0", "--model.lr", "1", "-c", "x.yaml", "--print_config", "--bands=B1"]
    found = parser.parse_own(words)
    assert (found.scenes, found.nodata, found.bands) == (["a.tif"], [0.0], ["B1"])


def test_names_of_classes_are_read_from_the_source_of_their_modules():
    from torchgeo import datamodules

    from prithvi_tg import tasks
    from prithvi_tg.compat import SemanticSegmentationTask

    library = import_module(SemanticSegmentationTask.__module__.rpartition(".")[0])
    for module in (datamodules, library, tasks):
        assert {*module.__all__} <= _names_of(module.__name__)


@pytest.mark.parametrize(
    "path",
    [
        "prithvi_tg.PrithviSegmentationTask",
        "prithvi_tg.tasks.PrithviSegmentationTask",
        "prithvi_tg.tasks.segmentation.PrithviSegmentationTask",
        "prithvi_tg.datasets.scene_dataset.SceneDataset",
        "torchgeo.trainers.SemanticSegmentationTask",
        "SemanticSegmentationTask",
        "collections.abc.Mapping",
        "collections.Counter.Inner",
        "__main__.Mine",
    ],
)
def test_class_paths_that_exist_are_accepted(path):
    check_class_paths({"model": {"class_path": path}})


def test_class_paths_are_found_at_any_depth():
    schedule = {"class_path": "gone.Schedule"}
    with pytest.raises(ConfigError, match=r"^model.schedule: no module named 'gone'"):
        check_class_paths({"model": {"class_path": "torch.nn.Module", "init_args": {"schedule": schedule}}})


@pytest.fixture(scope="module")
def results(trained_run, tmp_path_factory):
    """Results of commands that run one after another in a new process; the last one imports the most."""
    folder = tmp_path_factory.mktemp("several")
    words = {
        "sweep": ["sweep", f"{folder}/gone.yaml", "--config", f"{trained_run}/config.yaml"],
        "report": ["report", str(trained_run), "--output", f"{folder}/report.html"],
        "synthetic": ["synthetic", f"{folder}/new", "--chips", "6", "--size", "32"],
        "help": ["fit", "--model.help", "PrithviPixelwiseRegressionTask"],
    }
    return dict(zip(words, run_several(list(words.values())), strict=True))


def test_commands_without_a_trainer_do_not_import_lightning(results):
    for name in ("sweep", "report"):
        assert {"lightning", "torchgeo", "kornia"}.isdisjoint(results[name]["imported"]), name
    assert {"lightning", "kornia"}.isdisjoint(results["synthetic"]["imported"])
    assert (results["sweep"]["code"], "gone.yaml: cannot be read" in results["sweep"]["err"]) == (2, True)
    for name in ("report", "synthetic"):
        assert (results[name]["code"], results[name]["err"]) == (0, "")


def test_a_task_is_known_by_its_name_alone(results):
    assert "prithvi_tg.tasks.regression" not in results["synthetic"]["imported"]
    assert results["help"]["code"] == 0, results["help"]["err"]
    assert "--model.encoder" in results["help"]["out"]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("fit --config {config} --model.help", "--model.decoder"),
        ("fit --model.help --config {config}", "--model.decoder"),
        ("check --config {config} --data.help", "--data.crop_size"),
        ("fit --data.help --data LabelledScenesDataModule", "--data.windows_per_epoch"),
        ("fit --config {config} --model PrithviClassificationTask --model.help", "--model.pooling"),
        ("pretrain --model.help", "--model.mask_ratio"),
        ("fit --data LabelledScenesDataModule --data.split.help PolygonSplit", "--split.attribute"),
    ],
)
def test_help_without_a_class_lists_the_keys_of_the_class_in_use(words, key, config, command):
    code, out, err = command(*words.format(config=config).split())
    assert code == 0, err
    assert key in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fit --model.help", "--model.help: needs a class; choose from PrithviClassificationTask, Prithvi"),
        ("stats --data.help --skip_bad", "--data.help: needs a class; choose from ChipDataModule, "),
        (
            "fit --data.split.help PolygonSplit",
            "--data.split.help: needs the class that has the key split; add --data CLASS or --config FILE",
        ),
        (
            "fit --data LabelledScenesDataModule --data.split.help",
            "--data.split.help: needs a class, one of those that split accepts",
        ),
        ("fit --data.help Xyz", "data: unknown class 'Xyz'; choose from ChipDataModule"),
    ],
)
def test_help_without_any_class_lists_the_classes(words, message, command):
    code, _, err = command(*words.split())
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"prithvi-tg: error: {message}")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("pretrain", ["its folder is NAME/pretrain_0, NAME/pretrain_1 and so on"]),
        ("fit", ["its folder is NAME/fit_0, NAME/test_0 and so on"]),
        ("chips", ["usage: prithvi-tg chips FOLDER --config FILE [options]", " FOLDER Folder for the chips"]),
        ("test", ["usage: prithvi-tg test --config FILE --ckpt_path FILE [options]"]),
        ("validate", ["usage: prithvi-tg validate --config FILE --ckpt_path FILE [options]"]),
        ("calibrate", ["--ckpt_path FILE A checkpoint of this package."]),
        ("predict", ["--model MODEL.pt2 An exported model, instead of --ckpt_path."]),
    ],
)
def test_help_names_what_a_command_needs_and_writes(name, lines, command):
    code, out, _ = command(name, "--help")
    assert code == 0
    text = " ".join(out.split())
    assert [line for line in lines if line not in text] == []
    assert name != "pretrain" or "published" not in text


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("predict --ckpt_path {here} --bands B02 B03 scene.tif", "--bands"),
        ("predict --ckpt_path {here} --nodata 0 scene.tif", "--nodata"),
        ("predict --ckpt_path {here} --qa_mask cloud scene.tif", "--qa_mask"),
        ("predict --ckpt_path {here} --quality scl.tif scene.tif", "--quality"),
        ("embed --output e.tif --bands 1 2 scene.tif", "--bands"),
        ("embed --output e.tif --nodata 0 scene.tif", "--nodata"),
        ("report --names a b scene.tif", "--names"),
        ("area sample --points 9 --output points.gpkg scene.tif", "--output"),
    ],
)
def test_an_input_that_was_read_as_a_value_of_an_option_is_named(
    words, option, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("here.ckpt", "scene.tif"):
        (tmp_path / name).touch()
    code, _, err = command(*words.format(here="here.ckpt").split())
    assert code == 2
    advice = (
        f"; scene.tif was read as a value of {option}: give it before the options, or write -- before it\n"
    )
    assert err.endswith(advice)


@pytest.mark.parametrize(
    "words", ["--quality scl.tif", "--products my.Product", "--bands 1 2 -- scene.tif", "--bands=1 scene.tif"]
)
def test_values_of_an_option_are_not_taken_for_inputs(words, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.tif").touch()
    _, _, err = command("predict", *words.split())
    assert "prithvi-tg: error: " in err
    assert "was read as a value" not in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            (
                "search",
                "--api",
                "x",
                "--collection",
                "c",
                "--aoi",
                "1,2",
                "--dates",
                "2020",
                "--output",
                "{here}",
            ),
            "--",
        ),
        (("area", "sample", "{here}", "--output", "{here}", "--points", "9"), "--output: "),
        (
            ("predict", "a.tif", "--ckpt_path", "{here}", "--window", "many"),
            "--window: many is not a whole number",
        ),
        (("predict", "{here}"), "--ckpt_path: not given; predict needs trained weights"),
        (("predict", "--ckpt_path", "{here}"), "scenes: none given"),
        (
            ("test", "--config", "{here}", "--ckpt_path", "{here}", "--data.root", "."),
            "root: not accepted here",
        ),
    ],
)
def test_an_error_of_an_option_starts_with_the_option_as_it_is_typed(words, expected, command, tmp_path):
    here = tmp_path / "here.json"
    here.write_text("{}")
    code, _, err = command(*(word.format(here=here) for word in words))
    assert code != 0
    assert err.startswith(f"prithvi-tg: error: {expected}")


@pytest.mark.version_independent
@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "m.tif: exists; add overwrite=True to replace it, skip_existing=True to keep it",
            "m.tif: exists; add --overwrite to replace it, --skip_existing to keep it",
        ),
        ("give nodata=[-9999]", "give --nodata -9999"),
        ("for example bands=[1, 2, 3]", "for example --bands 1 2 3"),
        ("give scale=0.0001 and offset=-0.2", "give --scale 0.0001 and --offset -0.2"),
        ("the views of tta='d4'", "the views of --tta d4"),
        ("callbacks=[Precision(overwrite=True)]", "callbacks=[Precision(overwrite=True)]"),
        ("set same=True", "set same=True"),
    ],
)
def test_arguments_in_messages_are_options_on_the_command_line(message, shown):
    assert with_options(message, option_names(COMMANDS["predict"].parser())) == shown


@pytest.mark.version_independent
def test_a_mapping_in_a_message_is_an_option_with_pairs():
    message = "add expected_accuracy={'land 1': 0.9, 'water': 0.7}"
    shown = 'add --expected_accuracy "land 1=0.9" water=0.7'
    assert with_options(message, {"--expected_accuracy"}) == shown


@pytest.mark.parametrize("imports_lightning", [False, True])
def test_warnings_and_logged_errors_of_a_command_name_its_options(capsys, imports_lightning):
    with shown_messages(), ShortWarnings([], {"--nodata"}), contextlib.ExitStack() as stack:
        if imports_lightning:  # its import replaces the function that formats warnings
            warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
        stack.enter_context(ShortWarnings([]))
        shown = warnings.formatwarning("a.tif: give nodata=[0]", UserWarning, "a.py", 1)
        logging.getLogger("prithvi_tg").error("b.tif: give nodata=[0]")
        logging.getLogger("prithvi_tg").warning("c.tif: give nodata=[0]")
    assert shown == "prithvi-tg: warning: a.tif: give --nodata 0\n"
    expected = "b.tif: give --nodata 0\nprithvi-tg: warning: c.tif: give --nodata 0\n"
    assert capsys.readouterr().err == expected
