"""The parser of each command, and descriptions of its arguments in Markdown."""

import argparse
import re
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin
from unittest import mock

from prithvi_tg.__main__ import main

#: Options that other libraries document.
_LIGHTNING = ("--trainer", "--return_predictions", "--weights_only", "--verbose", "--print_shtab")
#: Destinations of options that choose the configuration.
_CONFIGURATION = (
    "config", "print_config", "seed_everything", "model", "model.help", "data", "data.help", "trainer",
    "published_result",
)  # fmt: skip
_TYPE = re.compile(r"\s*\((?:required, )?(?:type|default): .*\)$", re.DOTALL)


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that prints the help of a command."""
    found: list[argparse.ArgumentParser] = []
    printed = mock.patch.object(
        argparse.ArgumentParser, "print_help", lambda self, file=None: found.append(self)
    )
    with printed, suppress(SystemExit):
        main([*command.split(), "--help"])
    return found[0]


def described_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser that are ours: positional ones, options, and what every configured command has."""
    ours = [
        action
        for action in parser._actions
        if not any(option.startswith(_LIGHTNING) for option in action.option_strings)
        and action.dest != "help"
        and action.help != argparse.SUPPRESS
        and type(action).__name__ != "ActionLink"
    ]

    def rank(action: argparse.Action) -> int:
        return 2 if action.dest in _CONFIGURATION else 1 if action.option_strings else 0

    return sorted(ours, key=rank)


def choices(typehint: Any) -> list[str]:
    """The words that an argument accepts, if it accepts only some."""
    if get_origin(typehint) is Literal:
        return [str(word) for word in get_args(typehint)]
    found = [choices(part) for part in get_args(typehint) if part is not type(None)]
    return [word for words in found for word in words] if all(found) else []


def text_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Description of an argument in Markdown, without its type."""
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    text = " ".join(_TYPE.sub("", text).split())
    pieces = re.split(r"(`+[^`]*`+)", text)
    escaped = [piece if piece.startswith("`") else re.sub(r"([*_<\[])", r"\\\1", piece) for piece in pieces]
    text = "".join(escaped)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ")")) or not text else ".")


def invocation(action: argparse.Action) -> str:
    """An argument as it is written: ``--blending {average,hann,crop}``."""
    words = [str(word) for word in action.choices or ()] or choices(getattr(action, "_typehint", None))
    named = action.metavar if isinstance(action.metavar, str) else action.dest.rpartition(".")[2].upper()
    named = named.encode("ascii", "ignore").decode()  # jsonargparse marks some with a character of no width
    value = "{" + ",".join(words) + "}" if words else named
    if not action.option_strings:
        return value if isinstance(action.metavar, str) else action.dest
    value = "" if action.nargs == 0 else f" {value}"
    return ", ".join(option + value for option in action.option_strings)


def default_of(action: argparse.Action) -> str:
    """Default of an argument, empty where it says nothing."""
    unset = action.default in (None, False, argparse.SUPPRESS, "") or action.default in ([], ())
    said = "(default: " in (action.help or "") and not hasattr(action, "_typehint")
    if action.required or unset or said:
        return ""
    value = action.default
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(one) for one in value) + "]"
    return str(value)
