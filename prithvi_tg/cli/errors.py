"""Messages of jsonargparse, shortened to one line with the key, the value and the accepted values."""

import inspect
import re
import sys
import traceback
from ast import literal_eval
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher
from typing import Any

from ..errors import listed

#: Names of other libraries -> ours.
_SYNONYMS = {
    "learning_rate": "lr",
    "lora": "lora_rank",
    "epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "backbone": "encoder",
    "head": "decoder",
    "checkpoint": "weights",
    "image_size": "window",
    "patch_size": "window",
    "means": "mean",
    "stds": "std",
    "class_names": "classes",
    "ignore_index": "ignored_labels",
    "data_root": "root",
    "transforms": "augmentations",
}
#: Keys of chips and of scenes with the same purpose.
_COUNTERPARTS = {
    "crop_size": "window",
    "window": "crop_size",
    "crops_per_chip": "windows_per_epoch",
    "windows_per_epoch": "crops_per_chip",
    "root": "images",
}
#: Types -> what a value has to be.
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
}
_PACKAGE = __name__.partition(".")[0]
#: Sections of a configuration, which are options, too.
_SECTIONS = ("--model", "--data", "--trainer")


def unwrapped(error: BaseException) -> BaseException:
    """The original error of a class that jsonargparse instantiated."""
    while error.__cause__ is not None and _raised_in(error).startswith("jsonargparse"):
        error = error.__cause__
    return error


def _raised_in(error: BaseException) -> str:
    """The module whose line raised an error."""
    name = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
    return name


def one_line(message: str, classes: Iterable[type[Any]]) -> str:
    """Shorten a message of jsonargparse, such as the many lines for a ``Union``, to one line.

    Args:
        message: The message.
        classes: Classes whose names and arguments are suggestions for misspelt ones.
    """
    # The classes in the configuration come first: others may have a key of the same name.
    paths = re.findall(r"given class_path '([\w.]+)'", message)
    chosen = {path.rpartition(".")[2] for path in paths}
    classes = sorted({*classes, *_loaded(paths)}, key=lambda one: (one.__name__ not in chosen, one.__name__))
    if rewritten := _rewritten(message, classes):
        return rewritten
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = keys[-1] if keys else "configuration"
    if number := re.search(r"invalid literal for int\(\) with base 10: (.+)", message):
        return f"{key}: {number.group(1)} is not a whole number"
    if option := _unknown_key(message):
        return _unknown(option, classes, chosen)
    of_module = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if of_module and not of_module.group(1).startswith(_PACKAGE):
        module, name = of_module.groups()
        return (
            f"{key}: module {module!r} has no class {name!r}{closest(name, {*vars(sys.modules.get(module))})}"
        )
    missing = re.search(r"Expected a dot import path string: (\S+)|has no attribute '(\w+)'", message)
    if missing:
        name = missing.group(1) or missing.group(2)
        names = {owner.__name__ for owner in classes}
        accepted = re.search(r"Subtypes: \[<class '([\w.]+)'>", message)
        if name in names and accepted:
            return f"{key}: {name} is not a {accepted.group(1).rpartition('.')[2]}"
        close = _suggestion(name, names, set()) or f"; choose from {', '.join(sorted(names))}"
        return f"{key}: unknown class {name!r}{close}"
    wanted_type = re.search(
        r"path corresponding to a type\[([\w.]+)\]\. Got value: (\S+)", message
    ) or re.search(
        r"<class '([\w.]+)'>, <class 'NoneType'>\][\s\S]*not correspond to a subclass of [\s\S]*Given value: (\S+)",
        message,
    )
    if wanted_type:
        path, name = wanted_type.groups()
        base = path.rpartition(".")[2]
        path = re.sub(r"\.chips\..*", f".{base}", path) if path.startswith(_PACKAGE) else path
        return f"{key}: {name} is not a {base}; derive it from {path}"
    absent = re.search(r"No module named '([\w.]+)'", message)
    if absent:
        return f"{key}: no module named {absent.group(1)!r}; put its folder on PYTHONPATH, or install it"
    sequence = re.search(
        r"Expected an? <class 'collections\.abc\.Sequence'>.*Got value: ([^\[\n]+)$", message, re.MULTILINE
    )
    if sequence:
        return f"{key}: {sequence.group(1)} is not a list; write '[{sequence.group(1)}]'"
    kinds = re.findall(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\])", message)
    given = re.search(r"(?:Got value|Given value): (.*)", message)
    wanted = [literal or name for name, literal in kinds if name != "NoneType"]
    scalar = {*wanted} <= {*_KINDS}
    if wanted and given and not given.group(1).startswith("Namespace" if scalar else ("{", "Namespace")):
        named = [_KINDS.get(name, name) for name in wanted]
        value = given.group(1) or "nothing"
        if choices := re.findall(r"'([^']+)'", " ".join(literal for _, literal in kinds)):
            return f"{key}: {value} must be {listed(choices, 'or')}{closest(value, {*choices})}"
        if nested := re.fullmatch(r"NestedArg\(key='(.*)', val=(.*)\)", value):
            value = f"{{{nested.group(1)}: {nested.group(2)}}}"
        return f"{key}: {value} is not {' or '.join(dict.fromkeys(named))}"
    lines = [line.strip(" -") for line in message.splitlines()]
    noise = ("Subtypes:", "Given value", "Errors:", "Does not validate", "Expected a <class 'NoneType'>")
    return " ".join(line for line in lines if line and not line.startswith(noise))[:400]


