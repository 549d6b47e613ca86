"""Parsers that print short help and errors of one line, and that import neither PyTorch nor Lightning."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from ..choices import Auto
from ..compat import actions_of
from .errors import of_argument, one_line, with_dashes


class ShortHelp(argparse.HelpFormatter):
    """Help with room for the descriptions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"max_help_position": 28})


def _show_defaults(parser: argparse.ArgumentParser) -> None:
    """Add those defaults to the help that a reader cannot guess: numbers and names."""
    for action in actions_of(parser):
        default, text = action.default, action.help or ""
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        named = isinstance(default, str) and default != "" and argparse.SUPPRESS not in (default, text)
        if action.option_strings and (numeric or named) and "%(default)" not in text:
            action.help = f"{text} (default: %(default)s)"


class PlainParser(argparse.ArgumentParser):
    """Parser of a command that takes no configuration.

    Attributes:
        find_conflict: Returns what is wrong with options that are right one by one; ``None`` if nothing is.
    """

    find_conflict: Callable[[argparse.Namespace], str | None] | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=ShortHelp, allow_abbrev=False, **kwargs)
        self._words: Sequence[str] = ()

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options, and check that they fit together."""
        self._words = args[0] if args else sys.argv[1:]
        options = super().parse_args(*args, **kwargs)
        conflict = None if self.find_conflict is None else self.find_conflict(options)
        if conflict is not None:
            self.error(conflict)
        return options

    def format_help(self) -> str:
        """The help, with defaults."""
        _show_defaults(self)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Print the error in one line, and exit with 2."""
        text = _of_unexpected(message, self)
        fail(of_argument(text) + input_taken_as_value(self, self._words, message))


class ConfiguredParser(jsonargparse.ArgumentParser):
    """Parser of the own options of a command that takes a configuration.

    Of all other options it knows the names, for the help. `PrithviArgumentParser` parses them.

    Attributes:
        described: Options that are only described.
        flags: Those of them without a value.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=ShortHelp, add_help=False, allow_abbrev=False, **kwargs)
        self.described: set[str] = set()
        self.flags: set[str] = set()
        self._words: Sequence[str] = ()
        self.add_argument(UNPARSED, type=str, nargs="?", help=argparse.SUPPRESS)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, with defaults."""
        _show_defaults(self)
        return str(super().format_help(*args, **kwargs))

    def describe(
        self, title: str, *names: str, metavar: str | None = None, text: str = argparse.SUPPRESS
    ) -> None:
        """Describe an option that another parser parses.

        Args:
            title: Title of its group.
            *names: Its names.
            metavar: What its value is; `None` for a flag.
            text: Its description; it is hidden by default.
        """
        group = group_of(self, title)
        if metavar is None:
            group.add_argument(*names, action="store_true", help=text)
            self.flags.update(names)
        else:
            group.add_argument(*names, metavar=metavar, help=text)
        self.described.update(names)

    def parse_own(self, words: Sequence[str]) -> Any:
        """Values of the options that are not only described."""
        self._words = words
        return self.parse_args([one for word in words for one in self._own(word)])

    def _own(self, word: str) -> list[str]:
        name, assigned, value = word.partition("=")
        if name in self.flags:
            return []
        if (
            word.startswith("--")
            and len(word) > 2
            and (name in self.described or name not in option_names(self))
        ):
            return [f"{UNPARSED}{assigned}{value}"]
        return [UNPARSED] if name == "-c" else [word]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error in one line, and exit with 2."""
        text = with_dashes(_of_unexpected(one_line(message, ()), self), option_names(self))
        fail(text + input_taken_as_value(self, self._words, text))


#: Stands for every option that `ConfiguredParser` does not parse.
UNPARSED = "--unparsed"


def group_of(parser: Any, title: str) -> Any:
    """The group of a jsonargparse parser with a title, which is added if there is none."""
    return (parser.groups or {}).get(title) or parser.add_argument_group(title, name=title)


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser."""
    return {name for action in actions_of(parser) for name in action.option_strings} - {UNPARSED}


def _of_unexpected(message: str, parser: argparse.ArgumentParser) -> str:
    """A message about words that are no options, with what the command takes instead; other messages as they are."""
    found = re.fullmatch("unrecognized arguments: (.+)", message)
    if found is None:
        return message
    inputs = [action for action in actions_of(parser) if not action.option_strings]
    names = [str(action.metavar or action.dest) for action in inputs]
    if several := [name for name, action in zip(names, inputs, strict=True) if action.nargs in ("*", "+")]:
        return f"{found[1]}: not accepted here; give all {several[0]} together, before the options"
    command = parser.prog.removeprefix("prithvi-tg ")
    if not names:
        example = ", such as --config FILE" if "--config" in option_names(parser) else ""
        return f"{found[1]}: not accepted; {command} takes options only{example}"
    return f"{found[1]}: not accepted; {command} takes one {' and one '.join(names)}; repeat the command for others"


def input_taken_as_value(parser: argparse.ArgumentParser, words: Sequence[str], message: str = "") -> str:
    """Advice, after a semicolon, about an input that was read as a value of an option; empty if there is none.

    Args:
        parser: Parser of the options.
        words: The words of a command line.
        message: The error; by default, one about a lacking input.
    """
    taken = _taken_as_value(parser, words)
    if taken is None or (
        message and "are required" not in message and not all(part in message for part in taken)
    ):
        return ""
    option, value = taken
    return f"; {value} was read as a value of {option}: give it before the options, or write -- before it"


def _taken_as_value(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[str, str] | None:
    """The last option that takes several values of which one looks like an input, and this value."""
    several = {
        name: action for action in actions_of(parser) if action.nargs in ("+", "*") for name in action.option_strings
    }  # fmt: skip
    found: tuple[str, str] | None = None
    option, values = "", list[str]()
    for word in [*words, "--"]:
        if not word.startswith("--"):
            values.append(word)
            continue
        own = 1 if option in several and several[option].dest in _OF_FILES else 0
        inputs = filter(_is_input, values[own:] if option in several else ())
        found = next(((option, value) for value in inputs), found)
        if word == "--":
            break
        option, values = word, []
    return found


#: Options whose values are files.
_OF_FILES = ("quality", "maps", "scenes", "areas", "output")
_INPUT_SUFFIXES = (
    ".tif", ".tiff", ".vrt", ".img", ".jp2", ".nc", ".h5", ".hdf", ".zarr", ".safe", ".json", ".geojson", ".parquet",
    ".gpkg", ".ckpt", ".pt2", ".yaml",
)  # fmt: skip


def _is_input(word: str) -> bool:
    return "://" in word or Path(word).exists() or Path(word).suffix.lower() in _INPUT_SUFFIXES


def number_or_auto(word: str) -> int | Auto:
    """Type of an option that is a number or ``auto``."""
    return "auto" if word == "auto" else int(word)


def fail(message: str) -> NoReturn:
    """Print an error of the command line, and exit with 2."""
    sys.stderr.write(f"prithvi-tg: error: {message}\n")
    sys.exit(2)
