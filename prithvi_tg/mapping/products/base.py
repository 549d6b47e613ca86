"""Product: what is made of a map. Derive from `Product`, or from `RasterProduct` for a raster, to add one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError
from ...readers.scene import Scene
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, Target
from ...tiling import Strip
from ..blending import BlendedRows

if TYPE_CHECKING:
    from ..strip_store import StripStore, StripWriter

Profile = Literal["cog", "legacy"]
#: How probabilities are stored: 0 to 250 for 0 to 1, with that scale in the file; or as they are, in 32 bits or
#: rounded to 16.
ProbabilityType = Literal["uint8", "float32", "float16"]


@dataclass(frozen=True)
class OutputOptions:
    """What is written for a scene.

    Attributes:
        profile: ``cog``, or ``legacy``: what hls-foundation-os wrote, and nothing beside it.
        probabilities: Also write ``NAME_probabilities.tif``, a band per class, in this type.
        confidence: Also write ``NAME_confidence.tif``, the highest probability.
        vector: Also write ``NAME_pred.gpkg``, polygons of these classes; takes memory as it has content.
        quicklook: Also write ``NAME_pred.png``, a picture of scene and map.
        overwrite: Replace files that exist; what else an earlier map of the scene had goes with it.
        skip_existing: Leave scenes alone whose map exists, as in an archive that grows.
        products: Also make these: names in `prithvi_tg.mapping.products.PRODUCTS`, class paths such as
            ``my_module.MyProduct``, classes, or products.

    Raises:
        ConfigError: A choice is unknown.
    """

    profile: Profile = "cog"
    probabilities: ProbabilityType | None = None
    confidence: bool = False
    vector: tuple[str, ...] = ()
    quicklook: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    products: "tuple[str | type[Product] | Product, ...]" = ()

    def __post_init__(self) -> None:
        for key, kind in (("profile", Profile), ("probabilities", ProbabilityType)):
            chosen = getattr(self, key)
            if chosen is not None and chosen not in get_args(kind):
                raise ConfigError(f"{key}: {chosen!r} is unknown; known are {', '.join(get_args(kind))}")
        if isinstance(self.vector, str):
            object.__setattr__(self, "vector", (self.vector,))
        if not isinstance(self.products, tuple):
            object.__setattr__(self, "products", (self.products,))


@dataclass(frozen=True)
class Layer:
    """One raster of a map.

    Attributes:
        name: Names the raster's strips, and is its key among the files of the product.
        band_names: A name per band.
        dtype: Of the stored values.
        nodata: Stored value of pixels without data.
        bits: Bits of a stored value, where less than its type has.
        scale: Factor from stored values to the unit.
    """

    name: str
    band_names: tuple[str, ...]
    dtype: str = "uint8"
    nodata: float = IGNORE_INDEX
    bits: int | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class MapContext:
    """What a product may ask about its map before there are pixels.

    Attributes:
        scene: The scene; ``scene.grid`` is the grid of the map.
        path: Final name of the map; what else is written is named after it.
        spec: What goes into the model, and what its outputs mean.
        options: What is written.
        tags: Software, weights and settings, as tags of the map.
        areas: Square metres of a pixel in each row (H,), if known.
    """

    scene: Scene
    path: Path
    spec: DataSpec
    options: OutputOptions
    tags: Mapping[str, str]
    areas: NDArray[np.float64] | None


@dataclass(frozen=True)
class FinishedMap:
    """A map whose strips are all complete; its files do not have their final names yet.

    Attributes:
        files: Where each file is to be written, by its key, for all products.
        products: All products of the map; those that stand before one have written their files when it is finished.
        records: What was counted in each strip, see `StripWriter.count`.
        store: Holds the strips.
        strips: They, from top to bottom.
    """

    files: Mapping[str, Path]
    products: "Sequence[Product]"
    records: Sequence[Mapping[str, Any]]
    store: "StripStore"
    strips: Sequence[Strip]

    def pieces(self, layer: Layer) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and stored values (bands, h, W) of a layer, from top to bottom, a few rows at a time."""
        return self.store.pieces(self.strips, layer)

    def total(self, key: str) -> NDArray[Any] | None:
        """Sum over the strips of what was counted under a key; ``None`` if nothing was."""
        parts = [record[key] for record in self.records if record.get(key) is not None]
        return np.sum(parts, axis=0) if parts else None