def _rewritten(message: str, classes: list[type[Any]]) -> str | None:
    """A message of a known form, in terms of a configuration."""
    if absent := re.search(r"File does not exist: '([^']+)'", message):
        return f"config: {absent.group(1)}: no such file"
    if spaces := re.search(r"Spaces not allowed in keys: (.+)\.$", message, re.MULTILINE):
        return (
            f"{spaces.group(1)}: unknown key; keys have no spaces. Of the output of stats, only mean, std and "
            "class_weights are keys"
        )
    if path := re.search(r"unrecognized arguments: (\S+\.ya?ml)$", message):
        return f"{path.group(1)}: not accepted here; give a configuration with --config {path.group(1)}"
    if lacking := re.search(r"arguments are required: (.+)", message):
        names = [name.strip().rpartition(".")[2] for name in lacking.group(1).split(",")]
        if {"model", "data"} & {*names}:
            return f"{', '.join(sorted(names))}: not given; give a configuration, --config FILE"
        return "; ".join(f"{name}: not given{_described(name, classes)}" for name in names)
    if count := re.search(
        r'key "([^"]+)":\s+Expected a tuple with (\d+) elements\. Got value: (.*)', message
    ):
        return f"{count.group(1)}: {count.group(3)} must have {count.group(2)} values"
    listed = re.search(r"key \"([^\"]+)\":\s+Expected a <class 'dict'>\. Got value: (\[.*\])", message)
    if listed:
        named = ", ".join(f"{number}: {name}" for number, name in enumerate(literal_eval(listed.group(2))))
        return f"{listed.group(1)}: {listed.group(2)} is a list; map each stored value to a name, {{{named}}}"
    return None


