"""Settings of a command that are checked before anything is imported: configurations, checkpoints, scenes."""

import json
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ..deprecated import current_words
from ..errors import CheckpointError, ConfigError, DataError
from .class_names import check_class_paths, choices

#: Names that Lightning itself resolves to checkpoints.
_OF_LIGHTNING = ("best", "hpc", "last", "registry")
#: Endings of files of weights, and of those that users take for one.
WEIGHTS = (".ckpt", ".pt", ".pt2", ".pth", ".safetensors", ".onnx")
_VECTOR = (".gpkg", ".geojson", ".json", ".shp", ".parquet", ".kml", ".fgb")
#: A name without the marks of globs, dates, addresses and subdatasets.
_GEOTIFF = re.compile(r"[^*?\[\],:#\"']+\.tiff?", re.IGNORECASE)
#: The help of a class that is the value of a key, as ``--data.split.help CLASS``.
_HELP_OF_KEY = re.compile(r"--(model|data)\.([\w.]+)\.help(=.+)?")
_CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def values_of(names: Collection[str], words: Sequence[str]) -> Iterator[str]:
    """Values of an option on a command line.

    Args:
        names: Names of the option.
        words: The words.
    """
    for word, following in pairwise([*words, "--"]):
        name, assigned, value = word.partition("=")
        if name in names and (assigned or not following.startswith("--")):
            yield value if assigned else following


def with_members(words: Sequence[str]) -> list[str]:
    """Words of a command line on which ``--ckpt_path`` has one value, a list if several files follow it.

    The first value may have any name. Further ones are files of weights by their suffix, so that scenes may follow.

    Raises:
        ConfigError: The option is given twice.
    """
    if sum(word.partition("=")[0] == "--ckpt_path" for word in words) > 1:
        raise ConfigError("ckpt_path: given twice; for an ensemble, give all files after one --ckpt_path")
    found: list[str] = []
    rest = list(words)
    while rest:
        name, assigned, value = rest[0].partition("=")
        start = 1 if assigned else 2
        end = start
        while name == "--ckpt_path" and end < len(rest) and rest[end].lower().endswith(WEIGHTS):
            end += 1
        if end > start:
            paths = [value, *rest[1:end]] if assigned else rest[1:end]
            found.append(f"{name}={json.dumps(paths)}")
        else:
            found += rest[: (end := 1)]
        rest = rest[end:]
    return found


def paths_of(value: Any) -> list[str]:
    """Paths of the checkpoints of a command: none, one, or the members of an ensemble."""
    if not value:
        return []
    several = isinstance(value, str) and value.startswith('["')  # by `with_members`
    return [str(one) for one in json.loads(value)] if several else [str(value)]


def require_checkpoint(path: str | None, command: str) -> None:
    """Check that a checkpoint is given, and that a local one exists.

    Raises:
        ConfigError: None is given, and the command needs one.
        CheckpointError: There is no such file.
    """
    if not path and command != "fit":
        raise ConfigError(f"ckpt_path: not given; {command} needs trained weights, --ckpt_path FILE")
    check_checkpoint(path)


def require_checkpoint_of(words: Sequence[str], command: str) -> None:
    """Check that a command line or its configurations give a checkpoint, and that a local one exists.

    Raises:
        ConfigError: None is given, and the command needs one.
        CheckpointError: There is no such file.
    """
    given = next(values_of(("--ckpt_path",), words), None)
    if given is None and any(_may_set("ckpt_path", word) for word in values_of(("--config", "-c"), words)):
        return
    require_checkpoint(given, command)


def _may_set(key: str, word: str) -> bool:
    """Whether a configuration, from its path or its text, may have a key; the parser reads it in full."""
    try:
        return "\n" in word or key in Path(word).read_text()
    except (OSError, UnicodeDecodeError):
        return True


def check_checkpoint(path: str | None) -> None:
    """Check that a local checkpoint exists.

    Raises:
        CheckpointError: There is no such file, or it is a folder.
    """
    if not path or "://" in path or Path(path).is_file() or path in _OF_LIGHTNING:
        return
    if Path(path).is_dir() or not path.startswith(_OF_LIGHTNING):
        raise CheckpointError.missing(path)


def require_scenes(scenes: Sequence[str], advice: str = "") -> None:
    """Check that scenes are given.

    Args:
        scenes: The scenes.
        advice: What to do if none is, after a semicolon; empty if nothing more is known.

    Raises:
        ConfigError: None is given.
    """
    if not scenes:
        advice = advice or (
            "; name one or more rasters, or a folder of GeoTIFFs, before options that take several values"
        )
        raise ConfigError(f"scenes: none given{advice}")


def check_scenes(scenes: Sequence[str]) -> None:
    """Check that scenes exist if they are plain names of local GeoTIFFs; others are checked when scenes are read.

    Raises:
        DataError: There is no such file.
    """
    for word in scenes:
        if _GEOTIFF.fullmatch(word) and not word.startswith("/vsi") and not Path(word).exists():
            raise DataError(f"{word}: no such file or folder")


