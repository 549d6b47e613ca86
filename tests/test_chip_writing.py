"""Windows written as chips: the same samples, split lists, a table for a GIS, and resuming."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.chip_writing import write_chips
from prithvi_tg.datamodules import ChipFolderDataModule, LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit
from prithvi_tg.datasets.synthetic import write_sen1floods11
from prithvi_tg.errors import ConfigError

pytestmark = pytest.mark.version_independent

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene") / "data"
    return write_sen1floods11(folder, chips=6, size=32, scene_size=(200, 210), seed=3)


def scenes(root, **options):
    settings = yaml.safe_load((CONFIGS / "scenes.yaml").read_text())["data"]["init_args"]
    settings |= {
        "images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif"), "window": 32,
        "split": BlockSplit(48, (0.5, 0.25, 0.25)), "windows_per_epoch": 12, "batch_size": 4,
        "random_flip_rot90": False, "num_workers": 0,
    }  # fmt: skip
    return LabelledScenesDataModule(**settings | options)


def chips_of(folder, module=ChipFolderDataModule):
    settings = yaml.safe_load((folder / "data.yaml").read_text())["data"]["init_args"]
    return module(**settings | {"crop_size": None, "random_flip_rot90": False})


class InOrder(ChipFolderDataModule):
    """Chips in the order in which they were drawn, two epochs of twelve."""

    def train_dataloader(self):
        chips = self.train_dataset
        half = len(chips) // 2
        epoch = self.trainer.current_epoch if self.trainer else 0
        part = torch.utils.data.Subset(chips, range(half * epoch, half * (epoch + 1)))
        return DataLoader(part, batch_size=self.batch_size, generator=torch.Generator())


def trained(data, folder):
    """Scores and weights after two epochs."""
    seed_everything(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, lr=1e-3, warmup_steps=1
    )
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, reload_dataloaders_every_n_epochs=1, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(task, data)
    return task.confusion, task.state_dict()


def test_training_on_written_chips_equals_training_on_their_windows(root, tmp_path):
    write_chips(scenes(root), tmp_path / "chips", epochs=2, num_workers=0)
    direct, weights = trained(scenes(root), tmp_path)
    again, same = trained(chips_of(tmp_path / "chips", InOrder), tmp_path)
    assert torch.equal(direct, again)
    for name, value in weights.items():
        torch.testing.assert_close(value, same[name], rtol=1e-5, atol=1e-7)


def test_the_table_of_chips_opens_in_a_gis(root, tmp_path):
    data = scenes(root)
    written, kept = write_chips(data, tmp_path / "chips", num_workers=2)
    table = geopandas.read_parquet(tmp_path / "chips" / "chips.parquet")
    assert (written, kept) == (len(table), 0)
    assert table.crs.to_epsg() == 4326
    assert set(table["split"]) == {"train", "val", "test"}
    assert (table["split"] == "train").sum() == 12
    counts = table[["No water", "Water", "unlabelled"]].to_numpy()
    assert (counts.sum(axis=1) == 32 * 32).all()
    folder = chips_of(tmp_path / "chips")
    folder.setup("fit")
    for row, sample in zip(table[table["split"] == "val"].itertuples(), folder.val_dataset, strict=True):
        assert int((sample["mask"] == 1).sum()) == row.Water
    train, others = (table[table["split"] == "train"], table[table["split"] != "train"])
    assert not train.geometry.buffer(-1e-7).intersects(others.union_all().buffer(-1e-7)).any()


def test_writing_resumes_after_an_interruption(root, tmp_path, monkeypatch):
    from prithvi_tg import chip_writing

    write, count = chip_writing._ChipWriter.__getitem__, []

    def stop(self, index):
        count.append(index)
        if len(count) == 6:
            raise KeyboardInterrupt
        return write(self, index)

    monkeypatch.setattr(chip_writing._ChipWriter, "__getitem__", stop)
    with pytest.raises(KeyboardInterrupt):
        write_chips(scenes(root), tmp_path / "chips", num_workers=0)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="exists and was written with another configuration"):
        write_chips(scenes(root, window=40), tmp_path / "chips", num_workers=0)
    written, kept = write_chips(scenes(root), tmp_path / "chips", num_workers=0)
    assert kept == 5
    whole, _ = write_chips(scenes(root), tmp_path / "whole", num_workers=0)
    assert written + kept == whole
    names = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.tif"))
    assert names
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "chips" / name).read_bytes()


def test_the_command_writes_chips_that_a_configuration_trains_on(root, tmp_path, command):
    settings = yaml.safe_load((CONFIGS / "scenes.yaml").read_text())
    settings["data"]["init_args"] |= {
        "images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif"), "window": 32,
        "windows_per_epoch": 12, "batch_size": 4,
    }  # fmt: skip
    settings["data"]["init_args"]["split"]["init_args"] = {"block": 48, "fractions": [0.5, 0.25, 0.25]}
    settings["model"]["init_args"] |= {
        "encoder_args": TINY,
        "head_channels": 8,
        "window": 32,
        "warmup_steps": 1,
    }
    settings["trainer"] |= {"default_root_dir": str(tmp_path / "runs"), "max_epochs": 1}
    config, model = tmp_path / "scenes.yaml", tmp_path / "model.yaml"
    config.write_text(yaml.safe_dump(settings))
    model.write_text(yaml.safe_dump({key: settings[key] for key in ("model", "trainer")}))
    code, out, err = command("chips", tmp_path / "chips", "--config", config)
    assert code == 0, err
    assert f"--config {tmp_path / 'chips' / 'data.yaml'}" in out
    code, out, err = command("fit", "--config", model, "--config", tmp_path / "chips" / "data.yaml")
    assert code == 0, err
    code, _, err = command("chips", tmp_path / "chips", "--config", config)
    assert code == 2
    assert "exists and was written with another configuration" in err
    code, out, err = command("stats", "--config", config)
    assert code == 0, err
    found = yaml.safe_load(out)["data"]["init_args"]
    assert np.allclose(found["mean"], settings["data"]["init_args"]["mean"], atol=0.1)