def _loaded(paths: Iterable[str]) -> list[type[Any]]:
    """Classes at class paths whose modules are imported."""
    modules = [(sys.modules.get(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in paths]
    found = [vars(module).get(name) for module, name in modules if module is not None]
    return [one for one in found if isinstance(one, type)]


def _unknown_key(message: str) -> str | None:
    """The key that a message calls unknown, of the configuration or of a class in it."""
    nested = re.search(r"^ *Given value: NestedArg\(key='([^']+)'", message, re.MULTILINE)
    if "Key must be a string" in message or "unrecognized arguments" in message:
        if nested:
            return nested.group(1).partition(".")[0]
        given = re.search(r"^ *Given value: (\{.*\})$", message, re.MULTILINE)
        arguments = literal_eval(given.group(1)).get("init_args", {}) if given else {}
        mappings = {key: value for key, value in arguments.items() if isinstance(value, dict)}
        return next(
            (key for key, value in mappings.items() if any(type(one) is not str for one in value)), None
        )
    unknown = re.search(r"(?:Option '([^']+)' is not accepted|does not accept option '([^']+)')", message)
    if unknown is None:
        return None
    option: str = unknown.group(1) or unknown.group(2)
    return option.partition(".")[0] if nested else option


def _unknown(option: str, classes: list[type[Any]], chosen: set[str]) -> str:
    """Message about an unknown key.

    Args:
        option: The key.
        classes: Classes whose arguments are suggestions.
        chosen: Names of the classes in the configuration.
    """
    arguments = {owner: _arguments(owner) for owner in classes}
    known = set().union(*arguments.values())
    own = set().union(*(names for owner, names in arguments.items() if owner.__name__ in chosen))
    sections = {"model", "data", "trainer", "seed_everything", "ckpt_path"}
    *parents, last = option.split(".")
    if last in known and (not parents or parents[0] in sections):
        owners = [owner.__name__ for owner, names in arguments.items() if last in names]
        counterpart = _COUNTERPARTS.get(last)
        if counterpart in own:
            return f"{option}: not accepted here; the key of {min(chosen)} is {counterpart}"
        number = {f"{last}s", last.removesuffix("s"), f"test_{last}"} - {
            last
        }  # in the plural, or in the singular
        close = " or ".join(sorted(number & own, reverse=True))
        hint = f"; did you mean {close}? {last} is" if close else "; it is"
        return f"{option}: not accepted here{hint} a key of {', '.join(owners)}{_passed_on(classes, chosen)}"
    if close := _suggestion(option, own, sections) or _suggestion(option, known, sections):
        meant = re.findall(r"(\w+)\?$", close)
        owners = [owner.__name__ for owner, names in arguments.items() if {*meant} & names]
        of_dataset = _of_dataset(option, classes, chosen)
        return f"{option}: unknown key{close}" + (
            f" It is a key of {owners[0]}{of_dataset}" if owners else ""
        )
    passed_on = _passed_on(classes, chosen) or _of_dataset(option, classes, chosen)
    return f"{option}: unknown key; prithvi-tg fit --model.help CLASS and --data.help CLASS list the keys{passed_on}"


def _passed_on(classes: list[type[Any]], chosen: set[str]) -> str:
    """Advice for classes of other packages, such as TorchGeo's data modules, with arguments that are not known."""
    for owner in classes:
        modules = {base.__module__.partition(".")[0] for base in inspect.getmro(owner)}
        kinds = {parameter.kind for parameter in inspect.signature(owner).parameters.values()}
        if owner.__name__ in chosen and _PACKAGE not in modules and inspect.Parameter.VAR_KEYWORD in kinds:
            return f"; keys that {owner.__name__} passes on go under dict_kwargs instead of init_args"
    return ""


def _of_dataset(option: str, classes: list[type[Any]], chosen: set[str]) -> str:
    """Advice for a data module that requires the class of its dataset, which may have arguments of its own."""
    section, _, key = option.rpartition(".")
    for owner in classes:
        dataset = inspect.signature(owner).parameters.get("dataset_class")
        if (
            owner.__name__ in chosen
            and dataset
            and dataset.default is dataset.empty
            and section in ("", "data")
        ):
            return f"; arguments of your dataset class go under dict_kwargs: --data.dict_kwargs.{key} VALUE"
    return ""


def _arguments(owner: type[Any]) -> set[str]:
    """Arguments of a class, and of its base classes, to which it may pass further ones."""
    return {name for base in inspect.getmro(owner)[:-1] for name in inspect.signature(base).parameters}


#: An argument of a call in a message, such as ``overwrite=True``, outside another call.
_ARGUMENT = re.compile(r"(?<![\w.(])(\w+)=(True\b|'[^']*'|\[[^\]]*\]|\{[^}]*\}|[-+\w.]+)")


def with_options(message: str, options: Collection[str]) -> str:
    """A message in which arguments of calls, as ``overwrite=True``, are options: ``--overwrite``.

    Args:
        message: The message.
        options: All options of the command.
    """

    def as_option(found: re.Match[str]) -> str:
        option = f"--{found[1]}"
        if option not in options:
            return found[0]
        try:
            value = literal_eval(found[2])
        except (ValueError, SyntaxError):
            value = found[2]
        if value is True:
            return option
        if isinstance(value, dict):
            value = [f"{key}={one}" for key, one in value.items()]
            value = [f'"{one}"' if " " in one else one for one in value]
        return f"{option} {' '.join(map(str, value)) if isinstance(value, list) else found[2].strip(chr(39))}"

    return _ARGUMENT.sub(as_option, message)


def with_dashes(message: str, options: Collection[str]) -> str:
    """A message that starts with the name of an option, as ``aoi: ...``, with the dashes of the option.

    Args:
        message: The message.
        options: All options that it can mean.
    """
    option = f"--{message.partition(':')[0]}"
    if option not in options or option in _SECTIONS:
        return message
    other = re.compile(r"(?<= has no effect without )\w+|(?<= contradicts )\w+")
    return (
        f"--{other.sub(lambda found: f'--{found[0]}' if f'--{found[0]}' in options else found[0], message)}"
    )


def _described(key: str, classes: list[type[Any]]) -> str:
    """Description of an argument, from the docstring of the first class that requires it."""
    for owner in classes:
        parameter = inspect.signature(owner).parameters.get(key)
        text = re.search(rf"^ *{key}: ([^\n]*?)[.;,]?$", inspect.getdoc(owner) or "", re.MULTILINE)
        if text and parameter is not None and parameter.default is parameter.empty:
            return f"; it is a key of {owner.__name__}: {plain_text(text.group(1))}"
    return ""


def plain_text(text: str) -> str:
    """Text of a docstring without the marks of literals."""
    return text.replace("``", "")


def _suggestion(word: str, arguments: set[str], sections: set[str]) -> str:
    *parents, last = word.split(".")
    last = _SYNONYMS.get(last, last)
    if last != word and last in arguments and not parents:
        return f"; did you mean {last}?"
    if parents and sections and parents[0] not in sections:
        return closest(parents[0], sections) or f"; choose from {', '.join(sorted(sections))}"
    return closest(last, arguments)


def of_argument(message: str) -> str:
    """Shorten a message of argparse about one argument: ``--layout: chps must be a, b or c``."""
    parts = re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL)
    if parts is None:
        return message
    name, rest = parts.groups()
    if choice := re.fullmatch(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", rest):
        names = [one.strip(" '") for one in choice.group(2).split(",")]
        return f"{name}: {choice.group(1)} must be {listed(names, 'or')}{closest(choice.group(1), {*names})}"
    if kind := re.fullmatch(r"invalid (\w+) value: '(.*)'", rest):
        wanted = _KINDS.get(kind.group(1))
        return f"{name}: {kind.group(2)} is not {wanted}" if wanted else message
    return f"{name}: {'no value given' if rest == 'expected one argument' else rest}"


def closest(word: str, known: set[str]) -> str:
    """The most similar known word, or several that are equally similar."""
    likeness = {name: SequenceMatcher(None, word, name).ratio() for name in known - {word}}
    best = max(likeness.values(), default=0.0)
    nearest = sorted(name for name, ratio in likeness.items() if ratio == best)
    return f"; did you mean {' or '.join(nearest)}?" if best >= 0.6 else ""
