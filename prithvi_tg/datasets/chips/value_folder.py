"""ValueChipFolder: your own chips with values as labels, such as biomass or height."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...plotting import plot_values
from ...readers.labels import read_values
from ...readers.raster import open_raster
from ...spec import DataSpec
from ...targets import ValueTarget
from .array_files import stored_values
from .base import Sample
from .own_methods import reading_file
from .pattern_chips import PatternChips, describe_input


class ValueChipFolder(PatternChips):
    """Your own chips with values as labels: any bands, any number of dates, one or several values.

    The ``mask`` of a sample is float32 (H, W), or (V, H, W) for several values, in the unit, NaN = not labelled.

    Args:
        images: Pattern of the images, with one ``*`` for the name of a chip.
        labels: Pattern of the rasters of values, with one ``*`` for the same name; one band per value.
        splits: A CSV file with columns ``chip`` and ``split``.
        values: Name of each value.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        value_mean: Mean of each value in the training data, in its unit; ``prithvi-tg stats`` computes it.
        value_std: Standard deviation of each value.
        units: Unit of each value.
        valid_range: Lowest and highest valid value; labels outside cause an error.
        value_scale: Factor from stored values to the unit, for label files without scale tags.
        split: ``train``, ``val`` or ``test``.
        file_bands: Bands of one frame in the order of the files, by name; `bands` by default. The bands of the
            next frame follow.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags.
        nodata: Stored values of images that mean nodata, besides the file's tag and NaN.
        ignored_labels: Stored labels that mean "not labelled", besides the file's tag and NaN.
        legacy_nodata: See `ChipDataset`; for images only.
        metadata: See `ChipDataset`; only locations are known.
        transforms: See `ChipDataset`.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The image or the raster of values of a chip in the list is missing.
    """

    unlabelled = float("nan")

    def __init__(
        self,
        images: str,
        labels: str,
        splits: str | Path,
        values: Sequence[str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        value_mean: Sequence[float] = (),
        value_std: Sequence[float] = (),
        units: Sequence[str] = (),
        valid_range: tuple[float, float] | None = None,
        value_scale: float = 1.0,
        split: str = "train",
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[float] = (),
        legacy_nodata: bool = False,
        metadata: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        spec = self.data_spec(
            values, bands, mean, std, value_mean, value_std, units, valid_range, value_scale,
            file_bands, num_frames, sensor, scale, nodata, ignored_labels,
        )  # fmt: skip
        assert isinstance(spec.target, ValueTarget)
        self.target = spec.target
        self.sensor = sensor
        super().__init__(images, labels, splits, spec, split, legacy_nodata, metadata, transforms)

    @classmethod
    def data_spec(  # type: ignore[override]  # all properties of the dataset are arguments
        cls,
        values: Sequence[str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        value_mean: Sequence[float] = (),
        value_std: Sequence[float] = (),
        units: Sequence[str] = (),
        valid_range: tuple[float, float] | None = None,
        value_scale: float = 1.0,
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[float] = (),
    ) -> DataSpec:
        """Bands, statistics and values, from the arguments of the dataset.

        Raises:
            ConfigError: A band is unknown or not in the files, or the statistics do not match bands or values.
        """
        inputs = describe_input(bands, mean, std, file_bands, num_frames, sensor, scale, nodata)
        target = ValueTarget(
            tuple(values), tuple(units), tuple(value_mean), tuple(value_std), valid_range, value_scale,
            ignored_labels=tuple(ignored_labels),
        )  # fmt: skip
        return DataSpec(inputs, target)

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample: each date in true colour, the label of each value, and the prediction if there is one."""
        figure = plot_values(sample, self.spec)
        if suptitle:
            figure.suptitle(suptitle)
        return figure

    def read_mask(self, path: Path) -> NDArray[Any]:
        """Read values (H, W), or (V, H, W) for several, in the unit; NaN for pixels without a label.

        Raises:
            DataError: The file has another number of values, or a value lies outside the valid range.
        """
        with reading_file(path, self, "load_mask"):
            array = self.load_mask(path)
        if array is None:
            with open_raster(path) as source:
                values = read_values(source, path, self.target)
        else:
            values = stored_values(array, path, self.target)
        return values[0] if len(values) == 1 else values
