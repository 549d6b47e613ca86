"""Old names that keep working for one release, each with a warning: modules, classes, arguments, keys of YAML."""

import inspect
import re
import sys
import warnings
from abc import ABCMeta
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml

from .nulls import without_nulls
from .ranges import check_ranges

#: Old module -> where its names are now. A module that became a package is in `NAMES`.
MODULES = {
    "prithvi_tg.config_errors": "prithvi_tg.cli.errors",
    "prithvi_tg.datamodules.scenes": "prithvi_tg.mapping.scene_windows",
    "prithvi_tg.datamodules.stream": "prithvi_tg.mapping.window_stream",
    "prithvi_tg.datasets.cdl": "prithvi_tg.datasets.scenes.cdl",
    "prithvi_tg.datasets.chip_folder": "prithvi_tg.datasets.chips.chip_folder",
    "prithvi_tg.datasets.granules": "prithvi_tg.readers.granules",
    "prithvi_tg.datasets.hls_burn_scars": "prithvi_tg.datasets.chips.hls_burn_scars",
    "prithvi_tg.datasets.labels": "prithvi_tg.datasets.scenes.labels",
    "prithvi_tg.datasets.multi_temporal_crop": "prithvi_tg.datasets.chips.multi_temporal_crop",
    "prithvi_tg.datasets.regions": "prithvi_tg.datasets.scenes.splits",
    "prithvi_tg.datasets.scene_dataset": "prithvi_tg.datasets.scenes.dataset",
    "prithvi_tg.datasets.scene_inputs": "prithvi_tg.readers.formats",
    "prithvi_tg.datasets.sen1floods11": "prithvi_tg.datasets.chips.sen1floods11",
    "prithvi_tg.datasets.series": "prithvi_tg.datasets.scenes.composites",
    "prithvi_tg.mapping.maps": "prithvi_tg.mapping.planning",
    "prithvi_tg.mapping.parts": "prithvi_tg.mapping.strip_store",
    "prithvi_tg.mapping.run": "prithvi_tg.mapping.map_run",
    "prithvi_tg.models.segmenter": "prithvi_tg.models.encoder_decoder",
    "prithvi_tg.models.vit": "prithvi_tg.models.encoders.prithvi",
    "prithvi_tg.windows": "prithvi_tg.tiling",
}

#: Module -> old name -> module and name now.
NAMES: dict[str, dict[str, str]] = {
    "prithvi_tg": {"PrithviSegmenter": "prithvi_tg.models:EncoderDecoder"},
    "prithvi_tg.checks": {
        "Survey": "prithvi_tg.checks.surveys:Survey",
        "survey": "prithvi_tg.checks.surveys:survey_chips",
    },
    "prithvi_tg.cli": {"PrithviCLI": "prithvi_tg.cli.lightning:PrithviCLI"},
    "prithvi_tg.datamodules": {"SceneDataModule": "prithvi_tg.mapping.scene_windows:SceneDataModule"},
    "prithvi_tg.datasets": {
        "InputOptions": "prithvi_tg.readers:InputOptions",
        "Scene": "prithvi_tg.readers:Scene",
        "SceneReader": "prithvi_tg.readers:SceneReader",
        "Series": "prithvi_tg.datasets:TemporalComposite",
        "find_inputs": "prithvi_tg.readers:find_inputs",
        "resolve_scene": "prithvi_tg.readers:resolve_scene",
    },
    "prithvi_tg.datasets.chips": {
        "Chip": "prithvi_tg.datasets.chips.base:Chip",
        "ChipDataset": "prithvi_tg.datasets.chips.base:ChipDataset",
        "read_splits": "prithvi_tg.datasets.chips.split_lists:read_splits",
    },
    "prithvi_tg.datasets.scenes": {
        "NodataRule": "prithvi_tg.readers.scene:NodataRule",
        "Pixels": "prithvi_tg.readers.scene:Pixels",
        "Scene": "prithvi_tg.readers:Scene",
        "SceneReader": "prithvi_tg.readers:SceneReader",
    },
    "prithvi_tg.mapping.strip_store": {"PartFolder": "prithvi_tg.mapping.strip_store:StripStore"},
    "prithvi_tg.models": {
        "PrithviSegmenter": "prithvi_tg.models:EncoderDecoder",
        "PYRAMID_DECODERS": "prithvi_tg.models:DECODERS",
        "TokenMap": "prithvi_tg.models:IdentityNeck",
    },
    "prithvi_tg.models.encoder_decoder": {"PrithviSegmenter": "prithvi_tg.models:EncoderDecoder"},
    "prithvi_tg.models.encoders.prithvi": {"create_encoder": "prithvi_tg.models:create_encoder"},
    "prithvi_tg.models.pyramid": {
        "PYRAMID_DECODERS": "prithvi_tg.models:DECODERS",
        "TokenMap": "prithvi_tg.models:IdentityNeck",
    },
    "prithvi_tg.datasets.scenes.composites": {"Series": "prithvi_tg.datasets:TemporalComposite"},
    "prithvi_tg.samplers": {"ShareSampler": "prithvi_tg.samplers:UnrepeatedSampler"},
    "prithvi_tg.tiling": {
        "Cover": "prithvi_tg.tiling:AxisTiling",
        "WindowPlan": "prithvi_tg.tiling:WindowGrid",
    },
}

