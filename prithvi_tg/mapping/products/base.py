"""Product: base class of the outputs of a map. To add one, subclass `Product`, or `RasterProduct` for a raster."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...choices import ProbabilityType as ProbabilityType
from ...choices import Profile as Profile
from ...choices import VectorFormat
from ...errors import ConfigError
from ...readers.scene import Scene
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, Target
from ...tiling import Strip
from ..blending import BlendedRows

if TYPE_CHECKING:
    from ..strip_store import StripStore, StripWriter


@dataclass(frozen=True)
class OutputOptions:
    """Selects the files that are written for a scene.

    Attributes:
        profile: ``cog``, or ``legacy``, which writes the map of hls-foundation-os alone.
        probabilities: Also write ``NAME_probabilities.tif``, one band per class, in this type.
        confidence: Also write ``NAME_confidence.tif``, the highest probability.
        vector: Also write polygons of these classes, ``NAME_pred.gpkg``.
        vector_formats: ``gpkg`` for a GeoPackage, ``parquet`` for GeoParquet, ``NAME_pred.parquet``, or both.
        min_area: Leave out polygons that are smaller, in square metres.
        fill_holes: Fill holes in polygons that are smaller, in square metres.
        simplify: Simplify polygons by at most this distance, in metres; neighbours may then overlap slightly.
        quicklook: Also write ``NAME_pred.png``, a picture of scene and map.
        overwrite: Replace existing files, and remove other files of an earlier map of the scene.
        skip_existing: Skip scenes with an existing map, for archives that grow.
        products: Also write these products: names in `prithvi_tg.mapping.products.PRODUCTS` such as ``entropy``,
            ``margin`` and ``std``, class paths such as ``my_module.MyProduct``, classes, or instances.

    Raises:
        ConfigError: An option has an unknown value, or two contradict each other.
    """

    profile: Profile = "cog"
    probabilities: ProbabilityType | None = None
    confidence: bool = False
    vector: tuple[str, ...] = ()
    vector_formats: tuple[VectorFormat, ...] = ("gpkg",)
    min_area: float = 0.0
    fill_holes: float = 0.0
    simplify: float = 0.0
    quicklook: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    products: "tuple[str | type[Product] | Product, ...]" = ()

    def __post_init__(self) -> None:
        for key in ("vector", "vector_formats", "products"):
            given = getattr(self, key)
            is_one = isinstance(given, str) or not isinstance(given, Sequence)
            object.__setattr__(self, key, (given,) if is_one else tuple(given))
        if self.overwrite and self.skip_existing:
            raise ConfigError("skip_existing: contradicts overwrite; give only one of them")
        words = [("profile", Profile, self.profile), ("probabilities", ProbabilityType, self.probabilities)]
        for key, kind, chosen in [
            *words,
            *(("vector_formats", VectorFormat, one) for one in self.vector_formats),
        ]:
            if chosen is not None and chosen not in get_args(kind):
                raise ConfigError(f"{key}: {chosen!r} is unknown; choose from {', '.join(get_args(kind))}")


@dataclass(frozen=True)
class Layer:
    """One raster of a map.

    Attributes:
        name: Name of the layer, in the names of its strips and as its key in `Product.files`.
        band_names: One per band.
        dtype: Type of stored values.
        nodata: Stored value of nodata pixels.
        bits: Number of bits of a stored value, if less than those of its type.
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
    """Properties of a map that are known before it has pixels.

    Attributes:
        scene: The scene; ``scene.grid`` is the grid of the map.
        path: Final path of the map; the names of other outputs derive from it.
        spec: Inputs and target of the model.
        options: Which files are written.
        tags: Software, weights and settings, as tags of the map.
        areas: Area of one pixel of each row (H,) in square metres, if known; sums over pixels are mapped areas.
    """

    scene: Scene
    path: Path
    spec: DataSpec
    options: OutputOptions
    tags: Mapping[str, str]
    areas: NDArray[np.float64] | None


@dataclass(frozen=True)
class FinishedMap:
    """A map with all strips complete, before its files are moved to their final names.

    Attributes:
        files: Temporary path of each file, by key, of all products.
        products: All products of the map, in the order of `Product.finish`.
        records: Counts of each strip, see `StripWriter.count`.
        store: Store of the strips.
        strips: The strips, from top to bottom.
    """

    files: Mapping[str, Path]
    products: "Sequence[Product]"
    records: Sequence[Mapping[str, Any]]
    store: "StripStore"
    strips: Sequence[Strip]

    def pieces(self, layer: Layer) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield first row and stored values (bands, h, W) of a layer, from top to bottom, a few rows at a time."""
        return self.store.pieces(self.strips, layer)

    def total(self, key: str) -> NDArray[Any] | None:
        """Sum of a count over the strips; ``None`` if no strip has it."""
        parts = [record[key] for record in self.records if record.get(key) is not None]
        return np.sum(parts, axis=0) if parts else None


@dataclass(frozen=True)
class ItemFields:
    """Fields that a product adds to the STAC item of its map.

    Attributes:
        properties: Properties of the item.
        assets: Fields of assets, by the key of the file.
        extensions: Schema URLs of the STAC extensions that define the fields.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()