def check_configurations(words: Sequence[str]) -> None:
    """Check that the configurations of a command line exist, are YAML, and name classes that exist.

    Raises:
        ConfigError: One does not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the command itself warns of old names
        words = current_words(words)
    for word in values_of(("--config", "-c"), words):
        config = _read(word)
        if isinstance(config, dict):
            check_class_paths(config)
    for section in ("model", "data"):
        for word in values_of((f"--{section}", f"--{section}.class_path", f"--{section}.help"), words):
            if _CLASS_PATH.fullmatch(word) and not Path(word).is_file():
                check_class_paths({section: {"class_path": word}})


def _read(word: str) -> Any:
    """A configuration, from its path or its text; `None` if the parser has to explain what is wrong."""
    is_text = "\n" in word
    path = Path("" if is_text else word)
    try:
        text = path.read_text() if path.is_file() else word
        config = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError):
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"config: {word}{line}: not YAML ({error.problem})") from error
    if not isinstance(config, dict):
        if not (path.is_file() or is_text):
            raise ConfigError(f"config: {word}: no such file")
        _refuse_without_keys(config, "the text" if is_text else word)
    return config


def _refuse_without_keys(config: Any, name: str) -> None:
    """Raise an error about a configuration that is not a mapping."""
    if config is None:
        raise ConfigError(f"config: {name}: is empty; a configuration has the sections model and data")
    kind = "a list" if isinstance(config, list) else "a single value"
    raise ConfigError(f"config: {name}: is {kind}; a configuration has keys, such as model: and data:")


def with_classes_of_help(words: Sequence[str], classes: Mapping[str, str]) -> list[str]:
    """Words of a command line on which ``--model.help`` and ``--data.help`` have a class, by default the one in use.

    Args:
        words: The words.
        classes: Section -> class, if neither an option nor a configuration names one.

    Raises:
        ConfigError: No class is known; or the help of a class of a key lacks this class, or that of its section.
    """
    found: list[str] = []
    last: list[str] = []  # the parser accepts no class after the help of a section
    for word, following in pairwise([*words, "--"]):
        section = word.removeprefix("--").removesuffix(".help")
        if nested := _HELP_OF_KEY.fullmatch(word):
            _check_help_of_key(nested[1], nested[2], nested[3], following, words, classes)
        if word == f"--{section}.help" and section in ("model", "data") and following.startswith("-"):
            options = (f"--{section}", f"--{section}.class_path")
            named = [*values_of(options, words), *_configured_classes(section, words)]
            if not named and section not in classes:
                raise ConfigError(f"{section}.help: needs a class; {choices(section)}, or give --config FILE")
            last.append(f"{word}={(named or [classes[section]])[0]}")
        else:
            found.append(word)
    return [*found, *last]


def _check_help_of_key(
    section: str,
    key: str,
    value: str | None,
    following: str,
    words: Sequence[str],
    classes: Mapping[str, str],
) -> None:
    """Raise an error if help on a class of a key, ``--data.split.help CLASS``, lacks this or the class with the key."""
    option = f"--{section}.{key}.help"
    if value is None and following.startswith("-"):
        raise ConfigError(f"{option}: needs a class, one of those that {key} accepts")
    named = [
        *values_of((f"--{section}", f"--{section}.class_path"), words),
        *_configured_classes(section, words),
    ]
    if not named and section not in classes:
        raise ConfigError(
            f"{option}: needs the class that has the key {key}; add --{section} CLASS or --config FILE"
        )


def _configured_classes(section: str, words: Sequence[str]) -> list[str]:
    """Classes of a section of the configurations of a command line, the one that applies first."""
    configs = [_read(word) for word in values_of(("--config", "-c"), words)]
    parts = [config.get(section) for config in configs if isinstance(config, dict)]
    paths = [part.get("class_path") for part in parts if isinstance(part, dict)]
    return [path for path in reversed(paths) if isinstance(path, str)]


def check_files(words: Sequence[str], keys: Collection[str]) -> None:
    """Check that local files and folders exist that the options and configurations of a command line name.

    Only what is certainly a local path is checked here; everything else is checked when it is read.

    Args:
        words: The words of the command line.
        keys: Those of ``model.weights``, ``data.splits`` and ``data.root`` that the command reads.

    Raises:
        CheckpointError, ConfigError, DataError: One does not exist.
    """
    weights, splits, root = (
        str(_setting(section, key, words) or "") if f"{section}.{key}" in keys else ""
        for section, key in (("model", "weights"), ("data", "splits"), ("data", "root"))
    )
    if weights.lower().endswith(WEIGHTS):
        check_checkpoint(weights)
    if splits.lower().endswith(".csv") and not Path(splits).exists():
        raise DataError(
            f"{splits}: no such file; splits is a CSV file with the header chip,split and a row per chip"
        )
    if root and not Path(root).exists() and not _setting("data", "download", words):
        raise DataError(f"data.root: {root}: no such folder")
    for area in values_of(("--aoi",), words):
        if area.lower().endswith(_VECTOR) and "://" not in area and not Path(area).exists():
            raise ConfigError(f"aoi: {area}: no such file")


def is_configured(words: Sequence[str]) -> bool:
    """Whether a command line gives a configuration, or a part of one."""
    return any(name.startswith(("-c", "--config", "--model", "--data")) for name in words)


def _setting(section: str, key: str, words: Sequence[str]) -> Any:
    """A setting of a command line: the last value of the option, or else of the configurations; ``None`` without."""
    value = None
    for word in values_of(("--config", "-c"), words):
        config = _read(word)
        part = config.get(section) if isinstance(config, dict) else None
        arguments = part.get("init_args", part) if isinstance(part, dict) else None
        value = arguments.get(key, value) if isinstance(arguments, dict) else value
    for given in values_of((f"--{section}.{key}", f"--{section}.init_args.{key}"), words):
        value = yaml.safe_load(given) if given.lower() in ("null", "true", "false") else given
    return value
