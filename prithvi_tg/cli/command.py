"""Command: one of the program's commands, with its options and the module that runs it."""

from argparse import ArgumentParser
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .parsers import PlainParser, option_names
from .settings import check_checkpoint, check_scenes, is_configured
from .spelling import names_in
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
