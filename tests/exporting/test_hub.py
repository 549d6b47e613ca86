"""Repositories of the Hugging Face hub: what push uploads loads back, from hf:// addresses."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import rasterio
import yaml
from exported_models import MODELS
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError, LocalTokenNotFoundError

from prithvi_tg import load_task, map_scene
from prithvi_tg.errors import CheckpointError, ConfigError
from prithvi_tg.exporting import CardText, export_model, push, pushing, write_folder
from prithvi_tg.hub import HubFile


class Hub:
    """The hub in this process: repositories are folders, one per revision."""

    def __init__(self, root):
        self.root = root
        self.commits = []
        self.private = {}

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.private.setdefault(repo_id, private)

    def create_branch(self, repo_id, *, branch, exist_ok):
        assert exist_ok

    def upload_folder(self, *, repo_id, folder_path, commit_message, revision):
        assert repo_id in self.private
        shutil.copytree(folder_path, self.root / repo_id / (revision or "main"), dirs_exist_ok=True)
        self.commits.append((repo_id, revision, commit_message))

    def download(self, repo_id, filename, *, revision=None):
        path = self.root / repo_id / (revision or "main") / filename
        if not path.is_file():
            raise LocalEntryNotFoundError(f"{filename} is not in {repo_id}")
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("prithvi_tg.exporting.pushing.HfApi", lambda: hub)
    monkeypatch.setattr("prithvi_tg.hub.hf_hub_download", hub.download)
    return hub


@pytest.fixture
def weights(tmp_path):
    return export_model(MODELS["linear"](), tmp_path / "run" / "checkpoints" / "weights.safetensors")


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_a_pushed_checkpoint_loads_back_wherever_a_checkpoint_is_accepted(
    hub, trained, flood_root, config, tmp_path, command, monkeypatch
):
    code, out, _ = command("push", trained, "me/floods", "--license", "apache-2.0", "--formats", "pt2")
    assert code == 0
    assert "Uploaded: hf://me/floods" in out
    assert hub.commits == [("me/floods", None, "Upload best.ckpt with prithvi_tg")]
    assert hub.private == {"me/floods": False}
    uploaded = hub.root / "me" / "floods" / "main"
    names = sorted(path.relative_to(uploaded).as_posix() for path in uploaded.rglob("*") if path.is_file())
    assert names == [
        "README.md", "config.json", "model.safetensors", "model.safetensors.json", "pt2/model.pt2",
        "pt2/model.pt2.json",
    ]  # fmt: skip
    scene = flood_root / "scene.tif"
    expected = read(map_scene(trained, scene, tmp_path / "expected.tif"))
    np.testing.assert_array_equal(read(map_scene("hf://me/floods", scene, tmp_path / "a.tif")), expected)
    for number, words in enumerate(
        (("--ckpt_path", "hf://me/floods"), ("--model", "hf://me/floods/pt2/model.pt2"))
    ):
        assert command("predict", scene, *words, "--output", tmp_path / str(number))[0] == 0
        np.testing.assert_array_equal(read(tmp_path / str(number) / "scene_pred.tif"), expected)
    monkeypatch.chdir(tmp_path)
    assert command("test", "--config", config, "--ckpt_path", "hf://me/floods")[0] == 0
    more = ("--model.weights", "hf://me/floods", "--trainer.limit_train_batches", 1)
    assert command("fit", "--config", config, *more)[0] == 0


def test_a_revision_has_its_own_files(hub, weights):
    assert push(weights, "me/floods", private=True, revision="v2") == "hf://me/floods@v2"
    assert hub.private == {"me/floods": True}
    task = load_task("hf://me/floods@v2")
    assert task.data_spec == load_task(weights).data_spec
    with pytest.raises(CheckpointError, match=r"model\.safetensors of me/floods is not in the cache"):
        load_task("hf://me/floods")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://me/floods", ("me/floods", "model.safetensors", None)),
        ("hf://me/floods@v1.0", ("me/floods", "model.safetensors", "v1.0")),
        ("hf://me/floods/a/b.ckpt", ("me/floods", "a/b.ckpt", None)),
        ("hf://me/floods@abc/model.pt2", ("me/floods", "model.pt2", "abc")),
    ],
)
def test_an_address_has_a_repository_a_revision_and_a_file(address, parts):
    found = HubFile.parse(address)
    assert (found.repo, found.file, found.revision) == parts


@pytest.mark.parametrize("address", ["hf://floods", "hf://", "hf://me/floods@", "hf:///floods"])
def test_another_address_is_an_error(address):
    with pytest.raises(CheckpointError, match="must be hf://OWNER/REPOSITORY/FILE"):
        HubFile.parse(address)


def test_a_dry_run_writes_the_folder_and_uploads_nothing(hub, trained, trained_run, tmp_path, command):
    folder = tmp_path / "folder"
    code, out, _ = command("push", trained, "me/floods", "--dry_run", folder, "--dataset", "me/chips")
    assert (code, hub.commits) == (0, [])
    assert f"Written: {folder / 'README.md'}" in out
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "prithvi_tg"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.datasets == ["me/chips"]
    assert card.data.license is None
    overall = json.loads((trained_run / "metrics.json").read_text())["overall"]
    scores = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert scores == pytest.approx({key: value for key, value in overall.items() if value is not None})
    for text in (
        "hf://me/floods",
        "| Water |",
        "The licence is not stated",
        "| epochs | 1 |",
        "| 1 | BLUE |",
    ):
        assert text in card.text
    config = json.loads((folder / "config.json").read_text())
    assert config["hyper_parameters"]["encoder"] == "nano"
    assert (
        str(tmp_path.parent) not in (folder / "README.md").read_text() + (folder / "config.json").read_text()
    )
    code, _, err = command("push", trained, "me/floods", "--dry_run", folder)
    assert code == 2
    assert "is not empty" in err


def test_scores_of_another_checkpoint_are_left_out(weights, trained_run, tmp_path):
    with pytest.warns(UserWarning, match="has the scores of a checkpoint other than"):
        folder = write_folder(weights, "me/a", tmp_path / "a", metrics=trained_run / "metrics.json")
    assert "No scores are stated." in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["published, places and dates", "values", "classes of chips"])
def test_the_card_of_every_kind_of_model_is_readable(name, tmp_path):
    path = export_model(MODELS[name](), tmp_path / "weights.safetensors", window=32)
    text = CardText("cc-by-4.0", "Chips of mine", "me/base", "It maps things.")
    folder = write_folder(path, "me/model", tmp_path / "folder", text)
    content = (folder / "README.md").read_text()
    front = yaml.safe_load(content.split("---")[1])
    assert (front["license"], front["base_model"]) == ("cc-by-4.0", "me/base")
    assert "It maps things." in content
    for target in load_task(path).data_spec.target.names:
        assert target in content


@pytest.mark.parametrize(
    ("weights", "base_model"),
    [
        ("pretrained", "ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL"),
        ("prithvi_eo_v1_100m", "ibm-nasa-geospatial/Prithvi-EO-1.0-100M"),
        ("hf://me/base@v1/model.pt", "me/base"),
        ("/data/mine.pt", None),
        (None, None),
    ],
)
def test_the_base_model_is_that_of_the_weights_of_the_run(weights, base_model, tmp_path):
    path = tmp_path / "run" / "checkpoints" / "weights.safetensors"
    export_model(MODELS["published, places and dates"](), path)
    settings = {"encoder": "prithvi_eo_v2_tiny_tl", "weights": weights}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": settings}}))
    folder = write_folder(path, "me/model", tmp_path / "folder")
    assert ModelCard.load(folder / "README.md").data.base_model == base_model


@pytest.mark.parametrize("repo", ["floods", "me/floods/more", "me/floods@v1", "me/flo ods"])
def test_a_wrong_name_of_a_repository_is_an_error(repo, weights, tmp_path):
    with pytest.raises(ConfigError, match="must be OWNER/REPOSITORY"):
        write_folder(weights, repo, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_an_unknown_format_is_an_error(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"formats: \.tflite is unknown"):
        write_folder(weights, "me/a", tmp_path / "folder", formats=[".tflite"])


def test_an_upload_without_network_is_a_clear_error(weights, monkeypatch):
    offline = partial(pushing.HfApi, endpoint="http://127.0.0.1:1", token="hf_none")
    monkeypatch.setattr(pushing, "HfApi", offline)
    with pytest.raises(CheckpointError, match="repo: me/a: the upload failed"):
        push(weights, "me/a")


def test_a_failed_upload_is_a_clear_error(hub, weights, monkeypatch):
    def refuse(*args, **kwargs):
        raise LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(
        CheckpointError, match=r"the upload failed \(Token is required\); log in with hf auth login"
    ):
        push(weights, "me/floods")
