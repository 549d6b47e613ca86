"""The table of commands: what each is for, its options, and the module that runs it."""

from argparse import ArgumentParser

from .command import Command
from .configured_commands import (
    CheckCommand,
    CheckpointCommand,
    ChipsCommand,
    ConfiguredCommand,
    LightningCommand,
    PredictCommand,
    PretrainCommand,
    ScoringCommand,
)
from .options.area import add_change_options, add_estimate_options, add_sample_options
from .options.configured import (
    add_calibrate_options,
    add_chip_options,
    add_no_options,
    add_pretrain_options,
    add_run_options,
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
from .parsers import PlainParser, fail, option_names
from .settings import check_configurations
from .spelling import unknown_command
from .unknown_options import refuse_unknown


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
            "its last.ckpt and best.ckpt as weights: --model.weights best.ckpt.", add_pretrain_options,
            "cli.pretraining",
        ),
        ScoringCommand(
            "validate", "score a checkpoint on the validation set",
            "Score a checkpoint on the validation set.", add_run_options, _LIGHTNING,
        ),
        ScoringCommand(
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
        ChipsCommand(
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
            "Write the model of a checkpoint as .pt2 (torch.export) or ONNX, or its weights as safetensors "
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
