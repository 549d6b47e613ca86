"""The record of a training run describes the files that it names."""

import contextlib
import io
import json
import shutil
import signal
import time

import pandas as pd
import pytest
import torch
from conftest import TINY_CONFIG
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule, load_task, map_scene
from prithvi_tg.__main__ import main
from prithvi_tg.callbacks import (
    BestCheckpoint,
    ChipReport,
    LastCheckpoint,
    ScoreReport,
    TrainingRecord,
    score_best,
)
from prithvi_tg.files import file_hash
from prithvi_tg.reporting.runs import read_run


def test_the_scores_of_a_training_are_those_of_its_best_checkpoint(config, tmp_path, command, monkeypatch):
    def worsen(task):
        """After the first epoch, the model gets worse."""
        if task.current_epoch > 0:
            with torch.no_grad():
                task.model.decode_head.conv_seg.weight.mul_(-100)

    monkeypatch.setattr(PrithviSegmentationTask, "on_train_epoch_start", worsen)
    code, out, err = command(
        "fit",
        "--config",
        config,
        "--trainer.max_epochs",
        2,
        "--model.monitor",
        "val_loss",
        "--model.lr",
        0.01,
    )
    assert code == 0, err
    run = tmp_path / "runs/version_0"
    record = json.loads((run / "metrics.json").read_text())
    curves = pd.read_csv(run / "metrics.csv").dropna(subset="val_loss")
    assert list(curves["epoch"]) == [0, 1]  # scoring the best adds nothing to the curves
    first, last = curves["val_mIoU"]
    assert abs(first - last) > 1e-3
    assert abs(record["overall"]["mIoU"] - first) < 1e-6
    best = run / "checkpoints/best.ckpt"
    assert record["run"]["checkpoint_epoch"] == 0
    assert record["run"]["checkpoint_sha256"] == file_hash(best)
    assert "best.ckpt, epoch 0" in out
    assert record["run"]["training"]["epochs"] == 2
    monkeypatch.undo()
    code, _, err = command("validate", "--config", config, "--ckpt_path", best)
    assert code == 0, err
    again = json.loads((tmp_path / "runs/version_1/metrics.json").read_text())
    for key in ("overall", "per_class", "confusion_matrix", "split"):
        assert again[key] == record[key]
    assert again["run"]["training"] is None
    for name in ("chips.csv", "confusion.csv"):
        assert (tmp_path / "runs/version_1" / name).read_text() == (run / name).read_text()


def test_without_checkpoints_the_last_weights_are_scored(config, tmp_path, command):
    code, out, err = command("fit", "--config", config, "--trainer.enable_checkpointing", "false")
    assert code == 0, err
    record = json.loads((tmp_path / "runs/version_0/metrics.json").read_text())
    assert record["run"]["checkpoint"] is None
    assert record["overall"]["mIoU"] > 0
    assert "val, per cent" in out


def test_resuming_without_checkpoints_does_not_record_the_resumed_checkpoint_as_scored(
    config, tmp_path, command, trained_run
):
    last = trained_run / "checkpoints/last.ckpt"
    code, _, err = command(
        "fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs", 2,
        "--trainer.enable_checkpointing", "false",
    )  # fmt: skip
    assert code == 0, err
    record = json.loads((tmp_path / "runs/version_0/metrics.json").read_text())
    assert record["run"]["checkpoint"] is None
    assert record["run"]["training"]["epochs"] == 2


@pytest.fixture(scope="module")
def trained_without_validation(flood_root, tmp_path_factory):
    """Folder of a split list without validation chips and of a training with it, and the output of the training."""
    folder = tmp_path_factory.mktemp("unvalidated")
    rows = [row for row in (flood_root / "splits.csv").read_text().splitlines() if not row.endswith(",val")]
    (folder / "splits.csv").write_text("\n".join(rows) + "\n")
    config = folder / "config.yaml"
    config.write_text(TINY_CONFIG.format(root=flood_root, runs=folder / "runs"))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["fit", "--config", str(config), "--data.splits", str(folder / "splits.csv")]) == 0
    return folder, out.getvalue()


@pytest.fixture
def unvalidated(trained_without_validation, tmp_path):
    """Folder of a run whose split list has no validation chips, and the output of its training."""
    folder, out = trained_without_validation
    shutil.copy(folder / "splits.csv", tmp_path)
    return shutil.copytree(folder / "runs/version_0", tmp_path / "runs/version_0"), out


def test_a_training_without_validation_writes_a_record_without_scores(unvalidated):
    run, out = unvalidated
    assert "best.ckpt holds the last weights, because there is no validation set" in out
    assert "without scores: there is no validation set; score the test set with prithvi-tg test" in out
    record = read_run(run)
    assert not record.is_scored
    assert record.class_names == ("No water", "Water")
    assert record.metrics["run"]["training"]["epochs"] == 1
    assert record.metrics["run"]["checkpoint_sha256"] == file_hash(run / "checkpoints/best.ckpt")
    assert record.metrics["run"]["checkpoint_epoch"] == 0  # as of a run with validation


