"""StripStore: the strips of an incomplete map on disk, so that an interrupted run can be resumed."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window
from torch import Tensor

from ..deprecated import old_names
from ..errors import ConfigError
from ..files import file_hash, write_json
from ..readers.grid import Grid
from ..readers.raster import open_raster
from ..tiling import Strip
from .blending import BlendedRows
from .host_copy import HostCopy
from .products.base import Layer, Product

#: Approximate size of the pieces in which strips are read; at least 64 rows.
_PIECE_BYTES = 2**20
#: Keys of a strip's record besides the counts of products.
_RECORDED = ("sha256", "windows", "skipped", "seconds", "nodata")


class StripStore:
    """The hidden folder of strips beside a map, ``.NAME_pred.parts``.

    A strip consists of one raster per layer and a record, which contains their hashes and is written last. Strips of
    a run with another checkpoint, scene or setting have another key and are not used.

    Args:
        path: The folder.
        key: Hash of everything that the pixels depend on.
        layers: The layers of the map.
    """

    def __init__(self, path: Path, key: str, layers: Sequence[Layer]) -> None:
        self.path = path
        self.key = key
        self.layers = layers

    def prepare(self) -> None:
        """Create the folder, or remove files in it that cannot be used."""
        if not self.belongs_to_run:
            self.empty()
        self.path.mkdir(parents=True, exist_ok=True)
        for entry in self.path.iterdir():
            if entry.name.startswith((".", "strip")) and entry.suffix not in (".json", ".tif"):
                entry.unlink()
        self._claimed.unlink(missing_ok=True)
        write_json(self.path / "run.json", {"key": self.key})

    def clear(self) -> None:
        """Remove the strips of a completed map; the folder still records that it is complete."""
        for entry in self.path.glob("strip_*"):
            entry.unlink()
        self._claimed.unlink(missing_ok=True)

    def empty(self) -> None:
        """Remove all files of the folder but its lock."""
        for entry in self.path.glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry != self.lock:
                entry.unlink()

    def discard(self, number: int) -> None:
        """Remove the files of a damaged strip."""
        (self.path / f"strip_{number:05d}.json").unlink(missing_ok=True)
        for layer in self.layers:
            self.strip_path(number, layer).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder and its content."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def lock(self) -> Path:
        """The file that is locked while a run writes the map, see `prithvi_tg.mapping.outputs.reserved`."""
        return self.path / "lock"

    @property
    def belongs_to_run(self) -> bool:
        """Whether the folder was written by a run with the same key."""
        return (self.read("run") or {}).get("key") == self.key

    # Records.

    def read(self, name: str) -> Any:
        """Read a record; ``None`` if it is missing or unreadable."""
        path = self.path / f"{name}.json"
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None

    def write(self, name: str, record: Any) -> None:
        """Write a record atomically."""
        write_json(self.path / f"{name}.json", record)

    # Strips.

    def strip_path(self, number: int, layer: Layer) -> Path:
        """Path of a strip's raster."""
        return self.path / f"strip_{number:05d}_{layer.name}.tif"

    def strip_record(self, number: int) -> Any:
        """Read the record of a complete strip; ``None`` if the strip is incomplete."""
        return self.read(f"strip_{number:05d}")

    def is_intact(self, number: int) -> bool:
        """Whether a strip is complete and its files have the recorded hashes."""
        record = self.strip_record(number)
        if record is None:
            return False
        files = {layer.name: self.strip_path(number, layer) for layer in self.layers}
        return all(
            path.exists() and file_hash(path) == record["sha256"].get(name) for name, path in files.items()
        )

    def pieces(self, strips: Sequence[Strip], layer: Layer) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield first row and stored values of one layer, from top to bottom, a few rows at a time."""
        for strip in strips:
            with open_raster(self.strip_path(strip.number, layer)) as source:
                block = source.block_shapes[0][0]
                row_bytes = source.width * source.count * np.dtype(layer.dtype).itemsize
                rows = block * max(4, _PIECE_BYTES // (block * row_bytes))
                for top in range(0, source.height, rows):
                    window = Window(0, top, source.width, min(rows, source.height - top))
                    yield strip.top + top, source.read(window=window)

    # One process assembles a map.

    @property
    def _claimed(self) -> Path:
        return self.path / "assembling"

    def claim(self) -> bool:
        """Claim the assembly of the map; true in the first process that calls it."""
        try:
            os.close(os.open(self._claimed, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


class EncodedRows:
    """Rows of a map as encoded by its products, copied asynchronously to main memory.

    Args:
        rows: The rows.
        products: The products of the map.

    Raises:
        ConfigError: A product gives something that it cannot write.
    """

    def __init__(self, rows: BlendedRows, products: Sequence[Product]) -> None:
        self.top = rows.top
        self.nodata = int(np.count_nonzero(rows.nodata))
        encoded = [product.encode(rows) for product in products]
        for product, values in zip(products, encoded, strict=True):
            product.check_encoded(values, rows)
        self._values = [HostCopy(values) if isinstance(values, Tensor) else values for values in encoded]

    def values(self) -> list[NDArray[Any] | None]:
        """Wait for the copies, and return the encoded values of each product."""
        return [values.numpy() if isinstance(values, HostCopy) else values for values in self._values]


class StripWriter:
    """Writes one strip of a map into its store.

    Args:
        parts: The store.
        strip: The strip.
        grid: Grid of the map.
        products: The products of the map.
    """

    def __init__(self, parts: StripStore, strip: Strip, grid: Grid, products: Sequence[Product]) -> None:
        self.parts = parts
        self.strip = strip
        self.products = products
        self._partial = {
            layer: parts.strip_path(strip.number, layer).with_suffix(f".{os.getpid()}")
            for layer in parts.layers
        }
        self._outputs: dict[Layer, Any] = {}
        self._counts: dict[str, NDArray[Any]] = {}
        self._counted_by: dict[str, str] = {}
        self._writing = ""  # the name of a product
        self._nodata = 0
        a, b, c, d, e, f = tuple(grid.transform)[:6]
        with ExitStack() as stack:
            for layer, path in self._partial.items():
                output = rasterio.open(
                    path, "w", driver="GTiff", width=grid.width, height=strip.bottom - strip.top,
                    crs=grid.crs, transform=Affine(a, b, c + b * strip.top, d, e, f + e * strip.top),
                    count=len(layer.band_names), dtype=layer.dtype, nodata=layer.nodata,
                    interleave="band", blockysize=16, compress="deflate", zlevel=1,
                )  # fmt: skip
                self._outputs[layer] = stack.enter_context(closing(output))
            self._stack = stack.pop_all()

    def add(self, rows: "EncodedRows") -> None:
        """Write completed rows of the strip."""
        self._nodata += rows.nodata
        for product, values in zip(self.products, rows.values(), strict=True):
            if values is not None:
                self._writing = product.name
                product.write(rows.top, values, self)

    def write(self, layer: Layer, top: int, values: NDArray[Any]) -> None:
        """Write stored values (bands, h, W) of a layer; `top` is their first row in the map."""
        window = Window(0, top - self.strip.top, values.shape[2], values.shape[1])
        self._outputs[layer].write(values, window=window)

    def count(self, key: str, values: NDArray[Any] | float) -> None:
        """Add numbers to a count in the strip's record, see `FinishedMap.total`.

        Args:
            key: Name of the count; no other product may use it.
            values: A number, or an array of the same shape for each strip.

        Raises:
            ConfigError: Another product uses the key, or the values are not numbers.
        """
        numbers = np.array(values)
        if numbers.dtype.kind not in "biuf":
            raise ConfigError(f"products: {self._writing} counts {values!r} under {key}; give numbers")
        owner = "the strip" if key in _RECORDED else self._counted_by.setdefault(key, self._writing)
        if owner != self._writing:
            raise ConfigError(
                f"products: {self._writing} counts under {key}, the key of {owner}; choose another"
            )
        self._counts[key] = self._counts[key] + numbers if key in self._counts else numbers

    def finish(self, windows: int, skipped: int, seconds: float) -> None:
        """Close and rename the strip's files, then write its record.

        Args:
            windows: Number of windows that the model ran on.
            skipped: Number of windows without data.
            seconds: Duration of the strip in seconds.
        """
        self._stack.close()
        hashes = {}
        for layer, path in self._partial.items():
            hashes[layer.name] = file_hash(path)
            path.replace(self.parts.strip_path(self.strip.number, layer))
        record = {
            "sha256": hashes,
            "windows": windows,
            "skipped": skipped,
            "seconds": seconds,
            "nodata": self._nodata,
            **{key: values.tolist() for key, values in self._counts.items()},
        }
        self.parts.write(f"strip_{self.strip.number:05d}", record)

    def abandon(self) -> None:
        """Remove the files of the strip."""
        with suppress(RasterioError, OSError):  # closing may fail to flush files that are removed anyway
            self._stack.close()
        for path in self._partial.values():
            path.unlink(missing_ok=True)


__getattr__ = old_names(__name__)
