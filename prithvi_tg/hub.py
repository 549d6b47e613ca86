"""Files of weights by name: paths, addresses, repositories of the Hugging Face hub, published encoders."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlparse

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from .errors import CheckpointError
from .models import Encoder
from .models.encoders.prithvi import VARIANTS

#: Weights of a task in a repository of the hub, if no other file is named.
WEIGHTS_FILE = "model.safetensors"
#: Errors of huggingface_hub and of its HTTP client (requests, httpx or httpx2, by version) without network or access.
HUB_ERRORS: tuple[type[Exception], ...] = (
    *(one for one in HfHubHTTPError.__bases__ if issubclass(one, Exception)),
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    OSError,
)
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository of the Hugging Face hub.

    Attributes:
        repo: ``OWNER/REPOSITORY``.
        file: Path of the file in the repository.
        revision: Branch, tag or commit; by default the main branch.
    """

    repo: str
    file: str = WEIGHTS_FILE
    revision: str | None = None

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse ``hf://OWNER/REPOSITORY[@REVISION][/FILE]``; the file is `WEIGHTS_FILE` by default.

        Raises:
            CheckpointError: The address has another form.
        """
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise CheckpointError(
                f"weights: {address!r} must be hf://OWNER/REPOSITORY/FILE, or hf://OWNER/REPOSITORY for its "
                f"{WEIGHTS_FILE}; a revision is given as hf://OWNER/REPOSITORY@REVISION"
            )
        return cls(found["repo"], found["file"] or WEIGHTS_FILE, found["revision"])

    def download(self) -> Path:
        """The file in the cache of huggingface_hub, downloaded if it is not there.

        Raises:
            CheckpointError: The file is not in the cache and cannot be downloaded.
        """
        try:
            return Path(hf_hub_download(self.repo, self.file, revision=self.revision))
        except HUB_ERRORS as error:
            at = f" at {self.revision}" if self.revision else ""
            raise CheckpointError(
                f"weights: {self.file} of {self.repo}{at} is not in the cache and cannot be downloaded; give the path "
                "of a local copy, or null to start from random weights"
            ) from error


def local_path(source: str | Path) -> Path:
    """The path of a file; one with an address, ``hf://`` or ``https://``, is downloaded, see `find_weights`.

    Raises:
        CheckpointError: The file cannot be downloaded.
    """
    return find_weights(source) if "://" in str(source) else Path(source)


def find_weights(source: str | Path, encoder: Encoder | None = None) -> Path:
    """The file of weights of a name, downloaded if it is not in the cache.

    Args:
        source: A path; ``pretrained``, the published weights of `encoder`; ``hf://OWNER/REPOSITORY/FILE``, see
            `HubFile.parse`; an ``https://`` URL; or a published encoder of `VARIANTS`. Downloads from the hub go
            through huggingface_hub, and use its cache, ``HF_HUB_OFFLINE`` and ``HF_ENDPOINT``; others use the cache of
            ``torch.hub``.
        encoder: Encoder of ``pretrained``.

    Raises:
        CheckpointError: The file is missing and cannot be downloaded.
    """
    name = str(source)
    if name == "pretrained":
        if encoder is None or encoder.pretrained is None:
            raise CheckpointError(
                "weights: none are published with this encoder; give a file, or null to start from random weights"
            )
        name = encoder.pretrained
    if name.startswith("https://"):
        return _download(name)
    if name.startswith("hf://"):
        return HubFile.parse(name).download()
    variant = VARIANTS.get(name)
    if variant is not None and variant.repo and variant.file:
        return HubFile(variant.repo, variant.file).download()
    return Path(source)


def _download(url: str) -> Path:
    """A file in the cache of torch.hub, which TorchGeo's own functions use, too."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = re.search(r"-([a-f0-9]{8,})\.", path.name)
    try:
        torch.hub.download_url_to_file(url, str(path), digest.group(1) if digest else None, progress=False)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointError(
            f"weights: {url} cannot be downloaded ({reason}); give the path of a local copy, or null to start from "
            "random weights"
        ) from error
    return path