def test_a_report_shows_a_run_without_validation_with_and_without_its_test(unvalidated, config, command):
    run, _ = unvalidated
    code, _, err = command("report", run)
    assert code == 0, err
    page = (run / "report.html").read_text()
    assert "nothing: there is no validation set; score the test set with prithvi-tg test" in page
    assert 'id="confusion"' not in page
    code, _, err = command(
        "test", "--config", config, "--ckpt_path", run / "checkpoints/best.ckpt", "--data.splits",
        run.parents[1] / "splits.csv",
    )  # fmt: skip
    assert code == 0, err
    tested = run.with_name("version_1")
    code, _, err = command("report", run, tested, "--names", "training", "test", "--overwrite")
    assert code == 0, err
    page = (run / "report.html").read_text()
    assert "nothing: there is no validation set" in page
    score = json.loads((tested / "metrics.json").read_text())["overall"]["mIoU"]
    assert f"<b>{100 * score:.2f}</b>" in page
    assert "<h3>test</h3>" in page
    assert "<h3>training</h3>" not in page


def test_a_command_that_fails_early_leaves_no_folder_of_a_run(unvalidated, config, command):
    run, _ = unvalidated
    words = ("--config", config, "--data.splits", run.parents[1] / "splits.csv")
    code, _, err = command("validate", *words, "--ckpt_path", run / "checkpoints/best.ckpt")
    assert (code, "there is no validation set; score the test set" in err) == (2, True)
    code, _, err = command("fit", *words, "--data.batch_size", 99)
    assert (code, "batch_size: 99 is larger" in err) == (2, True)
    assert sorted(path.name for path in run.parent.iterdir()) == ["version_0"]
    assert (run / "checkpoints/best.ckpt").exists()


def test_a_users_trainer_writes_the_same_record(tiny_task, flood_root, tmp_path):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", crop_size=32, batch_size=2)
    callbacks = [
        TrainingRecord(),
        ScoreReport(),
        ChipReport(),
        BestCheckpoint("val_mIoU", "max"),
        LastCheckpoint(),
    ]
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", callbacks=callbacks, logger=CSVLogger(tmp_path, name=""),
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(tiny_task, data)
    score_best(trainer, tiny_task, data)
    run = read_run(tmp_path / "version_0")
    record = run.metrics["run"]
    assert record["checkpoint_sha256"] == file_hash(tmp_path / "version_0/checkpoints/best.ckpt")
    assert record["training"]["epochs"] == 2
    assert run.pictures
    assert run.curves["val_mIoU"].notna().sum() == 2
    assert run.settings["model.init_args.encoder"] == "nano"
    assert run.chips is not None
    trainer.validate(tiny_task, data, ckpt_path="last", verbose=False, weights_only=True)
    last = read_run(tmp_path / "version_0")
    assert last.metrics["run"]["checkpoint_sha256"] == file_hash(tmp_path / "version_0/checkpoints/last.ckpt")
    assert len(last.pictures) == len(list((tmp_path / "version_0/chips").iterdir()))


def test_epochs_shorter_than_the_logging_interval_have_curves(trained_run):
    curves = pd.read_csv(trained_run / "metrics.csv")
    assert curves["train_loss"].notna().sum() == 1
    assert any(name.startswith("lr-") and curves[name].notna().any() for name in curves)


def test_complete_lines_of_truncated_curves_are_kept_when_resuming(config, tmp_path, command):
    words = ("fit", "--config", config, "--trainer.max_epochs", 2, "--trainer.log_every_n_steps", 1)
    code, _, err = command(*words)
    assert code == 0, err
    first = tmp_path / "runs/version_0"
    before = (first / "metrics.csv").read_bytes()
    (first / "metrics.csv").write_bytes(before[:-30])
    code, out, err = command(*words[:4], 3, *words[5:], "--ckpt_path", first / "checkpoints/last.ckpt")
    assert code == 0, err
    assert "Resuming in " in out
    assert "dirpath" not in out + err
    (part,) = read_run(tmp_path / "runs/version_1").metrics["run"]["training"]["resumed_from"]
    assert part["changed"] == {"trainer.max_epochs": 3}
    curves = pd.read_csv(tmp_path / "runs/version_1/metrics.csv").dropna(subset="train_loss")
    assert list(curves["step"]) == list(range(curves["step"].max() + 1))
    (first / "metrics.csv").unlink()
    code, out, err = command(*words[:4], 3, *words[5:], "--ckpt_path", first / "checkpoints/last.ckpt")
    assert code == 0, err
    assert "not found; the curves of this run start here" in out


