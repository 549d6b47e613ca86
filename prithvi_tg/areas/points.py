"""Points of a sample as a GeoPackage or CSV, to be labelled in a GIS or a labelling tool."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, counted
from ..files import finished_file
from .design import Design
from .maps import ClassMap
from .sampling import Points

#: Mark in the column ``reference`` of a point that nobody can label.
UNINTERPRETABLE = "uninterpretable"
#: Reference of points with this mark, among the numbers of classes.
LEFT_OUT = -1

_POINTS, _DESIGN = "points", "design"
_MOST = 10  # wrong labels that an error lists
_SUFFIXES = (".gpkg", ".csv")


def check_outputs(paths: Sequence[Path], overwrite: bool) -> None:
    """Check the names of files of points before any work.

    Raises:
        ConfigError: A file exists, or has another ending than .gpkg or .csv.
    """
    for path in paths:
        if path.suffix.lower() not in _SUFFIXES:
            raise ConfigError(f"output: {path} is neither a GeoPackage (.gpkg) nor a table (.csv)")
        for file in (path, design_path(path)) if path.suffix.lower() == ".csv" else (path,):
            if file.exists() and not overwrite:
                raise ConfigError(f"output: {file} exists; add overwrite=True to replace it and its labels")


def design_path(path: Path) -> Path:
    """The file with the design beside a table of points."""
    return path.with_suffix(".design.json")


def point_table(design: Design, points: Points, maps: Sequence[ClassMap]) -> pd.DataFrame:
    """The points as a table, with empty columns for labels.

    Args:
        design: The design of the sample.
        points: The drawn pixels, in the design's order.
        maps: The maps.
    """
    empty: NDArray[Any] = np.full(design.size, None, object)
    return pd.DataFrame(
        {
            "id": np.arange(1, design.size + 1),
            "longitude": points.longitudes,
            "latitude": points.latitudes,
            "reference": empty,
            "comment": empty,
            "stratum": [design.strata[number].name for number in design.stratum_of],
            "map_code": [design.codes[number] for number in design.class_of],
            "map_class": [design.classes[number] for number in design.class_of],
            "map": [maps[number].name() for number in points.maps],
            "row": points.rows,
            "column": points.columns,
            "square_metres": points.square_metres,
        }
    )


def write_points(path: Path, table: pd.DataFrame, design: Design) -> None:
    """Write points with their design: a GeoPackage with the layers ``points`` and ``design``, or a CSV and a JSON file.

    Raises:
        DataError: A file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".csv":
            with finished_file(design_path(path)) as partial:
                partial.write_text(design.to_json() + "\n")
            with finished_file(path) as partial:
                table.to_csv(partial, index=False)
            return
        with finished_file(path.with_suffix(".gpkg")) as partial:
            # GDAL's driver needs the ending.
            file = partial.with_suffix(".gpkg")
            try:
                places = shapely.points(table["longitude"], table["latitude"])
                frame = GeoDataFrame(table, geometry=places, crs="EPSG:4326")
                pyogrio.write_dataframe(frame, file, layer=_POINTS, driver="GPKG")
                pyogrio.write_dataframe(
                    pd.DataFrame({"json": [design.to_json()]}),
                    file,
                    layer=_DESIGN,
                    driver="GPKG",
                    append=True,
                )
                file.replace(partial)
            finally:
                file.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def read_points(path: Path, design_file: Path | None = None) -> tuple[Design, NDArray[np.int64]]:
    """Read labelled points.

    Args:
        path: A GeoPackage or CSV that `write_points` wrote, or any vector file or table with the columns ``id`` and
            ``reference``.
        design_file: The design, if it is not with the points: a ``.design.json``, or the GeoPackage of the sample.

    Returns:
        The design, and the class of each of its points (n,) by its reference; `LEFT_OUT` for points that cannot be
        interpreted.

    Raises:
        DataError: A file cannot be read, the points are not those of the design, or a label is missing or unknown.
    """
    design = _read_design(design_file or path)
    table = _read_table(path)
    for column in ("id", "reference"):
        if column not in table:
            raise DataError(
                f"{path}: has no column {column}; columns are {', '.join(map(str, table.columns))}"
            )
    ids = pd.to_numeric(table["id"], errors="coerce").fillna(0).to_numpy().astype(int)
    _check_ids(path, ids, design.size)
    table = table.iloc[np.argsort(ids)]
    _check_drawn(path, table, design)
    words = table["reference"].to_numpy()
    known = {str(code): number for number, code in enumerate(design.codes)}
    known |= {name.lower(): number for number, name in enumerate(design.classes)}
    known[UNINTERPRETABLE] = LEFT_OUT
    labels = ["" if pd.isna(word) else str(word).strip() for word in words]
    texts = [label.lower().removesuffix(".0") for label in labels]  # numbers with gaps are read as floats
    if unlabelled := [number for number, text in enumerate(texts, start=1) if not text]:
        raise DataError(
            f"{path}: {len(unlabelled)} of {design.size} points without a reference (the first is id {unlabelled[0]}); "
            f"label each point, or write {UNINTERPRETABLE} if that is impossible"
        )
    wrong: dict[str, list[int]] = {}
    for number, (label, text) in enumerate(zip(labels, texts, strict=True), start=1):
        if text not in known:
            wrong.setdefault(label, []).append(number)
    if wrong:
        listed = ", ".join(f"{label!r} of {_listed(numbers)}" for label, numbers in [*wrong.items()][:_MOST])
        more = f" and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
        raise DataError(
            f"{path}: reference {listed}{more} {'is' if len(wrong) == 1 else 'are'} not a class; classes are "
            f"{', '.join(design.classes)}, or {UNINTERPRETABLE}"
        )
    return design, np.array([known[text] for text in texts], np.int64)


