"""jsonargparse's messages, brought to one line that names the key, the value and what would be right."""

import inspect
import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any


def one_line(message: str, classes: Iterable[type[Any]]) -> str:
    """One line from a message of jsonargparse, which may be a page of ``Union``.

    Args:
        message: The message.
        classes: Classes whose names and arguments are suggested for misspelt ones.
    """
    classes = list(classes)
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = keys[-1] if keys else "configuration"
    unknown = re.search(r"(?:Option '([^']+)' is not accepted|does not accept option '([^']+)')", message)
    if unknown:
        option = unknown.group(1) or unknown.group(2)
        arguments = {name for owner in classes for name in inspect.signature(owner).parameters}
        sections = {"model", "data", "trainer", "seed_everything", "ckpt_path"}
        *parents, last = option.split(".")
        if last in arguments and (not parents or parents[0] in sections):
            owners = [owner.__name__ for owner in classes if last in inspect.signature(owner).parameters]
            return f"{option}: not accepted here; it is a key of {', '.join(owners)}"
        return f"{option}: unknown key{_suggestion(option, arguments, sections)}"
    missing = re.search(r"Expected a dot import path string: (\S+)|has no attribute '(\w+)'", message)
    if missing:
        name = missing.group(1) or missing.group(2)
        return (
            f"{key}: unknown class {name!r}{_suggestion(name, {owner.__name__ for owner in classes}, set())}"
        )
    absent = re.search(r"No module named '([\w.]+)'", message)
    if absent:
        return f"{key}: no module named {absent.group(1)!r}; put its folder on PYTHONPATH, or install it"
    kinds = re.findall(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\])", message)
    given = re.search(r"(?:Got value|Given value): (.*)", message)
    if kinds and given and not given.group(1).startswith(("{", "Namespace")):
        wanted = [literal or name for name, literal in kinds if name != "NoneType"]
        return f"{key}: {given.group(1)} is not {' or '.join(dict.fromkeys(wanted))}"
    lines = [line.strip(" -") for line in message.splitlines()]
    noise = ("Subtypes:", "Given value", "Errors:", "Does not validate", "Expected a <class 'NoneType'>")
    return " ".join(line for line in lines if line and not line.startswith(noise))[:400]


def _suggestion(word: str, arguments: set[str], sections: set[str]) -> str:
    *parents, last = word.split(".")
    if parents and sections and parents[0] not in sections:
        return _closest(parents[0], sections) or f"; known are {', '.join(sorted(sections))}"
    return _closest(last, arguments)


def _closest(word: str, known: set[str]) -> str:
    """The nearest of the known words, or those that are equally near."""
    likeness = {name: SequenceMatcher(None, word, name).ratio() for name in known - {word}}
    best = max(likeness.values(), default=0.0)
    nearest = sorted(name for name, ratio in likeness.items() if ratio == best)
    return f"; did you mean {' or '.join(nearest)}?" if best >= 0.6 else ""
