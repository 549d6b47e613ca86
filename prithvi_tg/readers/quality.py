"""Quality layers of scenes: cloud, shadow, snow and other classes."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..choices import QualityClass as QualityClass
from ..errors import ConfigError

QualityKind = Literal["fmask", "scl"]

#: Bits of the Fmask layer (HLS user guide v2.0, table 9); ``adjacent`` is near cloud or shadow.
FMASK_BITS = {"cirrus": 0, "cloud": 1, "adjacent": 2, "shadow": 3, "snow": 4, "water": 5}
#: Classes of the scene classification layer (Sentinel-2 L2A algorithm theoretical basis document).
SCL_CLASSES = {"shadow": (3,), "water": (6,), "cloud": (8, 9), "cirrus": (10,), "snow": (11,)}


def quality_kind(description: str | None) -> QualityKind | None:
    """The kind of quality layer in a band description, ``None`` for other bands."""
    lower = (description or "").strip().lower()
    return next((kind for kind in get_args(QualityKind) if kind == lower), None)


def flagged(layer: NDArray[Any], kind: QualityKind, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Mask of the pixels of a quality layer that have any of some classes.

    Args:
        layer: Stored values, any shape.
        kind: ``fmask`` or ``scl``.
        classes: Names of `QualityClass`.

    Raises:
        ConfigError: The layer has no such class.
    """
    known = FMASK_BITS if kind == "fmask" else SCL_CLASSES
    for name in classes:
        if name not in known:
            raise ConfigError(f"qa_mask: {kind.upper()} has no class {name!r}; it has {', '.join(known)}")
    if kind == "fmask":
        bits = sum(1 << FMASK_BITS[name] for name in set(classes))
        return (layer.astype(np.uint8) & bits) != 0
    return np.isin(layer, [value for name in classes for value in SCL_CLASSES[name]])
