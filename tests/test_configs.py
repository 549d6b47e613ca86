"""Every shipped configuration runs: one epoch and a test, offline, on synthetic data with a tiny encoder."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.commands.synthetic import LAYOUTS

CONFIGS = Path(__file__).parents[1] / "configs"
OVERLAYS = {"sen1floods11_bolivia.yaml": "sen1floods11.yaml"} | {
    f"legacy/{path.name}": path.name for path in (CONFIGS / "legacy").glob("*.yaml")
}
#: Folder in a configuration -> layout of the synthetic data that replace it.
LAYOUT_IN = {
    "demo/data": "sen1floods11",
    "data/my_chips": "sen1floods11",
    "data/classified": "classified_chips",
    "demo/biomass": "biomass",
    "demo/change": "change",
}
LAYOUT_OF = {
    "Sen1Floods11DataModule": "sen1floods11",
    "HLSBurnScarsDataModule": "hls_burn_scars",
    "MultiTemporalCropDataModule": "multi_temporal_crop",
}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A folder of synthetic data per layout."""
    top = tmp_path_factory.mktemp("synthetic")
    sizes = {"sen1floods11": {"scene_size": (160, 160)}, "classified_chips": {"chips": 12}}
    return {
        layout: write(top / layout, **{"chips": 6, "size": 64, **sizes.get(layout, {})})
        for layout, write in LAYOUTS.items()
    }


def home_of(settings):
    """The folder of a configuration's files; ``None`` if it names a root."""
    images = settings["data"]["init_args"].get("images", "")
    return next((home for home in LAYOUT_IN if images.startswith(home)), None)


def small(settings, root, tmp_path):
    """Overrides that make a recipe run in seconds."""
    init_args, home = settings["data"]["init_args"], home_of(settings)
    options = [
        "--trainer.max_epochs=1",
        "--trainer.max_steps=-1",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.val_check_interval=1.0",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--data.batch_size=2",
        "--data.num_workers=0",
    ]
    if settings["data"]["class_path"] == "ClassifiedChipsDataModule":
        options += [f"--data.{k}={init_args[k].replace(home, str(root))}" for k in ("images", "labels")]
        return [*options, f"--model.encoder_args={TINY}", "--model.warmup_steps=1"]
    if settings["data"]["class_path"] == "LabelledScenesDataModule":
        options += [f"--data.{k}={init_args[k].replace(home, str(root))}" for k in ("images", "labels")]
        options += ["--data.window=32", "--data.windows_per_epoch=4", "--data.split.init_args.block=40"]
        options += ["--data.split.init_args.buffer=0"]
        return options + small_model(settings, tmp_path)
    options.append("--data.crop_size=32")
    if settings["data"]["class_path"] == "UnlabelledChipsDataModule":
        options += [f"--data.{k}={init_args[k].replace(home, str(root))}" for k in ("images", "splits")]
        return [*options, f"--model.encoder_args={TINY}", "--model.window=32"]
    if settings["data"]["class_path"].endswith("ChipFolderDataModule"):
        options += [
            f"--data.{k}={init_args[k].replace(home, str(root))}" for k in ("images", "labels", "splits")
        ]
    else:
        options.append(f"--data.root={root}")
        if settings["data"]["class_path"] == "Sen1Floods11DataModule":
            options.append(f"--data.splits={root / 'splits.csv'}")
    return options + small_model(settings, tmp_path)


def small_model(settings, tmp_path):
    """Overrides for a tiny model, with matching weights."""
    if settings["model"]["init_args"].get("encoder", "").startswith("timm/"):
        encoder = "--model.encoder=timm/test_resnet"
        return [encoder, "--model.head_channels=16", "--model.window=32", "--model.warmup_steps=1"]
    options = []
    encoder_args = TINY | {"depth": settings["model"]["init_args"].get("encoder_args", {}).get("depth", 2)}
    options += ["--model.encoder=nano", f"--model.encoder_args={encoder_args}", "--model.head_channels=8"]
    options += ["--model.window=32", "--model.warmup_steps=1"]
    if settings["model"]["init_args"].get("weights"):
        weights = PrithviSegmentationTask("nano", TINY | {"depth": 12}, num_classes=2).model.encoder
        if "encoder_args" not in settings["model"]["init_args"]:
            weights = PrithviSegmentationTask("nano", TINY, num_classes=2).model.encoder
        torch.save({f"encoder.{k}": v for k, v in weights.state_dict().items()}, tmp_path / "pretrained.pt")
        options.append(f"--model.weights={tmp_path / 'pretrained.pt'}")
    return options


PUBLISHED_CHIPS = {
    "sen1floods11_test": 90,
    "sen1floods11_bolivia": 15,
    "burn_scars": 264,
    "multi_temporal_crop": 771,
}


NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))


# Those of the published comparison are parts of configurations, see test_published_recipes.py.
@pytest.mark.version_independent
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("published/")])
def test_every_configuration_runs(name, synthetic, tmp_path, command):
    files = [CONFIGS / OVERLAYS[name], CONFIGS / name] if name in OVERLAYS else [CONFIGS / name]
    settings = yaml.safe_load(files[0].read_text())
    home = home_of(settings)
    root = synthetic[LAYOUT_IN[home] if home else LAYOUT_OF[settings["data"]["class_path"]]]
    configs = [word for file in files for word in ("--config", file)]
    options = small(settings, root, tmp_path)
    code, out, err = command("fit", *configs, *options)
    assert code == 0, err
    best = tmp_path / "runs" / "version_0" / "checkpoints" / "best.ckpt"
    code, out, err = command("test", *configs, *options, "--ckpt_path", best)
    assert code == 0, err
    overlay = yaml.safe_load(files[-1].read_text())
    published = overlay.get("published_result", settings.get("published_result"))
    told = (
        f"no comparison with the published result {published}: the published list has "
        f"{PUBLISHED_CHIPS.get(published)} chips"
    )
    assert (told in " ".join(out.split())) == bool(published)  # the synthetic chips are others


@pytest.mark.version_independent
@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.name)
def test_configurations_are_short_and_contain_only_placeholder_paths(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    for word in text.split():
        if "/" in word and not word.startswith(
            ("configs/", "--", "data/", "runs/", "demo/", "timm/", "experiments/")
        ):
            assert word in ("data/sen1floods11", "0..1", "[t/ha]"), word