@dataclass(frozen=True)
class ItemFields:
    """What a product adds to the STAC item of its map.

    Attributes:
        properties: Properties of the item.
        assets: Fields of assets, by the key of the file.
        extensions: URLs of the schemas of STAC extensions that the fields belong to.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()


class Product(ABC):
    """What is made of a map: a raster, polygons, a picture, an item of a catalogue.

    For each scene: `begin`, then `encode` and `write` with the rows of the map as they are finished, strip by strip
    and perhaps in several processes, then `finish` in one of them. `encode` runs on the device of the model; `write`
    runs in a thread, while the model computes the next batch. A run that was killed begins again and writes only the
    strips that are missing, so what `write` finds out must be in the strips: in their rasters, or counted.
    Strips stay in use when the code of a product changes: after a change of `encode` or `write`, delete the folder
    ``.NAME_pred.parts`` of an unfinished map.

    Attributes:
        name: Its name in the table of products.
        files: Name of each file, by a key of its own; ``{stem}`` is the scene's name, ``{map}`` that of the map without
            its ending, ``{file}`` with it.
        targets: The targets that it can be made for.
        is_indexed: Whether a VRT shows its maps as one, see `write_index`.
        layer: The raster of its strips; ``None`` for a product that has none.
    """

    name: ClassVar[str]
    files: ClassVar[Mapping[str, str]] = {}
    targets: ClassVar[tuple[type[Target], ...]] = (Target,)
    is_indexed: ClassVar[bool] = False
    layer: Layer | None = None
    context: MapContext

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """Whether an option of its own asks for it; `OutputOptions.products` may ask for any."""
        return False

    @classmethod
    def check(cls, spec: DataSpec, options: OutputOptions) -> None:
        """Refuse, before any work, targets and options that it cannot be made for.

        Raises:
            ConfigError: It cannot.
        """
        if not isinstance(spec.target, cls.targets):
            names = ", ".join(spec.target.names[:3])
            raise ConfigError(
                f"{cls.name}: cannot be made of {spec.target.kind}, which the model gives ({names})"
            )

    def begin(self, context: MapContext) -> None:
        """Start the product of one scene; a method that overrides it calls this one first."""
        self.context = context

    def outputs(self) -> dict[str, Path]:
        """Final name of each file, by its key."""
        return named_files(self.files, self.context.path)

    @classmethod
    def earlier_outputs(cls, path: Path) -> set[Path]:
        """Files that an earlier map of this name may have beside it; one that replaces it removes them."""
        return {*named_files(cls.files, path).values()}

    def encode(self, rows: BlendedRows) -> Tensor | NDArray[Any] | None:  # noqa: B027
        """What `write` needs of finished rows (bands, h, W); a tensor may be on any device."""

    def check_encoded(self, values: Any, rows: BlendedRows) -> None:
        """Refuse what `encode` gave for rows if `write` cannot take it.

        Raises:
            ConfigError: It cannot.
        """
        if not (values is None or isinstance(values, Tensor | np.ndarray)):
            raise ConfigError(
                f"products: {self.name}.encode gives {type(values).__name__}, not a tensor or array"
            )

    def write(self, top: int, values: NDArray[Any], strip: "StripWriter") -> None:  # noqa: B027
        """Store what `encode` gave for the rows from `top` on: `StripWriter.write` and `StripWriter.count`."""

    @abstractmethod
    def finish(self, finished: FinishedMap) -> None:
        """Write the product's files, ``finished.files[key]``.

        Raises:
            DataError, OSError, RasterioError: One cannot be written.
        """

    def item_fields(self, finished: FinishedMap) -> ItemFields:
        """What the STAC item says about the product."""
        return ItemFields()

    def summary(self, finished: FinishedMap) -> list[str]:
        """What the table at the end of a run says about the map, a text per line."""
        return []


def named_files(files: Mapping[str, str], path: Path) -> dict[str, Path]:
    """Files of a product, see `Product.files`, beside a map.

    Raises:
        ConfigError: A name contains another word than those of `Product.files`.
    """
    words = {"stem": path.stem.removesuffix("_pred"), "map": path.stem, "file": path.name}
    try:
        return {key: path.with_name(pattern.format(**words)) for key, pattern in files.items()}
    except KeyError as error:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise ConfigError(
            f"products: files {dict(files)}: unknown word {error}; known are {known}"
        ) from error
