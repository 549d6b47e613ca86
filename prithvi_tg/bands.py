"""Bands: canonical names, resolved from the names of sensors and files; published statistics.

Prithvi was trained on the six bands ``BLUE GREEN RED NIR_NARROW SWIR_1 SWIR_2``. ``B05`` is narrow near infrared on
Landsat and in HLS L30, and red edge on Sentinel-2. A name is therefore resolved for a sensor, and an ambiguous name
without a sensor is an error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations

from .errors import BandNameError, ConfigError, first_of

#: Mean distance of band means from the statistics, in standard deviations, from which on they are far off.
MIXED_UP = 1.0
_MOST_PERMUTED = 7  # bands; they have 5040 orders
#: The bands of every published Prithvi model, in the order of its patch embedding.
PRITHVI_BANDS = ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")

_SENTINEL_2 = {
    "B01": "COASTAL_AEROSOL",
    "B02": "BLUE",
    "B03": "GREEN",
    "B04": "RED",
    "B05": "RED_EDGE_1",
    "B06": "RED_EDGE_2",
    "B07": "RED_EDGE_3",
    "B08": "NIR_BROAD",
    "B8A": "NIR_NARROW",
    "B09": "WATER_VAPOR",
    "B10": "CIRRUS",
    "B11": "SWIR_1",
    "B12": "SWIR_2",
}

_LANDSAT_8 = {
    "B01": "COASTAL_AEROSOL",
    "B02": "BLUE",
    "B03": "GREEN",
    "B04": "RED",
    "B05": "NIR_NARROW",
    "B06": "SWIR_1",
    "B07": "SWIR_2",
    "B08": "PANCHROMATIC",
    "B09": "CIRRUS",
    "B10": "THERMAL_1",
    "B11": "THERMAL_2",
}

#: Sensor -> canonical name of each of its band names (HLS user guide v2.0; Sentinel-2 and Landsat 8/9 handbooks).
SENSORS: dict[str, dict[str, str]] = {
    "sentinel2": _SENTINEL_2,
    "hls_s30": _SENTINEL_2,
    "hls_l30": {code: band for code, band in _LANDSAT_8.items() if code != "B08"},
    "landsat8": _LANDSAT_8,
}

#: ``eo:common_name`` -> canonical name of the band (electro-optical extension).
COMMON_NAMES = {
    "coastal": "COASTAL_AEROSOL", "blue": "BLUE", "green": "GREEN", "red": "RED", "rededge071": "RED_EDGE_1",
    "rededge075": "RED_EDGE_2", "rededge078": "RED_EDGE_3", "nir": "NIR_BROAD", "nir08": "NIR_NARROW",
    "nir09": "WATER_VAPOR", "cirrus": "CIRRUS", "swir16": "SWIR_1", "swir22": "SWIR_2", "pan": "PANCHROMATIC",
    "lwir11": "THERMAL_1", "lwir12": "THERMAL_2",
}  # fmt: skip

_COUNTED = re.compile(r"((band|layer|channel)?[ _.#-]*\d*)", re.IGNORECASE)

#: Every canonical name.
BANDS = tuple(dict.fromkeys(name for table in SENSORS.values() for name in table.values()))

#: Pre-training statistics of the published encoders (reflectance x 1e4), order of `PRITHVI_BANDS`.
PRETRAINING_STATISTICS = {
    "prithvi_eo_v1": (
        (775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
        (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
    ),
    "prithvi_eo_v2": (
        (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0),
        (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0),
    ),
}


def resolve_band(name: str, sensor: str | None = None, key: str = "bands") -> str:
    """The canonical name of a band.

    Args:
        name: A canonical name (``NIR_NARROW``), a sensor's (``B8A``, ``B2``, ``b02``) or STAC's (``nir08``).
        sensor: One of `SENSORS`; needed where sensors disagree about the name.
        key: The setting that contains the name, for messages.

    Raises:
        ConfigError: The name is unknown, or means different bands on different sensors.
    """
    if sensor is not None and sensor not in SENSORS:
        raise ConfigError(f"sensor: {sensor!r} is unknown; choose from {', '.join(SENSORS)}")
    upper = name.strip().upper()
    if upper in BANDS:
        return upper
    common = COMMON_NAMES.get(upper.lower())
    if common is not None and upper != "NIR":  # files call broad and narrow bands so
        return common
    code = re.sub(r"^B(\d)$", r"B0\1", upper)
    tables = {sensor: SENSORS[sensor]} if sensor else SENSORS
    meanings = {key: table[code] for key, table in tables.items() if code in table}
    if not meanings:
        known = (*BANDS, *sorted({code for table in tables.values() for code in table}))
        parts = [band for band in BANDS if upper.rstrip("0123456789_") in re.split(r"_", band)]
        close = parts or get_close_matches(upper, known, n=1)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ConfigError(
            f"{key}: {name!r} is unknown; {hint}choose from {', '.join(known)}; give a band of another sensor the name "
            "with the nearest wavelength"
        )
    if len(set(meanings.values())) > 1:
        listed = ", ".join(f"{band} on {key}" for key, band in meanings.items())
        raise ConfigError(
            f"{key}: {name!r} is ambiguous ({listed}); use a band name such as NIR_NARROW, or set sensor"
        )
    return next(iter(meanings.values()))


def check_stored(bands: Sequence[str], file_bands: Sequence[str]) -> None:
    """Check that files contain the bands of a model.

    Raises:
        ConfigError: A band is not among those of the files.
    """
    for band in bands:
        if band not in file_bands:
            default = f"; bands defaults to {' '.join(PRITHVI_BANDS)}, those of Prithvi: set it to bands of the files"
            raise ConfigError(
                f"bands: {band} is not among file_bands, {', '.join(file_bands)}"
                f"{default if tuple(bands) == PRITHVI_BANDS else ''}"
            )


def means(name: str, sensor: str | None = None) -> str | None:
    """As `resolve_band`, but ``None`` for a name that is unknown or ambiguous."""
    try:
        return resolve_band(name, sensor)
    except ConfigError:
        return None


def band_indexes(
    bands: Sequence[str],
    descriptions: Sequence[str | None],
    file: object,
    sensor: str | None = None,
    advice: str = "give the bands by index, counted from 1",
) -> list[int]:
    """Positions of bands in a file, from its band descriptions.

    Args:
        bands: Canonical names of the bands.
        descriptions: Band descriptions of the file (``B02``, ``Red``, ``B02_20180504``), one per band.
        file: The file, for messages.
        sensor: Sensor of the names in the file; needed where sensors disagree.
        advice: What to do about a file whose descriptions do not name the bands, at the end of errors.

    Returns:
        Index of each band, from 1, as in rasterio and GDAL.

    Raises:
        BandNameError: No description, or more than one, names a band.
        ConfigError: The positions depend on the sensor, and none is given.
    """
    occurrences = band_occurrences(bands, descriptions, file, sensor, advice)
    for band, found in zip(bands, occurrences, strict=True):
        if len(found) > 1:
            raise BandNameError(
                f"{file}: its band descriptions name {band} {_times(len(found))} (bands {', '.join(map(str, found))})",
                advice,
            )
    return [index for (index,) in occurrences]


def band_occurrences(
    bands: Sequence[str],
    descriptions: Sequence[str | None],
    file: object,
    sensor: str | None = None,
    advice: str = "give the bands by index, counted from 1",
) -> list[list[int]]:
    """All positions of each band in a file; for arguments and errors see `band_indexes`."""
    names = [re.sub(r"_\d{8}$", "", (text or "").strip().upper()) for text in descriptions]
    codes = [re.sub(r"^B(\d)$", r"B0\1", name) for name in names]
    sensors = [sensor] if sensor else [key for key in SENSORS if _knows_all(SENSORS[key], codes)]
    by_sensor: dict[str, list[list[int]]] = {}
    missing_by_sensor: list[list[str]] = []
    for key in sensors:
        positions: dict[str, list[int]] = {}
        for index, (name, code) in enumerate(zip(names, codes, strict=True), start=1):
            positions.setdefault(name if name in BANDS else SENSORS[key].get(code, ""), []).append(index)
        missing_by_sensor.append([band for band in bands if band not in positions])
        if not missing_by_sensor[-1]:
            by_sensor[key] = [positions[band] for band in bands]
    if not by_sensor:
        if not any(descriptions):
            raise BandNameError(f"{file}: no band descriptions", advice)
        listed = first_of(map(str, descriptions), 16)
        missing = min(missing_by_sensor, key=len, default=list(bands))
        raise BandNameError(f"{file}: band descriptions ({listed}) lack {', '.join(missing)}", advice)
    if len({str(positions) for positions in by_sensor.values()}) > 1:
        listed = "; ".join(
            f"bands {[indexes[0] for indexes in positions]} for {key}" for key, positions in by_sensor.items()
        )
        raise ConfigError(f"sensor: {file} matches several sensors ({listed}); set sensor")
    return next(iter(by_sensor.values()))


def names_no_band(descriptions: Sequence[str | None]) -> bool:
    """Whether band descriptions are absent, or count the bands (``Band 1``) instead of naming them."""
    return all(_COUNTED.fullmatch((text or "").strip()) for text in descriptions)


def _times(count: int) -> str:
    return {2: "twice"}.get(count, f"{count} times")


def _knows_all(table: dict[str, str], codes: Sequence[str]) -> bool:
    return all(code in table for code in codes if re.match(r"^B\d", code))


@dataclass(frozen=True)
class BandOrder:
    """How well band means fit the statistics of a model, as they are given and in the best order.

    Attributes:
        as_given: Mean distance from the statistics in the given order, in standard deviations.
        bands: Names of the bands in the order in which the means fit best.
        best: Mean distance in that order.
    """

    as_given: float
    bands: tuple[str, ...]
    best: float

    @property
    def is_mixed_up(self) -> bool:
        """Whether the means are far off, and far less in the other order."""
        return self.as_given >= MIXED_UP and self.best < self.as_given / 2


def find_order(
    bands: Sequence[str], means: Sequence[float], expected: Sequence[float], spread: Sequence[float]
) -> BandOrder:
    """Find the order of bands in which their means fit the statistics best, for at most 7 bands.

    Args:
        bands: Names of the bands (C,).
        means: Mean of each band (C,).
        expected: Mean of each band in the statistics (C,).
        spread: Standard deviation of each band in the statistics (C,).
    """

    def distance(order: Sequence[int]) -> float:
        off = (abs(means[k] - mean) / std for k, mean, std in zip(order, expected, spread, strict=True))
        return sum(off) / len(bands)

    given = range(len(bands))
    as_given = distance(given)
    if as_given < MIXED_UP or len(bands) > _MOST_PERMUTED:
        return BandOrder(as_given, tuple(bands), as_given)
    best = min(permutations(given), key=distance)
    names = sorted(zip(best, bands, strict=True))  # the means of band best[k] are those of bands[k]
    return BandOrder(as_given, tuple(name for _, name in names), distance(best))
