"""The table of commands: what each is for, its options, and the module that runs it."""

from argparse import ArgumentParser
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..compat import set_help
from .options.area import add_change_options, add_estimate_options, add_sample_options
from .options.configured import (
    GROUPS,
    add_calibrate_options,
    add_chip_options,
    add_no_options,
    add_run_options,
    describe_data,
    describe_lightning,
)
from .options.embed import add_embed_options
from .options.plain import (
    add_demo_options,
    add_export_options,
    add_push_options,
    add_report_options,
    add_sweep_options,
    add_synthetic_options,
)
from .options.predict import add_predict_options
from .options.search import add_search_options
from .parsers import ConfiguredParser, PlainParser, fail, group_of, input_taken_as_value, option_names
from .settings import (
    WEIGHTS,
    check_checkpoint,
    check_configurations,
    check_files,
    check_scenes,
    is_configured,
    paths_of,
    require_checkpoint,
    require_checkpoint_of,
    require_scenes,
    values_of,
    with_members,
)
from .spelling import configurations_first, exported_as_checkpoint, names_in, unknown_command
from .unknown_options import refuse_unknown

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Command:
    """A command whose options are all its own.

    Attributes:
        name: Its name.
        summary: What it does, in the list of commands.
        description: What it does, in its help.
        add_options: Adds its own options to a parser.
        module: Module of this package whose ``run`` runs it.
        epilog: End of its help.
    """

    name: str
    summary: str
    description: str
    add_options: Callable[[Any], None]
    module: str
    epilog: str | None = None

    def parser(self) -> ArgumentParser:
        """A parser of its own options, which prints its help."""
        parser = PlainParser(prog=f"prithvi-tg {self.name}", description=self.description, epilog=self.epilog)
        self.add_options(parser)
        return parser

    def check(self, words: list[str]) -> None:
        """Exit with a message if the words have a wrong option or name a file that is missing.

        Raises:
            ConfigError: A configuration is missing, or a class path of it is wrong.
            CheckpointError, DataError: A checkpoint or a scene is missing.
        """
        parser = self.parser()
        refuse_unknown(words, option_names(parser), self.name)
        options = parser.parse_args(words)
        check_checkpoint(getattr(options, "ckpt_path", None))
        check_scenes([options.scene] if hasattr(options, "scene") else [])

    def options_of(self, words: Sequence[str]) -> Collection[str]:
        """The options that an error can mean; with a configuration, whose keys may have their names, the given ones."""
        return {*names_in(words), "--config"} if is_configured(words) else option_names(self.parser())

    def select(self, words: list[str]) -> "tuple[Command, list[str]]":
        """The command that runs some words, and the words for it."""
        return self, words

    def run(self, words: list[str]) -> int:
        """Run the command; returns the exit code."""
        return int(import_module(f"{_PACKAGE}.{self.module}").run(words))


class CommandGroup(Command):
    """Several commands under one name, such as ``area sample`` and ``area estimate``."""

    @property
    def commands(self) -> "dict[str, Command]":
        """Its commands, by the word after its name."""
        return GROUPED[self.name]

    def parser(self) -> ArgumentParser:
        """A parser of all of its commands, which prints their list."""
        parser = PlainParser(prog=f"prithvi-tg {self.name}", description=self.description, epilog=self.epilog)
        found = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
        for word, one in self.commands.items():
            one.add_options(found.add_parser(word, help=one.summary, description=one.description))
        return parser

    def select(self, words: list[str]) -> tuple[Command, list[str]]:
        """The command that the first word names, and the words after it; itself for help or an unknown word."""
        return (self.commands[words[0]], words[1:]) if words and words[0] in self.commands else (self, words)

    def check(self, words: list[str]) -> None:
        """Exit with a message: none of its commands is named."""
        known = ", ".join(self.commands)
        if not words or words[0].startswith("-"):
            fail(f"{self.name}: give one of its commands, {known}")
        fail(f"{self.name}: {unknown_command(words[0], self.commands)}; its commands are {known}")


class SweepCommand(Command):
    """A command that passes the options it does not know to ``fit``."""

    def check(self, words: list[str]) -> None:
        """Exit with a message if an option is known neither to it nor to ``fit``."""
        parser = self.parser()
        fit = COMMANDS["fit"].parser()
        refuse_unknown(words, option_names(parser) | option_names(fit), self.name)
        _, others = parser.parse_known_args(words)
        check_configurations(others)


