"""Reading options as a tag of a map, so that its scene can be read again in the same way."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import DataError
from .formats import SCENE_FORMATS, InputOptions
from .scene_paths import relative_words, words_from

_TAG = "reading"


def options_tag(options: InputOptions, folder: Path) -> dict[str, str]:
    """The tag ``reading``: JSON with the options that are not defaults; no tag if all are.

    Args:
        options: How a scene was read.
        folder: Folder of the map; paths of quality layers are relative to it.
    """
    default = InputOptions()
    given = {
        one.name: getattr(options, one.name)
        for one in fields(options)
        if getattr(options, one.name) != getattr(default, one.name)
    }
    if options.quality:
        given["quality"] = relative_words(options.quality, folder)
    return {_TAG: json.dumps(given, default=str)} if given else {}


def recorded_options(tags: Mapping[str, str], path: Path) -> InputOptions:
    """The inverse of `options_tag`; the defaults without the tag.

    The function `InputOptions.modifier` is not restored: a map must not choose the code that runs.

    Args:
        tags: Tags of the map.
        path: Path of the map.

    Raises:
        ConfigError: The tag contains an invalid option.
        DataError: The tag is damaged, or names a format that is not in `SCENE_FORMATS`.
    """
    try:
        given: dict[str, Any] = json.loads(tags.get(_TAG, "{}"))
        given.pop("modifier", None)
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        given["quality"] = words_from(path.parent, given.get("quality", ()))
        options = InputOptions(**given)
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: its tag {_TAG} is damaged ({error})") from error
    if options.format not in (None, *SCENE_FORMATS):
        raise DataError(f"{path}: its scene has the format {options.format}, which maps cannot restore")
    return options
