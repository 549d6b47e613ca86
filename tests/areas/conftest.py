"""Small maps of classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

UTM = Affine(30, 0, 600_000, 0, -30, 4_200_000)


@pytest.fixture
def write_map(tmp_path: Path) -> Callable[..., Path]:
    """Write a map of land and water as ``predict`` does: uint8, nodata 255, names as tags."""

    def write(
        classes: Any,
        name: str = "scene_pred.tif",
        crs: str | None = "EPSG:32615",
        transform: Affine = UTM,
        names: tuple[str, ...] = ("land", "water"),
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        classes = np.asarray(classes)
        settings = {"dtype": "uint8", "nodata": 255, **profile}
        height, width = classes.shape
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=1,
            height=height,
            width=width,
            crs=crs,
            transform=transform,
            **settings,
        ) as out:
            out.write(classes.astype(settings["dtype"]), 1)
            out.update_tags(1, **{f"CLASS_{code}": one for code, one in enumerate(names)})
        return path

    return write