class ConfiguredCommand(Command):
    """A command that reads the data of a configuration, and options of its own."""

    usage = "--config FILE [options]"
    files: tuple[str, ...] = ("data.root", "data.splits")

    def parser(self) -> ConfiguredParser:
        """A parser of its own options, which prints its help."""
        parser = ConfiguredParser(
            prog=f"prithvi-tg {self.name}",
            usage=f"prithvi-tg {self.name} {self.usage}",
            description=self.description,
        )
        for title in GROUPS:
            group_of(parser, title)
        self.add_options(parser)
        self.describe(parser)
        return parser

    def describe(self, parser: ConfiguredParser) -> None:
        """Describe the options that it has from elsewhere."""
        describe_data(parser)

    def check(self, words: list[str]) -> None:
        """Exit with a message if the words have a wrong option or name a file that is missing."""
        parser = self.parser()
        refuse_unknown(words, option_names(parser), self.name)
        check_configurations(words)
        if not any(name.endswith((".help", "--print_config")) for name in names_in(words)):
            self.check_settings(parser.parse_own(words), words)
            check_files(words, self.files)

    def run(self, words: list[str]) -> int:
        """Run the command; returns the exit code."""
        return super().run(configurations_first(words))

    def check_settings(self, settings: Any, words: list[str]) -> None:
        """Exit with a message if a required setting is not given.

        Args:
            settings: Values of the options of its own.
            words: The words of the command line.
        """


class CheckCommand(ConfiguredCommand):
    """A command that lists what is wrong, missing files included."""

    files = ()


class CheckpointCommand(ConfiguredCommand):
    """A command that reads the data of a configuration and needs a checkpoint."""

    usage = "--config FILE --ckpt_path FILE [options]"

    def describe(self, parser: ConfiguredParser) -> None:
        """Describe the options that it has from elsewhere."""
        super().describe(parser)
        set_help(parser, "ckpt_path", "A checkpoint of this package.")

    def check_settings(self, settings: Any, words: list[str]) -> None:
        """Exit with a message if no configuration is given, or the checkpoint is missing."""
        if not is_configured(words):
            fail("data: not given; name a configuration with a data: section, --config FILE")
        require_checkpoint(next(values_of(("--ckpt_path",), words), None), self.name)


class LightningCommand(ConfiguredCommand):
    """A command that Lightning runs."""

    @property
    def method(self) -> str:
        """The method of Lightning's trainer that runs it."""
        return self.name

    def describe(self, parser: ConfiguredParser) -> None:
        """Describe the options of Lightning."""
        describe_lightning(parser, self.method)

    def check_settings(self, settings: Any, words: list[str]) -> None:
        """Exit with a message if neither configuration nor classes are given, or a checkpoint is missing."""
        for path in values_of(("--model",), words):
            if path.lower().endswith(WEIGHTS):
                fail(
                    f"--model: {path} is a file of weights, but {self.name} needs the class of a task or a "
                    "configuration, --config FILE; give weights with --ckpt_path, or start from them with "
                    "--model.weights"
                )
        if not is_configured(words):
            fail("data, model: not given; give a configuration, --config FILE")
        require_checkpoint_of(words, self.method)
        if self.method == "fit":
            check_files(words, ("model.weights",))

    def run(self, words: list[str]) -> int:
        """Run the command; returns the exit code."""
        if "--trainer.help" in names_in(words):
            import_module(f"{_PACKAGE}.cli.lightning_parser").print_trainer_help(self.name)
        else:
            module = import_module(f"{_PACKAGE}.{self.module}")
            module.run_command([self.method, *configurations_first(words)])
        return 0


class PretrainCommand(LightningCommand):
    """A training without labels."""

    @property
    def method(self) -> str:
        """The method of Lightning's trainer that runs it."""
        return "fit"


