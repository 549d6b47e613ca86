"""Design: how a sample was drawn, with the map's class of each of its points. `estimate` needs nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

_FORMAT = "prithvi_tg area sample 1"


@dataclass(frozen=True)
class Stratum:
    """A stratum of the population.

    Attributes:
        name: Its name.
        pixels: Number of its pixels.
        square_metres: Their area on the ellipsoid.
        mapped_class: The class that all of them are mapped as; ``None`` for a stratum of several classes.
    """

    name: str
    pixels: int
    square_metres: float
    mapped_class: str | None


@dataclass(frozen=True)
class Design:
    """How a sample was drawn.

    Attributes:
        classes: Names of the classes.
        codes: Value of each class in the maps.
        mapped_square_metres: Mapped area of each class (K,).
        strata: The strata that have pixels.
        stratum_of: Stratum of each point (n,), in the order of points.
        class_of: Class of the map at each point (n,).
        point_areas: Area of the pixel of each point in square metres (n,).
        record: Stratification, allocation, seed, maps with their hashes, and version.
    """

    classes: tuple[str, ...]
    codes: tuple[int, ...]
    mapped_square_metres: NDArray[np.float64]
    strata: tuple[Stratum, ...]
    stratum_of: NDArray[np.int64]
    class_of: NDArray[np.int64]
    point_areas: NDArray[np.float64]
    record: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.stratum_of)

    @property
    def areas(self) -> NDArray[np.float64]:
        """Area of each stratum (H,) in square metres."""
        return np.array([one.square_metres for one in self.strata])

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Number of pixels of each stratum (H,)."""
        return np.array([one.pixels for one in self.strata], np.int64)

    def to_json(self) -> str:
        """The design as JSON, for a file beside the points or a table among them."""
        return json.dumps(
            {
                "format": _FORMAT,
                **self.record,
                "classes": [
                    {"code": code, "name": name, "mapped_square_metres": area}
                    for code, name, area in zip(
                        self.codes, self.classes, self.mapped_square_metres.tolist(), strict=True
                    )
                ],
                "strata": [vars(one) for one in self.strata],
                "points": {
                    "stratum": self.stratum_of.tolist(),
                    "map_class": self.class_of.tolist(),
                    "square_metres": self.point_areas.tolist(),
                },
            }
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> "Design":
        """Read a design.

        Args:
            text: JSON, as `to_json` returns it.
            where: Name of the file, for messages.

        Raises:
            DataError: The text is not a design.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise DataError(f"{where}: a design of another version; draw the sample again")
            classes, strata, points = (content.pop(key) for key in ("classes", "strata", "points"))
            return cls(
                tuple(one["name"] for one in classes),
                tuple(one["code"] for one in classes),
                np.array([one["mapped_square_metres"] for one in classes], float),
                tuple(Stratum(**one) for one in strata),
                np.array(points["stratum"], np.int64),
                np.array(points["map_class"], np.int64),
                np.array(points["square_metres"], float),
                content,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: not the design of a sample ({error})") from error
