"""Granules: one date of one tile of an agency's product, with a file per band.

Two products are known: Harmonized Landsat Sentinel-2 (HLS user guide v2.0) and Sentinel-2 in the SAFE
format, L1C and L2A (Sentinel-2 product specification document). A `BandFile` has the scale and offset from stored
values to reflectance 0..1.
"""

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from xml.etree import ElementTree

from ..bands import SENSORS, resolve_band
from ..errors import DataError
from .quality import QualityKind
from .scene import BandFile, QualityFile

#: The sensors' codes of reflectance bands, in the sensor's order.
_CODES = {
    sensor: {band: code for code, band in SENSORS[sensor].items() if not band.startswith("THERMAL")}
    for sensor in ("hls_s30", "hls_l30", "sentinel2")
}

_HLS_NAME = r"HLS\.[SL]30\.T\d{2}[A-Z]{3}\.\d{7}T\d{6}\.v\d+\.\d+"
_HLS_GRANULE = re.compile(rf"{_HLS_NAME}\.?")
_HLS_FILE = re.compile(rf"(?P<granule>{_HLS_NAME})\.(?P<layer>B\d[\dA]|Fmask|[SV][AZ]A)\.tif")
_HLS_EXAMPLE = "HLS.S30.T10SEH.2018190T184921.v2.0"

_SAFE_IMAGE = re.compile(
    r"(?P<tile>T\d{2}[A-Z]{3})_(?P<time>\d{8}T\d{6})_(?P<layer>B\d[\dA]|SCL)(?P<resolution>(_\d0m)?)\.jp2"
)
#: The elements of each level's metadata that hold the divisor, and the number added before dividing.
_SAFE_METADATA = {
    "MTD_MSIL2A.xml": ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET"),
    "MTD_MSIL1C.xml": ("QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET"),
}


@dataclass(frozen=True)
class Granule:
    """One date of one tile of an agency's product, with a file per band.

    Attributes:
        name: The agency's name, without band or suffix.
        sensor: One of `prithvi_tg.bands.SENSORS`.
        tile: Its tile in the military grid, such as ``T10SEH``.
        date: Date of acquisition.
        files: File of each band, by canonical name; scale and offset convert to reflectance 0..1.
        quality: Its Fmask or scene classification, if there is one.
    """

    name: str
    sensor: str
    tile: str
    date: date
    files: Mapping[str, BandFile]
    quality: QualityFile | None = None

    def band_files(self, bands: Sequence[str]) -> list[BandFile]:
        """Files of some bands, in the order of `bands`.

        Args:
            bands: Canonical names (``NIR_NARROW``) or the sensor's (``B8A``).

        Raises:
            DataError: The granule lacks a band.
            ConfigError: A band is unknown.
        """
        wanted = [resolve_band(band, self.sensor) for band in bands]
        missing = [f"{band} ({self._expected(band)})" for band in wanted if band not in self.files]
        if missing:
            found = ", ".join(self.files) or "no band"
            raise DataError(f"{self.name}: lacks {', '.join(missing)}; found {found}")
        return [self.files[band] for band in wanted]

    def _expected(self, band: str) -> str:
        code = _CODES[self.sensor].get(band)
        if code is None:
            return f"no reflectance band of {self.sensor}"
        if self.sensor == "sentinel2":
            return f"{self.tile}_{self.date:%Y%m%d}T*_{code}*.jp2"
        return f"{self.name}.{code}.tif"


def is_hls_file(path: str | Path) -> bool:
    """Whether a file is named as a band or layer of an HLS v2.0 granule."""
    return _HLS_FILE.fullmatch(_last_part(path)) is not None


def is_hls_prefix(path: str | Path) -> bool:
    """Whether a path is the common prefix of the files of an HLS granule, and no file or folder itself."""
    if _HLS_GRANULE.fullmatch(_last_part(path)) is None:
        return False
    return _is_remote(path) or not Path(path).exists()


def hls_granules(files: Iterable[str | Path]) -> list[Granule]:
    """HLS granules from their files, in the order of tile, date and name.

    Args:
        files: Files of any number of granules; see `is_hls_file`. Angles and thermal bands are skipped.

    Raises:
        DataError: A name is not that of an HLS file, its date does not exist, or two files hold one band.
    """
    layers: dict[str, dict[str, str]] = {}
    for path in files:
        match = _HLS_FILE.fullmatch(_last_part(path))
        if match is None:
            raise DataError(f"{path}: not the name of an HLS file, such as {_HLS_EXAMPLE}.B02.tif")
        first = layers.setdefault(match["granule"], {}).setdefault(match["layer"], str(path))
        if first != str(path):
            raise DataError(f"{path}: contains the same band as {first}; give only one of them")
    granules = [_hls_granule(name, held) for name, held in layers.items()]
    return sorted(granules, key=lambda granule: (granule.tile, granule.date, granule.name))


def hls_granule(prefix: str | Path) -> Granule:
    """The HLS granule whose files begin with a prefix.

    Args:
        prefix: Folder and name without a band, with or without the dot after it. For a local prefix, the existing
            files are used. A remote prefix (``/vsi...`` or ``scheme://``) may not be listable, so every band of the
            sensor and the Fmask are assumed to exist.

    Raises:
        DataError: The prefix is not named as an HLS granule, or no local file begins with it.
    """
    name = _last_part(prefix).removesuffix(".")
    if not _HLS_GRANULE.fullmatch(name):
        raise DataError(f"{prefix}: not the name of an HLS granule (without band), such as {_HLS_EXAMPLE}")
    if _is_remote(prefix):
        layers = (*_CODES[_hls_sensor(name)].values(), "Fmask")
        return hls_granules(f"{str(prefix).removesuffix('.')}.{layer}.tif" for layer in layers)[0]
    folder = Path(prefix).parent
    files = [path for path in folder.glob("HLS.*.tif") if is_hls_file(path)]
    ours = [path for path in files if path.name.startswith(f"{name}.")]
    if not ours:
        found = ", ".join(sorted(path.name for path in files)[:3]) or "no HLS file"
        raise DataError(f"{prefix}: {folder} must contain {name}.B02.tif and the other bands; found {found}")
    return hls_granules(ours)[0]


