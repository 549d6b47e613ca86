"""Downloads of datasets. They can be resumed and are verified; a file gets its final name when it is complete."""

import base64
import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import requests
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

from ..errors import DataError

#: Address of each dataset. Addresses change: replace an entry to download from another one.
SOURCES = {
    "sen1floods11": "https://storage.googleapis.com/sen1floods11",
    "hls_burn_scars": "hf://datasets/nasa-impact/hls_burn_scars",
    "multi_temporal_crop": "hf://datasets/ibm-nasa-geospatial/multi-temporal-crop-classification",
}

_CHUNK = 1 << 16
_TIMEOUT = 60  # seconds without a byte
_TRIES = 5


def download_files(base_url: str, names: Iterable[str], root: Path) -> None:
    """Download files from an HTTP(S) address to the same relative paths in a folder.

    Existing files are skipped. An interrupted transfer is resumed. A file gets its final name when it is complete and
    matches the MD5 in the header ``x-goog-hash`` of Google's storage, if there is one.

    Args:
        base_url: Address that the names are relative to.
        names: Files, with ``/`` between folders.
        root: Folder to write to.

    Raises:
        DataError: A file cannot be downloaded, or differs from the published one.
    """
    wanted = [name for name in names if not (root / name).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns) as progress, requests.Session() as session:
        for name in progress.track(wanted, description="files"):
            _download(session, f"{base_url}/{name}", root / name)


def _download(session: requests.Session, url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    reason = ""
    for _ in range(_TRIES):
        try:
            published = _transfer(session, url, partial)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            reason = f"HTTP {status}"
            if status < 500:
                break
        except (requests.RequestException, OSError) as error:
            reason = str(error).split("\n")[0][:200]
        else:
            _check_md5(partial, published, url)
            partial.replace(path)
            return
    raise DataError(
        f"{url}: cannot be downloaded ({reason}); run the command again to resume, or save the file as {path}"
    )


def _transfer(session: requests.Session, url: str, partial: Path) -> Mapping[str, str]:
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            partial.unlink()  # it is as long as the file, or longer; start again
            raise requests.ConnectionError("the partial file does not match")
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
        expected = response.headers.get("Content-Length")
        received = partial.stat().st_size - (start if resumed else 0)
        if expected is not None and "Content-Encoding" not in response.headers and received != int(expected):
            raise requests.ConnectionError(f"the transfer stopped after {received} of {expected} bytes")
        return response.headers


def _check_md5(path: Path, headers: Mapping[str, str], url: str) -> None:
    for entry in headers.get("x-goog-hash", "").split(","):
        kind, _, value = entry.strip().partition("=")
        if kind == "md5":
            md5 = base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()
            if md5 != value:
                path.unlink()
                raise DataError(
                    f"{url}: its MD5 is {md5}, but the published one is {value}; the file was discarded"
                )


def download_archives(source: str, archives: Iterable[str], root: Path, endpoint: str | None = None) -> None:
    """Download archives of a dataset from the Hugging Face hub and unpack them into a folder.

    huggingface_hub downloads to its cache, resumes, and respects ``HF_HUB_OFFLINE``; this function verifies the
    published SHA-256.

    Args:
        source: ``hf://datasets/OWNER/NAME``.
        archives: tar files in that repository.
        root: Folder to unpack into.
        endpoint: Address of another server than the hub.

    Raises:
        DataError: An archive cannot be downloaded, differs from the published one, or has paths outside the folder.
    """
    repo = source.removeprefix("hf://datasets/")
    for name in archives:
        marker = root / f".{name}.unpacked"
        if marker.exists():
            continue
        try:
            published = get_hf_file_metadata(
                hf_hub_url(repo, name, repo_type="dataset", endpoint=endpoint), endpoint=endpoint
            ).etag
            path = Path(hf_hub_download(repo, name, repo_type="dataset", endpoint=endpoint))
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise DataError(
                f"{source}/{name}: cannot be downloaded ({reason}); unpack it into {root} by hand"
            ) from error
        _check_sha256(path, published, f"{source}/{name}")
        unpack(path, root)
        marker.touch()


def _check_sha256(path: Path, published: str | None, name: str) -> None:
    if published is None or len(published) != 64:
        return  # small files carry a git hash instead
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != published:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DataError(
            f"{name}: its SHA-256 is {sha256}, but the published one is {published}; the file was discarded"
        )


def unpack(archive: Path, root: Path) -> None:
    """Unpack a tar file; each file gets its final name when it is complete.

    The ``._`` files of macOS are skipped. Paths outside of the folder, links and devices are errors.

    Raises:
        DataError: The archive is damaged, or has such a member.
    """
    root.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    try:
        with tarfile.open(archive) as file, Progress(*columns) as progress:
            task = progress.add_task(archive.name, total=archive.stat().st_size)
            for member in file:
                name = Path(member.name)
                if name.name.startswith("._") or member.isdir():
                    continue
                member = tarfile.data_filter(member, str(root))
                content = file.extractfile(member) if member.isfile() else None
                if content is None:
                    raise DataError(
                        f"{archive}: {member.name} is not a regular file; only regular files are unpacked"
                    )
                target = root / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name}.part")
                with partial.open("wb") as out:
                    while chunk := content.read(_CHUNK):
                        out.write(chunk)
                partial.replace(target)
                progress.update(task, completed=member.offset_data + member.size)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: refused, {error}") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive}: not a readable archive ({error})") from error
