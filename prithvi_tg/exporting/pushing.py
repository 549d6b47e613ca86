"""Models on the Hugging Face hub: a folder with weights, description and model card, and its upload."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from huggingface_hub import HfApi

from ..errors import CheckpointError, ConfigError
from ..files import file_hash, writing
from ..hub import HUB_ERRORS, WEIGHTS_FILE, HubFile, local_path
from ..models.encoders.prithvi import VARIANTS
from ..tasks import load_task
from ..tasks.description import describe_task
from .card import CardText, model_card, read_metrics
from .formats import EXPORT_FORMATS, export_model
from .mlm import TASK_TYPES

#: Suffix -> name of an exported model in a repository.
_NAMES = {suffix: f"{suffix[1:]}/model{suffix}" for suffix in EXPORT_FORMATS} | {".safetensors": WEIGHTS_FILE}
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def write_folder(
    checkpoint: str | Path,
    repo: str,
    folder: Path,
    text: CardText | None = None,
    formats: Sequence[str] = (),
    metrics: Path | None = None,
) -> Path:
    """Write the files of a repository of the hub.

    These are ``model.safetensors``, the weights with the description that `load_task` reads; its STAC item,
    ``model.safetensors.json``; ``config.json``, the description for people; ``README.md``, the model card; and for each
    of `formats` a folder such as ``onnx`` with ``model.onnx`` and its item.

    Args:
        checkpoint: A checkpoint with a description of its data.
        repo: ``OWNER/REPOSITORY``.
        folder: The folder to write; it must be empty or absent.
        text: What only the author knows, for the model card.
        formats: Suffixes of exported models to add, keys of `EXPORT_FORMATS` such as ``.pt2``.
        metrics: A metrics.json with the scores of the checkpoint; by default that of its run, if it has one.

    Returns:
        The folder.

    Raises:
        ConfigError: The name of the repository or a format is invalid, or the folder is not empty.
        CheckpointError: The checkpoint cannot be read.
        DataError: The scores cannot be read, or the folder cannot be written.
    """
    check_repository(repo)
    if unknown := [suffix for suffix in formats if suffix not in EXPORT_FORMATS]:
        raise ConfigError(f"formats: {unknown[0]} is unknown; choose from {', '.join(EXPORT_FORMATS)}")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"dry_run: {folder} is not empty; choose another folder")
    path = local_path(checkpoint)
    task = load_task(path)
    if task.target_kind not in TASK_TYPES:
        raise ConfigError(
            f"ckpt_path: {path} comes from pretrain and has no task; push a model fine-tuned from it"
        )
    text = text or CardText()
    if text.base_model is None:
        text = replace(text, base_model=_base_model(path.absolute().parents[1] / "config.yaml"))
    if metrics is None and (found := path.absolute().parents[1] / "metrics.json").is_file():
        metrics = found
    scores = None if metrics is None else read_metrics(metrics)
    if scores is not None and scores.get("run", {}).get("checkpoint_sha256") not in (None, file_hash(path)):
        warnings.warn(
            f"metrics: {metrics} has the scores of a checkpoint other than {path}; the model card omits them",
            stacklevel=2,
        )
        scores = None
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in dict.fromkeys((".safetensors", *formats)):
            export_model(task, folder / _NAMES[suffix])
        (folder / "config.json").write_text(json.dumps(describe_task(task), indent=1) + "\n")
        names = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())
        (folder / "README.md").write_text(model_card(task, repo, text, scores, names))
    return folder


def push(
    checkpoint: str | Path,
    repo: str,
    text: CardText | None = None,
    formats: Sequence[str] = (),
    metrics: Path | None = None,
    private: bool = False,
    revision: str | None = None,
) -> str:
    """Upload a checkpoint to a repository of the Hugging Face hub, which is created if it does not exist.

    The login is that of huggingface_hub: ``hf auth login``, or the environment variable ``HF_TOKEN``.

    Args:
        checkpoint: See `write_folder`, also for `repo`, `text`, `formats` and `metrics`.
        repo: ``OWNER/REPOSITORY``.
        text: What only the author knows.
        formats: Suffixes of exported models to add.
        metrics: A metrics.json with scores.
        private: Create a private repository.
        revision: Branch to upload to; by default the main branch.

    Returns:
        The address ``hf://OWNER/REPOSITORY`` of the model, for `load_task` and ``--ckpt_path``.

    Raises:
        CheckpointError: The upload fails.
    """
    with TemporaryDirectory() as name:
        folder = write_folder(checkpoint, repo, Path(name) / "model", text, formats, metrics)
        api = HfApi()
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo, branch=revision, exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"Upload {Path(checkpoint).name} with prithvi_tg",
                revision=revision,
            )
        except HUB_ERRORS as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise CheckpointError(
                f"repo: {repo}: the upload failed ({reason}); log in with hf auth login, or write the folder with "
                "dry_run=FOLDER"
            ) from error
    return f"hf://{repo}" + (f"@{revision}" if revision else "")


def _base_model(config: Path) -> str | None:
    """Repository of the hub of the weights from which a run started, if its configuration names them."""
    try:
        arguments = yaml.safe_load(config.read_text())["model"]["init_args"]
        weights, encoder = arguments["weights"], arguments["encoder"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    if str(weights).startswith("hf://"):
        return HubFile.parse(weights).repo
    variant = VARIANTS.get(encoder if weights == "pretrained" else weights)
    return None if variant is None else variant.repo


def check_repository(repo: str) -> None:
    """Check the name of a repository.

    Raises:
        ConfigError: It is not ``OWNER/REPOSITORY``.
    """
    if not _REPOSITORY.fullmatch(repo):
        raise ConfigError(f"repo: {repo!r} must be OWNER/REPOSITORY, such as my-organisation/floods")