class Product(ABC):
    """Base class of an output of a map: a raster, polygons, a picture, a catalogue item.

    For each scene, `begin` is called first, then `encode` and `write` with each completed group of rows, strip by
    strip and possibly in several processes, and last `finish` in one process. `encode` runs on the device of the
    model; `write` runs in a thread, while the model computes the next batch. A resumed run writes only the missing
    strips, so `write` must store its results in the strips: in their rasters, or as counts. A resumed run also reuses
    strips after the code of a product changes: after a change of `encode` or `write`, delete the folder
    ``.NAME_pred.parts`` of an incomplete map.

    Attributes:
        name: Name of the product in the table of products.
        files: File names by key; ``{stem}`` is replaced by the name of the scene, ``{map}`` by that of the map without
            its extension, ``{file}`` by that of the map.
        option: The field of `OutputOptions` that requests it, if it has another name, for messages.
        own_options: Further fields of `OutputOptions` that have no effect without this product.
        targets: Supported targets.
        is_indexed: Whether a VRT combines the maps of a run, see `write_index`.
        needs_parts: Whether it needs ``rows.parts``: several members of an ensemble, or several views.
        layer: Raster of the strips; ``None`` if the product has none.
    """

    name: ClassVar[str]
    option: ClassVar[str] = ""
    own_options: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[Mapping[str, str]] = {}
    targets: ClassVar[tuple[type[Target], ...]] = (Target,)
    is_indexed: ClassVar[bool] = False
    needs_parts: ClassVar[bool] = False
    layer: Layer | None = None
    context: MapContext

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """Whether an option of this product requests it; `OutputOptions.products` can request any product."""
        return False

    @classmethod
    def check(cls, spec: DataSpec, options: OutputOptions) -> None:
        """Check, before mapping, that the product supports the target and the options.

        Raises:
            ConfigError: The product does not support them.
        """
        if not isinstance(spec.target, cls.targets):
            names = ", ".join(spec.target.names[:3])
            needed = " or ".join(target.kind for target in cls.targets)
            key = cls.option if cls.option and cls.is_asked_for(options) else cls.name
            raise ConfigError(
                f"{key}: the model maps {spec.target.kind} ({names}); a model of {needed} is needed for {cls.name}"
            )

    def begin(self, context: MapContext) -> None:
        """Start the product of one scene; a method that overrides it calls this one first."""
        self.context = context

    def outputs(self) -> dict[str, Path]:
        """Final path of each file, by key."""
        return named_files(self.files, self.context.path)

    @classmethod
    def earlier_outputs(cls, path: Path) -> set[Path]:
        """Paths that an earlier map at `path` may have written; they are removed when the map is replaced."""
        return {*named_files(cls.files, path).values()}

    def encode(self, rows: BlendedRows) -> Tensor | NDArray[Any] | None:  # noqa: B027  # optional
        """Compute the input of `write` (bands, h, W) from completed rows; a tensor may be on any device."""

    def check_encoded(self, values: Any, rows: BlendedRows) -> None:
        """Check that `write` accepts the result of `encode`.

        Raises:
            ConfigError: The result is not a tensor or array.
        """
        if not (values is None or isinstance(values, Tensor | np.ndarray)):
            raise ConfigError(
                f"products: {self.name}.encode returns {type(values).__name__}, not a tensor or array"
            )

    def write(self, top: int, values: NDArray[Any], strip: "StripWriter") -> None:  # noqa: B027  # optional
        """Store the result of `encode` with `StripWriter.write` and `StripWriter.count`; `top` is the first row."""

    @abstractmethod
    def finish(self, finished: FinishedMap) -> None:
        """Write the product's files, ``finished.files[key]``.

        Raises:
            DataError, OSError, RasterioError: A file cannot be written.
        """

    def item_fields(self, finished: FinishedMap) -> ItemFields:
        """Fields of the product in the STAC item."""
        return ItemFields()

    def summary(self, finished: FinishedMap) -> list[str]:
        """Lines about the map in the table at the end of a run, one text per line."""
        return []


def named_files(files: Mapping[str, str], path: Path) -> dict[str, Path]:
    """Paths of the files of a product beside a map, see `Product.files`.

    Raises:
        ConfigError: A file name contains an unknown placeholder.
    """
    words = {"stem": path.stem.removesuffix("_pred"), "map": path.stem, "file": path.name}
    try:
        return {key: path.with_name(pattern.format(**words)) for key, pattern in files.items()}
    except KeyError as error:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise ConfigError(
            f"products: files {dict(files)}: unknown placeholder {error}; choose from {known}"
        ) from error
