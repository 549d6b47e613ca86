"""UnitCheck: compares the values of a scene with unit and bands of the training data, and looks for fill values."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..bands import find_order
from ..readers.fill_values import FillSearch
from ..readers.scene import Scene
from ..spec import InputSpec, UnitRatio
from .row_reader import Rows

#: Number of pixels per band in the sample for the check.
_UNIT_PIXELS = 50_000


class UnitCheck:
    """Warns if values of a scene are far from the training data: of another unit, of bands in another order, or fill.

    Args:
        scene: The scene.
        spec: Unit and statistics that the model expects.
    """

    def __init__(self, scene: Scene, spec: InputSpec) -> None:
        self.scene = scene
        self.spec = spec
        self._samples: list[tuple[np.ndarray, ...]] = []
        self._count = 0
        self._judged = False

    def add(self, rows: Rows) -> None:
        """Add a sample of the valid pixels, and check the unit once the sample is large enough."""
        if self._judged:
            return
        self._samples.append(rows.sample)
        self._count += max(len(band) for band in rows.sample)
        if self._count >= _UNIT_PIXELS:
            self.judge()

    def judge(self) -> None:
        """Warn once about fill values, another unit than that of the statistics, and another order of bands."""
        if self._judged:
            return
        self._judged = True
        bands = [np.concatenate(parts) for parts in zip(*self._samples, strict=True)]
        self._samples = []
        bands = self._without_fill(bands)
        medians, lows = (
            [float(np.percentile(band, share)) if len(band) else float("nan") for band in bands]
            for share in (50, 1)
        )
        scale = self.scene.channels[0].scale if self.scene.channels else None
        ratio = self.spec.unit_ratio(medians, lows, scale)
        if self.spec.is_other_unit(ratio):
            found = " ".join(f"{median:.3g}" for median in medians[: len(self.spec.bands)])
            known = " ".join(f"{mean:.3g}" for mean in self.spec.mean[: len(self.spec.bands)])
            warnings.warn(
                f"{self.scene.files[0]}: its values (median of each band {found}) {ratio.describe()}; the model was "
                f"trained on means of {known}{self._suggested(ratio)}",
                stacklevel=2,
            )
        else:
            self._judge_order(bands)

    def _without_fill(self, bands: list[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
        """Warn about a value that probably means nodata; returns the values of the other pixels."""
        if len({len(band) for band in bands}) > 1 or not self.scene.channels:
            return bands  # some bands lack data where others have it, so the values are not those of the same pixels
        search, count = FillSearch(), len(self.spec.bands)
        for first in range(0, len(bands), count):
            search.add(np.stack(bands[first : first + count]))
        fill = search.found(self.spec.reflectance_unit)
        if fill is None:
            return bands
        scaling = self.scene.channels[0].scale, self.scene.channels[0].offset
        warnings.warn(
            f"{self.scene.files[0]}: {fill.describe(*scaling)}, and are mapped as data; if this value means nodata, "
            f"give nodata=[{fill.stored(*scaling)}]",
            stacklevel=2,
        )
        return [band[band != fill.value] for band in bands]

    def _judge_order(self, values: Sequence[NDArray[np.floating]]) -> None:
        names = self.spec.bands
        means = [float(band.mean()) if len(band) else float("nan") for band in values[: len(names)]]
        if not np.isfinite(means).all():
            return
        first = slice(len(names))
        order = find_order(names, means, self.spec.channel_mean[first], self.spec.channel_std[first])
        if order.is_mixed_up:
            warnings.warn(
                f"{self.scene.files[0]}: its bands may be in another order: their means are {order.as_given:.1f} "
                f"standard deviations off the statistics of the model, but {order.best:.1f} if what is read as "
                f"{' '.join(names)} is {' '.join(order.bands)}; check bands",
                stacklevel=2,
            )

    def _suggested(self, ratio: UnitRatio) -> str:
        if not self.scene.channels or ratio <= 0:
            return ""
        if ratio.mistaken_for is not None:
            unit = self.spec.reflectance_unit
            return f"; give scale={ratio.mistaken_for.scale * unit:g} and offset={ratio.mistaken_for.offset * unit:g}"
        fitting = self.spec.fitting_scale(ratio, self.scene.channels[0].scale)
        if fitting is None:
            return "; check its unit, and give its scale if it differs"
        return f"; if the file has another unit, try scale={fitting:g}"