class PredictCommand(LightningCommand):
    """A command that needs scenes, and no configuration."""

    usage = "--ckpt_path FILE SCENE [SCENE ...] [options]"
    files = ()

    def check(self, words: list[str]) -> None:
        """Exit with a message if the words have a wrong option or name a file that is missing."""
        super().check(with_members(exported_as_checkpoint(words, WEIGHTS)))

    def run(self, words: list[str]) -> int:
        """Run the command; returns the exit code."""
        return super().run(with_members(exported_as_checkpoint(words, WEIGHTS)))

    def check_settings(self, settings: Any, words: list[str]) -> None:
        """Exit with a message if there are no scenes, or a checkpoint is missing."""
        paths = paths_of(next(values_of(("--ckpt_path",), words), None))
        if not is_configured(words):
            require_scenes(settings.scenes, input_taken_as_value(self.parser(), words))
            require_checkpoint(next(iter(paths), None), self.name)
        for path in paths:
            check_checkpoint(path)
        check_scenes(settings.scenes)


_LIGHTNING = "cli.lightning"
#: Name -> command, in the order of ``prithvi-tg --help``.
COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        LightningCommand(
            "fit", "train a model:  prithvi-tg fit --config configs/sen1floods11.yaml",
            "Train a model and write last.ckpt and best.ckpt.", add_run_options, _LIGHTNING,
        ),
        PretrainCommand(
            "pretrain", "pre-train an encoder without labels:  prithvi-tg pretrain --config configs/pretrain.yaml",
            "Pre-train an encoder of Prithvi by masked autoencoding, on scenes or chips without labels. fit accepts "
            "its last.ckpt and best.ckpt as weights: --model.weights best.ckpt.", add_run_options, "cli.pretraining",
        ),
        LightningCommand(
            "validate", "score a checkpoint on the validation set",
            "Score a checkpoint on the validation set.", add_run_options, _LIGHTNING,
        ),
        LightningCommand(
            "test", "score a checkpoint on the test set:  prithvi-tg test --config X.yaml --ckpt_path best.ckpt",
            "Score a checkpoint on the test set.", add_run_options, _LIGHTNING,
        ),
        CheckpointCommand(
            "calibrate",
            "fit the temperature of a checkpoint:  prithvi-tg calibrate --config X.yaml --ckpt_path best.ckpt",
            "Fit one temperature for the logits of a model to the validation set, so that its confidences match the "
            "share of correct pixels, and write a copy of the checkpoint that contains it, for predict --calibrated.",
            add_calibrate_options, "commands.calibrate",
        ),
        PredictCommand(
            "predict", "map scenes:  prithvi-tg predict --ckpt_path best.ckpt SCENE.tif [...]",
            "Map scenes: write NAME_pred.tif for each scene. With a checkpoint of this package, omit --config.",
            add_predict_options, _LIGHTNING,
        ),
        Command(
            "search",
            "list STAC items to map:  prithvi-tg search --api URL --collection ID --aoi AREA ... --output items.json",
            "Search a STAC API for the items of an area and some dates, and write them to a file that predict "
            "reads as scenes.",
            add_search_options, "commands.search",
        ),
        Command(
            "embed",
            "write encoder features of a scene:  prithvi-tg embed SCENE.tif --output emb.tif --ckpt_path best.ckpt",
            "Write an encoder's features for a scene as a GeoTIFF with one band per feature. A pixel covers one "
            "patch of a ViT, or one stride of a stage of another encoder.",
            add_embed_options, "commands.embed",
        ),
        CheckCommand(
            "check", "check data, weights and configuration before training:  prithvi-tg check --config X.yaml",
            "Check every chip or window, the weights and the configuration of a run before training.",
            add_no_options, "commands.check",
        ),
        Command(
            "report",
            "write an HTML page that compares runs:  prithvi-tg report runs/version_0 --maps maps/SCENE_pred.tif",
            "Write one HTML page about one run, or several side by side: scores with intervals, curves, "
            "confusion matrices, best and worst chips, and maps with pan and zoom. The page is self-contained.",
            add_report_options, "commands.report",
        ),
        ConfiguredCommand(
            "stats",
            "compute band statistics and class weights of the training set:  prithvi-tg stats --config X.yaml",
            "Print band means and standard deviations, class frequencies and balanced class weights of a "
            "training set, as YAML.",
            add_no_options, "commands.stats",
        ),
        ConfiguredCommand(
            "chips", "cut labelled scenes into chips:  prithvi-tg chips data/chips --config configs/scenes.yaml",
            "Cut labelled scenes into chips: write the windows that the samplers of a configuration draw, and the "
            "lists of splits.",
            add_chip_options, "commands.chips",
        ),
        CommandGroup(
            "area", "estimate areas with intervals from a sample:  prithvi-tg area sample --help",
            "Estimate the areas of classes from a sample of pixels with reference labels: draw points, label them in "
            "a GIS, estimate areas and accuracies with 95 % intervals.",
            add_no_options, "",
            "prithvi-tg area COMMAND --help lists the options of a command.",
        ),
        Command(
            "export", "write a model for other software:  prithvi-tg export best.ckpt MODEL.pt2",
            "Write the model of a checkpoint as a program of torch.export or as ONNX, or its weights as safetensors "
            "with the published parameter names. A STAC item that describes the file is written beside it.",
            add_export_options, "commands.export",
        ),
        Command(
            "push", "upload a model to the Hugging Face hub:  prithvi-tg push best.ckpt OWNER/REPOSITORY",
            "Upload the weights of a checkpoint, their description and a model card to a repository of the Hugging "
            "Face hub. hf://OWNER/REPOSITORY is then accepted wherever a checkpoint is.",
            add_push_options, "commands.push",
        ),
        SweepCommand(
            "sweep", "search over configuration keys:  prithvi-tg sweep space.yaml --config X.yaml",
            "Search over configuration keys with Optuna: train one model per trial and report the best. "
            "To add trials, repeat the command with the same --output, or run it in several processes at once.",
            add_sweep_options, "commands.sweep",
            "SPACE.yaml has one line per key: 'model.lr: {low: 1.0e-6, high: 1.0e-3, log: true}', "
            "'data.batch_size: {low: 2, high: 8, step: 2}', 'model.decoder: [conv_transpose, unet, linear]'. "
            "All other arguments are passed to prithvi-tg fit.",
        ),
        Command(
            "synthetic", "write a small synthetic dataset:  prithvi-tg synthetic data/demo",
            "Write synthetic chips in the layout of a published dataset, and a larger scene to map.",
            add_synthetic_options, "commands.synthetic",
        ),
        Command(
            "demo", "train, test, map and report on synthetic data, in minutes:  prithvi-tg demo",
            "Run synthetic, fit, test, predict and report, one after another, and print each command: a small "
            "model of floods, trained from scratch on the CPU. The output folder holds data/, demo.yaml, runs/, "
            "maps/ and report.html.",
            add_demo_options, "commands.demo",
        ),
    )
}  # fmt: skip