def safe_granule(folder: str | Path, bands: Sequence[str]) -> Granule:
    """The granule in a Sentinel-2 folder, ``.SAFE``, of level L1C or L2A.

    L2A products contain a band at several resolutions. The finest resolution with all wanted bands is used; without
    one, the finest of each band. The same holds for the scene classification.

    Args:
        folder: The folder with ``MTD_MSIL2A.xml`` or ``MTD_MSIL1C.xml``.
        bands: Bands that will be read, canonical names or Sentinel-2's.

    Raises:
        DataError: The folder lacks its metadata, its images or a wanted band, or the metadata is damaged.
        ConfigError: A band is unknown.
    """
    folder = Path(folder)
    metadata = next((folder / name for name in _SAFE_METADATA if (folder / name).is_file()), None)
    if metadata is None:
        names = " nor ".join(_SAFE_METADATA)
        raise DataError(f"{folder}: not a Sentinel-2 .SAFE folder; it contains neither {names}")
    images: dict[str, dict[str, str]] = {}
    sensed = set()
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*.jp2")):
        if match := _SAFE_IMAGE.fullmatch(path.name):
            images.setdefault(match["resolution"], {})[match["layer"]] = str(path)
            sensed.add((match["tile"], match["time"]))
    if len(sensed) != 1:
        found = ", ".join("_".join(names) for names in sorted(sensed)) or "none"
        raise DataError(
            f"{folder}: GRANULE/*/IMG_DATA must contain .jp2 files of one tile and time; found {found}"
        )
    tile, time = sensed.pop()
    codes = _CODES["sentinel2"]
    wanted = {codes.get(resolve_band(band, "sentinel2")) for band in bands}
    resolutions = sorted(images)
    complete = [resolution for resolution in resolutions if images[resolution].keys() >= wanted]
    chosen = ChainMap(*(images[resolution] for resolution in [*complete[:1], *resolutions]))
    divisor, offsets = _safe_scaling(metadata, [code for code in codes.values() if code in chosen])
    granule = Granule(
        name=folder.absolute().name.removesuffix(".SAFE"),
        sensor="sentinel2",
        tile=tile,
        date=_date(time[:8], "%Y%m%d", folder),
        files={
            band: BandFile(chosen[code], 1, 1 / divisor, offsets[code] / divisor, nodata=(0.0,))
            for band, code in codes.items()
            if code in chosen
        },
        quality=_quality(chosen, "SCL", "scl"),
    )
    granule.band_files(bands)
    return granule


def _hls_granule(name: str, layers: Mapping[str, str]) -> Granule:
    sensor = _hls_sensor(name)
    _, _, tile, time, *_ = name.split(".")
    # Some files lack the tag of their nodata value, -9999.
    files = {
        band: BandFile(layers[code], 1, scale=0.0001, nodata=(-9999.0,))
        for band, code in _CODES[sensor].items()
        if code in layers
    }
    day = _date(time.split("T")[0], "%Y%j", name)
    return Granule(name, sensor, tile, day, files, _quality(layers, "Fmask", "fmask"))


def _hls_sensor(name: str) -> str:
    return f"hls_{name.split('.')[1].lower()}"


def _quality(layers: Mapping[str, str], layer: str, kind: QualityKind) -> QualityFile | None:
    return QualityFile(layers[layer], 1, kind) if layer in layers else None


def _safe_scaling(metadata: Path, codes: Iterable[str]) -> tuple[float, dict[str, float]]:
    divisor_name, offset_name = _SAFE_METADATA[metadata.name]
    try:
        root = ElementTree.parse(metadata).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(f"{metadata}: not readable as XML ({error}); download the product again") from error

    def number(name: str, element: ElementTree.Element | None) -> float:
        text = element.text if element is not None else None
        try:
            return float(text or "")
        except ValueError:
            raise DataError(f"{metadata}: {name} is {text or 'missing'}; a number is expected") from None

    divisor = number(divisor_name, root.find(f".//{{*}}{divisor_name}"))
    if not divisor > 0:
        raise DataError(f"{metadata}: {divisor_name} is {divisor:g}; a positive number is expected")
    elements = {element.get("band_id"): element for element in root.iterfind(f".//{{*}}{offset_name}")}
    if not elements:  # before processing baseline 04.00
        return divisor, dict.fromkeys(codes, 0.0)
    ids = {code: str(index) for index, code in enumerate(SENSORS["sentinel2"])}
    return divisor, {
        code: number(f'{offset_name} band_id="{ids[code]}" of {code}', elements.get(ids[code]))
        for code in codes
    }


def _date(text: str, layout: str, source: object) -> date:
    try:
        day = datetime.strptime(text, layout).date()
    except ValueError:
        day = None
    # Python reads day 366 of a common year as the first of the next.
    if day is None or f"{day:{layout}}" != text:
        raise DataError(f"{source}: {text} is not a date in the form {layout}")
    return day


def _last_part(path: str | Path) -> str:
    return re.split(r"[/\\]", str(path))[-1]


def _is_remote(path: str | Path) -> bool:
    return str(path).startswith("/vsi") or "://" in str(path)
