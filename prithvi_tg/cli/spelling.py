"""How options are spelt: with underscores or hyphens, never abbreviated."""

import itertools
import re
from collections.abc import Iterable, Sequence

from .errors import closest

#: An option: its name, the key of a section, and the rest.
_OPTION = re.compile(r"--(\w[\w-]*)((?:\.(?:init_args\.)?[\w-]+)?)(.*)", re.DOTALL)

#: Commands of other libraries -> ours.
_OTHER_COMMANDS = {
    "train": "fit",
    "finetune": "fit",
    "evaluate": "test",
    "eval": "test",
    "infer": "predict",
    "inference": "predict",
    "map": "predict",
    "tile": "chips",
}

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
#: Numbers joined by commas, the first negative: a parser takes them for an option.
_NEGATIVE = re.compile(r"-[.\d][-+.\deE]*(,[-+.\deE]+)+")


def with_underscores(words: Sequence[str]) -> list[str]:
    """Words of a command line whose options have underscores: ``--skip-bad`` becomes ``--skip_bad``."""
    found: list[str] = []
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        match = _OPTION.fullmatch(word)
        if match:
            name, key, rest = match.groups()
            word = f"--{name.replace('-', '_')}{key.replace('-', '_')}{rest}"
        found.append(word)
    return found


def with_boxes_joined(words: Sequence[str]) -> list[str]:
    """Words of a command line in which ``--aoi -97,30,-96,31`` is one word, ``--aoi=-97,30,-96,31``.

    Up to four numbers after ``--aoi``, separated by spaces, are a box, too.
    """
    found: list[str] = []
    count = 0  # of the numbers after --aoi
    for word in words:
        count = count + 1 if _NUMBER.fullmatch(word) and (count or found[-1:] == ["--aoi"]) else 0
        if count:
            found[-1] += f"{',' if count > 1 else '='}{word}"
            count %= 4
        elif found and _NEGATIVE.fullmatch(word) and re.fullmatch(r"--\w+", found[-1]):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def configurations_first(words: Sequence[str]) -> list[str]:
    """Words of a command line with all configurations first, so that options apply over them wherever they are."""
    end = words.index("--") if "--" in words else len(words)
    first: list[str] = []
    others: list[str] = []
    rest = iter(words[:end])
    for word in rest:
        if word in ("--config", "-c"):
            first += [word, *itertools.islice(rest, 1)]
        else:
            (first if word.startswith("--config=") else others).append(word)
    return [*first, *others, *words[end:]]


def exported_as_checkpoint(words: Sequence[str], endings: tuple[str, ...]) -> list[str]:
    """Words of a command line with an exported model, such as ``--model MODEL.pt2``, as ``--ckpt_path``.

    ``--model`` with any other value is the task of a configuration.

    Args:
        words: The words.
        endings: Endings of files of weights.
    """
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--model" and word.lower().endswith(endings):
            found[-1] = f"--ckpt_path={word}"
        elif word.startswith("--model=") and word.lower().endswith(endings):
            found.append(f"--ckpt_path={word.removeprefix('--model=')}")
        else:
            found.append(word)
    return found


def names_in(words: Iterable[str]) -> list[str]:
    """The options among the words of a command line, without values."""
    found = []
    for word in words:
        if word == "--":
            break
        if word.startswith("--"):
            found.append(word.partition("=")[0])
    return found


def unknown_option(name: str, known: Iterable[str], command: str) -> str:
    """Message about an option that a command does not have.

    Args:
        name: The option, with its hyphens.
        known: All options of the command.
        command: Name of the command.
    """
    candidates = {option for option in known if option.startswith("--")}
    full = sorted(option for option in candidates if option.startswith(name))
    if full:
        return f"{name}: options are not abbreviated; write {' or '.join(full)}"
    hint = closest(name, candidates) or f"; prithvi-tg {command} --help lists the options"
    return f"{name}: unknown option{hint}"


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command line asks for the help of its command."""
    before = words[: words.index("--")] if "--" in words else words
    return "--help" in before or "-h" in before


def unknown_command(name: str, known: Iterable[str]) -> str:
    """Message about a command that does not exist."""
    meant = _OTHER_COMMANDS.get(name.lower())
    hint = f"; did you mean {meant}?" if meant else closest(name, {*known})
    return f"unknown command {name!r}{hint or '; see prithvi-tg --help'}"