def _listed(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"id {', '.join(map(str, ids[:3]))}{more}"


def _check_ids(path: Path, ids: NDArray[np.int64], size: int) -> None:
    found, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise DataError(
            f"{path}: id {found[times > 1][0]} occurs twice; each point of the sample must have one row"
        )
    if len(missing := np.setdiff1d(np.arange(1, size + 1), found)) or len(ids) > size:
        raise DataError(
            f"{path}: {counted(len(ids), 'point')}, but the sample of the design has {size}"
            + (f"; id {missing[0]} is missing" if len(missing) else "")
            + f"; keep all points, and mark those that cannot be labelled as {UNINTERPRETABLE}, or give the "
            "design of these points"
        )


def _check_drawn(path: Path, table: pd.DataFrame, design: Design) -> None:
    """Check that those columns that `write_points` wrote are still those of the design."""
    drawn = {
        "stratum": [design.strata[number].name for number in design.stratum_of],
        "map_class": [design.classes[number] for number in design.class_of],
    }
    for column in drawn.keys() & set(table.columns):
        pairs = zip(table[column].astype(str), drawn[column], strict=True)
        for number, (found, expected) in enumerate(pairs, start=1):
            if found != expected:
                raise DataError(
                    f"{path}: {column} of id {number} is {found}, but {expected} in the design, which belongs to "
                    "another sample; give the design that area sample wrote with these points"
                )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(
                path, dtype={"reference": str}, sep=None, engine="python", encoding="utf-8-sig"
            )
        layers = [name for name, _ in pyogrio.list_layers(path) if name != _DESIGN]
        layer = _POINTS if _POINTS in layers else layers[0]
        return pyogrio.read_dataframe(path, layer=layer, read_geometry=False)
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as points ({error})".replace("\n", " ")) from error


def _read_design(path: Path) -> Design:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    beside = path if path.suffix == ".json" else design_path(path)
    try:
        if path.suffix.lower() != ".json" and path.suffix.lower() != ".csv":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if _DESIGN in [name for name, _ in pyogrio.list_layers(path)]:
                    text = pyogrio.read_dataframe(path, layer=_DESIGN)["json"].iloc[0]
                    return Design.from_json(text, str(path))
        if beside.exists():
            return Design.from_json(beside.read_text(), str(beside))
    except (OSError, UnicodeDecodeError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: the design cannot be read ({error})") from error
    raise DataError(
        f"{path}: has no design of the sample, and {beside.name} is not beside it; give the GeoPackage or the "
        ".design.json that area sample wrote, as the design"
    )