#: Old argument or key -> new one, wherever it stands.
KEYS = {
    "favoured": "balanced_boxes",
    "first_blocks": "truncate_depth",
    "flips_and_turns": "random_flip_rot90",
    "series": "composite",
    "walks": "locality_groups",
}
#: Old arguments and keys of scenes; elsewhere ``mask`` is the label.
SCENE_KEYS = KEYS | {"ground": "roi", "grounds": "period_rois", "mask": "qa_mask"}

_FLAT_TARGET = {"class_names": "names", "class_colors": "colors"}

_Class = TypeVar("_Class", bound=Callable[..., Any])


def warn(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that a name is old."""
    warnings.warn(
        f"{old} is deprecated and will be removed in the next release; use {new}",
        FutureWarning,
        stacklevel=stacklevel,
    )


# Modules and names.


class _OldModule(ModuleType):
    """An old module: its names are those of another module."""

    def __init__(self, name: str, home: str) -> None:
        super().__init__(name)
        self.home = home

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self.home), name)


class _OldModules(MetaPathFinder, Loader):
    """Imports modules under their old names."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warn(f"module {spec.name}", MODULES[spec.name], stacklevel=6)
        return _OldModule(spec.name, MODULES[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is to be run."""


def import_old_modules() -> None:
    """Let modules be imported under their old names."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())


def old_names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module: its old names."""

    def get(name: str) -> Any:
        if name not in NAMES[module]:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, current = NAMES[module][name].partition(":")
        warn(f"{module}.{name}", f"{home}.{current}")
        return getattr(import_module(home), current)

    return get


# Arguments.


def current_arguments(
    arguments: Mapping[str, Any], keys: Mapping[str, str] = KEYS, warns: bool = True
) -> dict[str, Any]:
    """Arguments under their new names.

    Args:
        arguments: By name, old or new.
        keys: Old name -> new name.
        warns: Warn of old names; not those of a file that was written with them.
    """
    found = {}
    for name, value in arguments.items():
        if name in keys and warns:
            warn(name, keys[name], stacklevel=4)
        found[keys.get(name, name)] = value
    return found


def accepts_old_arguments(function: _Class) -> _Class:
    """A function that also takes its arguments under their old names."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **current_arguments(kwargs, _keys_of(function)))

    return wrapper  # type: ignore[return-value]  # it has the signature of the function


class OldArguments(ABCMeta):
    """Metaclass of tasks and data modules: old names of arguments, null for a default, and ranges of numbers."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Build an instance."""
        arguments = without_nulls(cls, current_arguments(kwargs, _keys_of(cls)))
        check_ranges(arguments)
        # Not super(): Lightning, which collects the arguments, would take this for an initialiser.
        return ABCMeta.__call__(cls, *args, **arguments)

    @property
    def __signature__(cls) -> inspect.Signature:
        initialiser = inspect.signature(cls.__init__)  # type: ignore[misc]  # of a class, not an instance
        return initialiser.replace(parameters=list(initialiser.parameters.values())[1:])


def _keys_of(function: Any) -> dict[str, str]:
    """Old names of the arguments that a function or class has under new ones, and has no longer."""
    known = inspect.signature(function).parameters
    return {old: new for old, new in SCENE_KEYS.items() if new in known and old not in known}


# The flat description of data.


def nested_spec(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a flat description of data, with classes, to one with ``input`` and ``target``."""
    if "input" in values:
        return dict(values)
    target = {new: values[old] for old, new in _FLAT_TARGET.items() if old in values}
    inputs = {key: value for key, value in values.items() if key not in _FLAT_TARGET}
    return {"input": inputs, "target": {"kind": "classes", **target}}


class FlatDataSpec(type):
    """Metaclass of `DataSpec`: takes the flat arguments of earlier releases, ``bands``, ``mean``, ``class_names``."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Build an instance."""
        if "input" in kwargs or (args and hasattr(args[0], "bands")):
            return super().__call__(*args, **kwargs)
        warn("DataSpec(bands=..., class_names=...)", "DataSpec(InputSpec(...), ClassTarget(...))")
        names = (
            "bands",
            "mean",
            "std",
            "num_frames",
            "scale",
            "nodata",
            "legacy_fill",
            "file_bands",
            "file_count",
        )
        flat = dict(zip(names, args, strict=False)) | kwargs
        spec = import_module("prithvi_tg.spec")
        target = {new: flat.pop(old) for old, new in _FLAT_TARGET.items() if old in flat}
        return super().__call__(
            spec.InputSpec(**flat), import_module("prithvi_tg.targets").ClassTarget(**target)
        )


def flat_attribute(spec: Any, name: str) -> Any:
    """An attribute that a flat description had, of its input or its target."""
    if name.startswith("_"):
        raise AttributeError(name)
    part, current = ("target", _FLAT_TARGET[name]) if name in _FLAT_TARGET else ("input", name)
    if not hasattr(getattr(spec, part), current):
        raise AttributeError(f"{type(spec).__name__!r} object has no attribute {name!r}")
    warn(f"DataSpec.{name}", f"DataSpec.{part}.{current}")
    return getattr(getattr(spec, part), current)


# Records of runs.


def current_record(metrics: dict[str, Any]) -> dict[str, Any]:
    """Convert the content of a ``metrics.json`` of an earlier release to the current keys."""
    training = (metrics.get("run") or {}).get("training") or {}
    if "goes_on" in training:
        training["resumed_from"] = training.pop("goes_on")
    return metrics


# Keys of configurations, and options.


def current_words(words: Sequence[str]) -> list[str]:
    """Arguments of a command line with new options and, where a configuration has old keys, with its new text."""
    found: list[str] = []
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if before in ("--config", "-c"):
            found.append(_current_config(word))
        elif word.startswith("--config="):
            found.append("--config=" + _current_config(word.removeprefix("--config=")))
        else:
            found.append(_current_option(word))
    return found


def _current_option(word: str) -> str:
    match = re.fullmatch(
        r"--((?:data|model)\.(?:init_args\.)?)?(\w+)((?:\.[\w.]+)?(?:=.*)?)", word, re.DOTALL
    )
    if match is None:
        return word
    home, key, rest = match.group(1) or "", match.group(2), match.group(3)
    keys = KEYS if home.startswith("model") else SCENE_KEYS
    if key not in keys or (not home and key != "mask"):
        return word
    warn(f"--{home}{key}", f"--{home}{keys[key]}")
    return f"--{home}{keys[key]}{rest}"


def _current_config(word: str) -> str:
    """The path of a configuration; its text with new keys if it has old ones."""
    path = Path(word)
    try:
        text = path.read_text() if path.is_file() else None
        config = None if text is None else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return word  # the parser reports the error
    if not isinstance(config, dict):
        return word
    changed = False
    for home, keys in (("model", KEYS), ("data", SCENE_KEYS)):
        section = config.get(home)
        arguments = section.get("init_args", section) if isinstance(section, dict) else None
        if not isinstance(arguments, dict):
            continue
        for old, new in keys.items():
            if old in arguments:
                warn(f"{word}: {home}.{old}", new)
                arguments[new] = arguments.pop(old)
                changed = True
        changed = _rename_class_paths(section) or changed
    return yaml.safe_dump(config, sort_keys=False) if changed else word


def _rename_class_paths(node: Any) -> bool:
    """Bring class paths of a part of a configuration up to date; whether there was an old one."""
    changed = False
    if isinstance(node, dict):
        path = node.get("class_path")
        home, _, name = str(path).rpartition(".")
        current = NAMES.get(MODULES.get(home, home), {}).get(name, "").replace(":", ".")
        current = current or (f"{MODULES[home]}.{name}" if home in MODULES else "")
        if current:
            warn(f"class_path {path}", current)
            node["class_path"] = current
            changed = True
        for child in node.values():
            changed = _rename_class_paths(child) or changed
    elif isinstance(node, list):
        for child in node:
            changed = _rename_class_paths(child) or changed
    return changed
