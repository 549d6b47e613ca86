"""Which label each pixel has: one reader for chips and for label layers."""

import numpy as np
import pytest
import rasterio

from prithvi_tg.datasets import ChipFolder
from prithvi_tg.datasets.scenes.labels import LabelRaster
from prithvi_tg.errors import ConfigError, DataError, PrithviTGError

PLACE = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)
CLASSES = {0: "Land", 1: "Water", 7: "Ice"}


def write(path, values, mask=None, **profile):
    values = np.asarray(values)
    values = values if values.ndim == 3 else values[None]
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=len(values), height=values.shape[1], width=values.shape[2],
            dtype=values.dtype, crs="EPSG:32615", transform=PLACE, **profile,
        ) as out,
    ):  # fmt: skip
        out.write(values)
        if mask is not None:
            out.write_mask(mask)
    return path


def by_chip(folder, labels, classes=CLASSES, **options):
    write(folder / "im_a.tif", np.ones((2, *np.asarray(labels).shape[-2:]), "float32"))
    write(folder / "lb_a.tif", labels, **options)
    (folder / "splits.csv").write_text("chip,split\na,train\n")
    chips = ChipFolder(
        str(folder / "im_*.tif"), str(folder / "lb_*.tif"), folder / "splits.csv", classes, ["RED", "GREEN"],
        [1.0] * 2, [1.0] * 2,
    )  # fmt: skip
    return chips[0]["mask"].numpy()


def by_layer(folder, labels, classes=CLASSES, **options):
    path = write(folder / "lb.tif", labels, **options)
    raster = LabelRaster(path, {value: number for number, value in enumerate(classes)})
    return raster[raster.bounds]["mask"].numpy()


both = pytest.mark.parametrize("read", [by_chip, by_layer])


@both
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_stored_values_become_classes(tmp_path, read, dtype):
    assert read(tmp_path, np.array([[0, 1, 7]], dtype)).tolist() == [[0, 1, 2]]


@both
@pytest.mark.parametrize(
    ("dtype", "tag"), [("int16", -9999), ("uint8", 255), ("float32", np.nan), ("float32", -1)]
)
def test_the_nodata_tag_means_not_labelled(tmp_path, read, dtype, tag):
    labels = np.array([[0, 1, 7]]).astype(dtype)
    labels[0, 1] = tag
    assert read(tmp_path, labels, nodata=tag).tolist() == [[0, 255, 2]]


@both
def test_nan_means_not_labelled(tmp_path, read):
    assert read(tmp_path, np.array([[0, np.nan, 7]], "float32")).tolist() == [[0, 255, 2]]


@both
def test_a_mask_means_not_labelled(tmp_path, read):
    mask = np.array([[255, 0, 255]], np.uint8)
    assert read(tmp_path, np.array([[0, 1, 7]], np.uint8), mask=mask).tolist() == [[0, 255, 2]]


@both
def test_a_class_equal_to_the_nodata_tag_is_an_error_that_names_both(tmp_path, read):
    with pytest.raises(ConfigError, match=r"classes: value 7 .*nodata tag"):
        read(tmp_path, np.array([[0, 1, 7]], np.uint8), nodata=7)


@both
@pytest.mark.parametrize("value", [0.999, 6.5, -0.25])
def test_fractions_are_refused(tmp_path, read, value):
    with pytest.raises(DataError, match="is not a whole number"):
        read(tmp_path, np.array([[0, value, 7]], "float32"))


@both
@pytest.mark.parametrize("bands", [2, 3])
def test_several_bands_are_refused(tmp_path, read, bands):
    with pytest.raises(DataError, match=f"has {bands} bands"):
        read(tmp_path, np.zeros((bands, 2, 2), "int16"))


@both
def test_complex_labels_are_refused(tmp_path, read):
    with pytest.raises(DataError, match="complex64"):
        read(tmp_path, np.zeros((2, 2), "complex64"))


@both
def test_a_value_without_a_class_is_refused(tmp_path, read):
    with pytest.raises(DataError, match=r"not one of the 3 classes|not in classes"):
        read(tmp_path, np.array([[0, 1, 8]], np.uint8))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({0: "Water"}, "segmentation needs at least two"),
        ({0: "Water", 1: "Water"}, "segmentation needs at least two"),
        ({0: "Water", 1: ""}, "1 has no name"),
        ({0: "Water", 1: " "}, "1 has no name"),
        ({k: f"class {k}" for k in range(256)}, "256 named; at most 255"),
    ],
)
def test_classes_that_cannot_be_segmented_are_refused_in_one_line(tmp_path, classes, message):
    with pytest.raises(PrithviTGError, match=message) as error:
        by_chip(tmp_path, np.zeros((2, 2), "uint8"), classes)
    assert "\n" not in str(error.value)


def test_255_classes_are_read(tmp_path):
    labels = np.arange(255, dtype="uint8").reshape(15, 17)
    classes = {k: f"class {k}" for k in range(255)}
    assert (by_chip(tmp_path, labels, classes) == labels).all()
