"""A changed source of a raster changes its fingerprint; reading it does not."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import rasterio

from prithvi_tg.readers.fingerprint import fingerprint


def write(path, value=1):
    with rasterio.open(path, "w", driver="GTiff", count=1, height=4, width=4, dtype="uint8") as out:
        out.write(np.full((1, 4, 4), value, "uint8"))
    return path


def vrt(path, source):
    path.write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def touch(path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_changed_file_is_detected_also_in_a_vrt(tmp_path, depth):
    source = path = write(tmp_path / "a.tif")
    for number in range(depth):
        path = vrt(tmp_path / f"{number}.vrt", path)
    before = fingerprint(str(path))
    assert fingerprint(str(path)) == before
    touch(source)
    assert fingerprint(str(path)) != before


def test_a_sidecar_file_of_a_gis_is_not_a_change(tmp_path):
    path = write(tmp_path / "a.tif")
    before = fingerprint(str(path))
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    assert fingerprint(str(path)) == before


def test_an_unreadable_file_has_no_fingerprint(tmp_path):
    assert fingerprint(str(tmp_path / "none.tif"))["states"] == {}


@pytest.fixture
def server(tmp_path):
    """A server of the folder, in a separate process: GDAL holds Python's lock while it opens a URL."""
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", tmp_path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        port = re.search(r"port (\d+)", process.stdout.readline()).group(1)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def test_a_changed_remote_file_is_detected(tmp_path, server):
    path = write(tmp_path / "a.tif")
    before = fingerprint(f"{server}/a.tif")
    assert before["states"]
    assert fingerprint(f"{server}/a.tif") == before
    touch(path)
    assert fingerprint(f"{server}/a.tif") != before