def test_the_loss_of_the_decode_head_in_earlier_curves_becomes_the_training_loss(
    config, tmp_path, command, trained_run
):
    words = ("fit", "--config", config, "--trainer.log_every_n_steps", 1)
    first = shutil.copytree(trained_run, tmp_path / "runs/version_0")
    now = pd.read_csv(first / "metrics.csv")
    both = now["train_loss"] + now["train_loss_auxiliary"]
    now.assign(train_loss_decode=now["train_loss"], train_loss=both).to_csv(
        first / "metrics.csv", index=False
    )
    assert read_run(first).curves["train_loss"].equals(now["train_loss"])
    last = first / "checkpoints/last.ckpt"
    code, _, err = command(*words, "--trainer.max_epochs", 2, "--ckpt_path", last)
    assert code == 0, err
    resumed = pd.read_csv(tmp_path / "runs/version_1/metrics.csv")
    assert "train_loss_decode" not in resumed
    copied, known = (curves["train_loss"].dropna().tolist() for curves in (resumed, now))
    assert copied[: len(known)] == known


def test_a_complete_run_that_is_resumed_is_scored_and_says_that_nothing_was_trained(
    config, tmp_path, command, trained_run
):
    stopped = shutil.copytree(trained_run, tmp_path / "runs/version_0")
    first = json.loads((stopped / "metrics.json").read_text())
    code, out, err = command("fit", "--config", config, "--ckpt_path", stopped / "checkpoints/last.ckpt")
    assert code == 0, err
    run = read_run(tmp_path / "runs/version_1")
    assert run.metrics["overall"] == first["overall"]
    before, training = first["run"]["training"], run.metrics["run"]["training"]
    assert [part["epoch"] for part in training["resumed_from"]] == [1]
    assert {key: training[key] for key in ("epochs", "steps")} == {
        key: before[key] for key in ("epochs", "steps")
    }
    assert 0 < training["seconds"] <= before["seconds"]
    kept = pd.read_csv(tmp_path / "runs/version_0/metrics.csv")
    pd.testing.assert_series_equal(run.curves["val_mIoU"].dropna(), kept["val_mIoU"].dropna())
    assert "Written: " + str(tmp_path / "runs/version_0") not in out
    assert "Nothing was trained, as the run was complete; to train longer, raise trainer.max_epochs" in out


def test_warnings_are_in_the_record(config, tmp_path, flood_root, start):
    rows = (flood_root / "splits.csv").read_text().splitlines()
    leak = next(row for row in rows if row.endswith(",train")).replace(",train", ",val")
    (tmp_path / "splits.csv").write_text("\n".join([*rows, leak]) + "\n")
    code, _, err = start("fit", "--config", config, "--data.splits", tmp_path / "splits.csv").communicate()
    assert code == 0, err
    warned = read_run(tmp_path / "runs/version_0").metrics["run"]["warnings"]
    assert any("in both train and val" in line for line in warned)
    assert all(line in err for line in warned)
    assert len(set(warned)) == len(warned)


def test_the_record_of_a_run_names_its_command(trained_run, trained, config, command, tmp_path):
    assert read_run(trained_run).metrics["run"]["command"] == "fit"
    for number, name in enumerate(("test", "validate")):
        assert command(name, "--config", config, "--ckpt_path", trained)[0] == 0
        assert read_run(tmp_path / f"runs/version_{number}").metrics["run"]["command"] == name


@pytest.mark.version_independent
def test_a_stopped_run_explains_how_to_resume_and_is_not_complete(config, tmp_path, start):
    words = ("fit", "--config", config, "--trainer.max_epochs", 500, "--trainer.check_val_every_n_epoch", 500)
    run = start(*words)
    last = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    while not last.exists():
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    code, _, err = run.communicate(timeout=120)
    assert code == 128 + signal.SIGTERM
    assert f"Interrupted; to resume, repeat the command with --ckpt_path {last}" in err


def test_a_map_of_a_task_in_memory_is_identified_by_its_weights(trained_run, tmp_path, flood_root, command):
    run = shutil.copytree(trained_run, tmp_path / "version_0")
    task = load_task(run / "checkpoints/best.ckpt")
    path = map_scene(task, flood_root / "scene.tif", tmp_path / "maps/scene_pred.tif")
    code, _, err = command("report", run, "--maps", path)
    assert code == 0, err
    assert "belong to none of these runs" not in err
    assert "made with the weights of version_0" in (run / "report.html").read_text()


def test_a_report_finds_the_scene_of_a_map_from_any_folder(
    trained_run, tmp_path, flood_root, command, monkeypatch
):
    run = shutil.copytree(trained_run, tmp_path / "version_0")
    monkeypatch.chdir(flood_root)
    map_scene(run / "checkpoints/best.ckpt", "scene.tif", tmp_path / "maps/scene_pred.tif")
    monkeypatch.chdir(tmp_path)
    code, _, err = command("report", run, "--maps", tmp_path / "maps")
    assert (code, "without its scene" in err) == (0, False)
