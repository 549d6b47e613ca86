"""Commands that take a configuration, and those of them that Lightning runs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..compat import set_help
from .command import Command
from .options.configured import GROUPS, describe_data, describe_lightning
from .parsers import ConfiguredParser, fail, group_of, input_taken_as_value, option_names
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
    with_classes_of_help,
    with_members,
)
from .spelling import configurations_first, exported_as_checkpoint, names_in
from .unknown_options import refuse_unknown

_PACKAGE = __name__.partition(".")[0]


class ConfiguredCommand(Command):
    """A command that reads the data of a configuration, and options of its own."""

    usage: str = "--config FILE [options]"
    files: tuple[str, ...] = ("data.root", "data.splits")
    #: Section -> the class whose keys ``--model.help`` or ``--data.help`` lists if no other is given.
    classes: Mapping[str, str] = {}

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
        return super().run(with_classes_of_help(configurations_first(words), self.classes))

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
        set_help(parser, "ckpt_path", "A checkpoint of this package.", "FILE")

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
            words = with_classes_of_help(configurations_first(words), self.classes)
            module.run_command([self.method, *words])
        return 0


class PretrainCommand(LightningCommand):
    """A training without labels."""

    classes = {"model": "PrithviPretrainingTask"}

    @property
    def method(self) -> str:
        """The method of Lightning's trainer that runs it."""
        return "fit"


class ScoringCommand(LightningCommand):
    """A command that scores a checkpoint."""

    usage = "--config FILE --ckpt_path FILE [options]"


class ChipsCommand(ConfiguredCommand):
    """A command that writes the chips of a configuration to a folder."""

    usage = "FOLDER --config FILE [options]"


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
