import base64
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from prithvi_tg import Sen1Floods11DataModule
from prithvi_tg.checkpoints import find_weights
from prithvi_tg.datasets import HLSBurnScars, Sen1Floods11, download
from prithvi_tg.datasets.download import download_archives, download_files, unpack
from prithvi_tg.datasets.synthetic import write_hls_burn_scars
from prithvi_tg.errors import DataError


class Handler(BaseHTTPRequestHandler):
    """A server with the features that downloads need: ranges, Google's hashes, and file metadata of the hub."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        content = server.files.get(self.path.partition("?")[0])
        if content is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        lie = b"something else" if server.wrong_hash else content
        self.send_header(
            "x-goog-hash", f"crc32c=AAAA,md5={base64.b64encode(hashlib.md5(lie).digest()).decode()}"
        )
        self.send_header("ETag", f'"{hashlib.sha256(lie).hexdigest()}"')
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(lie).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if body:
            if server.break_after and not start:
                self.wfile.write(part[: server.break_after])
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(part)


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests = {}, []
    server.break_after, server.wrong_hash = 0, False
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def visible(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_are_downloaded_completely_and_only_once(server, tmp_path):
    server.files = {"/a/x.tif": b"x" * 5000, "/a/y.tif": b"y"}
    for _ in range(2):
        download_files(server.url, ["a/x.tif", "a/y.tif"], tmp_path / "data")
    assert (tmp_path / "data" / "a" / "x.tif").read_bytes() == b"x" * 5000
    assert len(server.requests) == 2


def test_an_interrupted_transfer_is_resumed(server, tmp_path):
    content = bytes(range(256)) * 1200
    server.files = {"/x.tif": content}
    server.break_after = 150_000
    download_files(server.url, ["x.tif"], tmp_path)
    assert (tmp_path / "x.tif").read_bytes() == content
    assert server.requests[-1][2] == "bytes=131072-"  # what had arrived, in whole chunks


def test_a_file_with_a_wrong_checksum_is_discarded(server, tmp_path):
    server.files = {"/x.tif": b"x"}
    server.wrong_hash = True
    with pytest.raises(
        DataError, match=r"x\.tif: its MD5 is .* but the published one is .*; the file was discarded"
    ):
        download_files(server.url, ["x.tif"], tmp_path)
    assert visible(tmp_path) == []


def test_a_file_that_is_not_published_is_named(server, tmp_path):
    with pytest.raises(DataError, match=r"gone\.tif: cannot be downloaded \(HTTP 404\)"):
        download_files(server.url, ["gone.tif"], tmp_path)


def test_floods_download_the_chips_of_the_list(server, tmp_path, flood_root, monkeypatch):
    for path in flood_root.rglob("*_*.tif"):
        server.files[f"/{path.relative_to(flood_root)}"] = path.read_bytes()
    monkeypatch.setitem(download.SOURCES, "sen1floods11", server.url)
    root = tmp_path / "floods"
    data = Sen1Floods11DataModule(root, splits=flood_root / "splits.csv", download=True, batch_size=1)
    data.prepare_data()
    data.setup("fit")
    assert len(Sen1Floods11(root, "train", flood_root / "splits.csv")) == 3
    assert len(server.requests) == 12


def archive(folder, extra=()):
    """A gzipped tar of a folder, as bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for path in sorted(folder.rglob("*")):
            file.add(path, path.relative_to(folder), recursive=False)
        for member, content in extra:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def hub(server, tmp_path):
    """A hub with a small burn-scar archive."""
    write_hls_burn_scars(tmp_path / "made", chips=6, size=32)
    extra = [(tarfile.TarInfo("training/._subsetted_merged.tif"), b"macOS")]
    server.files["/datasets/o/burn/resolve/main/burn.tar.gz"] = archive(tmp_path / "made", extra)
    return server


def test_archives_of_the_hub_are_unpacked_once(hub, tmp_path):
    root = tmp_path / "data"
    download_archives("hf://datasets/o/burn", ["burn.tar.gz"], root, endpoint=hub.url)
    assert len(HLSBurnScars(root, "train")) == 4
    assert not list(root.rglob("._*"))
    assert not list(root.rglob("*.part"))
    asked = len(hub.requests)
    download_archives("hf://datasets/o/burn", ["burn.tar.gz"], root, endpoint=hub.url)
    assert len(hub.requests) == asked


def test_an_archive_of_the_hub_with_a_wrong_checksum_is_discarded(hub, tmp_path):
    hub.wrong_hash = True
    with pytest.raises(DataError, match=r"burn\.tar\.gz: its SHA-256 is .* the file was discarded"):
        download_archives("hf://datasets/o/burn", ["burn.tar.gz"], tmp_path / "data", endpoint=hub.url)
    assert not (tmp_path / "data").exists()


def test_an_error_about_an_unpublished_archive_gives_advice(server, tmp_path):
    with pytest.raises(DataError, match=r"gone\.tgz: cannot be downloaded .* by hand"):
        download_archives("hf://datasets/o/burn", ["gone.tgz"], tmp_path / "data", endpoint=server.url)


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../outside.tif"),
        tarfile.TarInfo("/tmp/outside.tif"),
        link("a.tif", "/etc/passwd"),
        link("b.tif", "c.tif"),
    ],
    ids=["parent", "absolute", "link outside", "link"],
)
def test_archives_cannot_write_outside_their_folder(tmp_path, member):
    (tmp_path / "empty").mkdir()
    (tmp_path / "evil.tgz").write_bytes(
        archive(tmp_path / "empty", [(member, b"x" if not member.linkname else b"")])
    )
    root = tmp_path / "deep" / "root"
    try:
        unpack(tmp_path / "evil.tgz", root)
    except DataError:
        pass
    else:  # Python strips a leading slash and so keeps the file inside
        assert member.name.startswith("/")
    assert not (tmp_path / "deep" / "outside.tif").exists()
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "burn.tgz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"burn\.tgz: not a readable archive"):
        unpack(tmp_path / "burn.tgz", tmp_path / "data")


def test_weights_are_downloaded_from_the_configured_endpoint_and_then_cached(server, tmp_path, monkeypatch):
    server.files["/me/mine/resolve/main/sub/w.pt"] = b"weights"
    code = "from prithvi_tg.checkpoints import find_weights; print(find_weights('hf://me/mine/sub/w.pt'))"
    settings = {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    run = subprocess.run(  # the hub's library reads its settings when it is imported
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, check=True
    )
    found = Path(run.stdout.strip())
    assert found.read_bytes() == b"weights"
    assert found.is_relative_to(tmp_path / "hub")
    server.files.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find_weights("hf://me/mine/sub/w.pt") == found