#: Name of a group -> word after it -> command.
GROUPED: dict[str, dict[str, Command]] = {
    "area": {
        "sample": Command(
            "area sample",
            "draw a stratified random sample of pixels:  area sample MAP --output points.gpkg --points 500",
            "Draw a stratified random sample of the pixels of maps, as points to be labelled in a GIS or another tool. "
            "Strata are the classes of the map, optionally with a buffer of boundary pixels, or divided by confidence.",
            add_sample_options, "commands.area_sample",
        ),
        "estimate": Command(
            "area estimate",
            "estimate areas and accuracies from labelled points:  area estimate points.gpkg",
            "Print the error matrix in shares of area, user's, producer's and overall accuracy, and the area of each "
            "class, with 95 % intervals.",
            add_estimate_options, "commands.area_estimate",
        ),
        "change": Command(
            "area change",
            "compare two maps by mapped area:  area change A.tif B.tif --output change.tif",
            "Print the mapped area of each transition between the classes of two maps with the same pixels.",
            add_change_options, "commands.area_change",
        ),
    }
}  # fmt: skip

_LINES = "\n".join(f"  {command.name:<11} {command.summary}" for command in COMMANDS.values())
#: Answer to ``prithvi-tg --help``.
USAGE = f"""\
usage: prithvi-tg COMMAND [options]

Fine-tune Prithvi and other geospatial foundation models, and turn satellite scenes into maps.

commands:
{_LINES}

prithvi-tg COMMAND --help lists the options of a command; prithvi-tg --version prints the version.
To list the keys of a configuration: prithvi-tg fit --model.help PrithviSegmentationTask and
prithvi-tg fit --data.help Sen1Floods11DataModule.
"""
