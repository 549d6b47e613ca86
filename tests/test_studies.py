"""Studies and sweeps: every case is run once, finished runs are reused, and tables have the scores of the runs."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from prithvi_tg.commands.sweep import read_space, train
from prithvi_tg.datasets import synthetic
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.studies import Job, markdown, run_jobs, scores, summary

pytestmark = pytest.mark.version_independent

TOP = Path(__file__).parents[1]


def test_a_study_is_run_once_and_can_be_resumed(config, tmp_path, jobs_run_here):
    jobs = [
        Job(f"seed_{n}", {"seed": str(n)}, ("--config", str(config), f"--seed_everything={n}"))
        for n in (0, 1)
    ]
    table = run_jobs(jobs, tmp_path / "study")
    assert list(table["seed"]) == ["0", "1"]
    assert table["mIoU"][0] != table["mIoU"][1]
    record = json.loads((tmp_path / "study/seed_0/test/version_0/metrics.json").read_text())
    assert table["mIoU"][0] == record["overall"]["mIoU"]
    assert table["IoU/Water"][0] == record["per_class"]["Water"]["IoU"]
    assert record["split"] == "test"
    stamp = (tmp_path / "study/seed_0/log.txt").stat().st_mtime_ns
    again = run_jobs(jobs, tmp_path / "study")
    assert (tmp_path / "study/seed_0/log.txt").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(again, table)
    other = [Job("seed_0", {"seed": "0"}, (*jobs[0].arguments, "--trainer.max_epochs=2"))]
    with pytest.raises(ConfigError, match="written by a run with other arguments"):
        run_jobs(other, tmp_path / "study")


def test_a_failed_job_names_its_log_and_the_others_run(config, tmp_path, jobs_run_here):
    jobs = [
        Job("bad", {"case": "bad"}, ("--config", str(config), "--encoder=none")),
        Job("good", {"case": "good"}, ("--config", str(config))),
    ]
    with pytest.raises(DataError, match=r"1 of 2 jobs failed; see .*bad/log\.txt"):
        run_jobs(jobs, tmp_path, processes=2)
    assert "--encoder" in (tmp_path / "bad/log.txt").read_text()
    assert scores(tmp_path / "good/test")["mIoU"] > 0
    with pytest.raises(ConfigError, match="good is given more than once"):
        run_jobs(jobs[1:] * 2, tmp_path)


def test_a_summary_has_mean_deviation_and_count_of_each_case():
    table = pd.DataFrame({"method": ["b", "b", "a"], "seed": ["0", "1", "0"], "mIoU": [0.5, 0.7, 0.1]})
    means = summary(table, ("method",), ("mIoU",))
    assert list(means["method"]) == ["b", "a"]
    assert list(means["runs"]) == [2, 1]
    assert means["mIoU mean"][0] == pytest.approx(0.6)
    assert means["mIoU std"][0] == pytest.approx(0.1414, abs=1e-4)
    assert markdown(means).splitlines()[2:] == ["| b | 2 | 60.00 | 14.14 |", "| a | 1 | 10.00 | - |"]


def write_few_chips(root, chips, size, write=synthetic.write_sen1floods11):
    """Replaces `write_sen1floods11`: fewer chips, and a scene that is smaller, as no study uses it."""
    return write(root, chips=8, size=size, scene_size=(size, size))


@pytest.mark.pictures
@pytest.mark.parametrize(
    ("study", "options"),
    [
        ("label_efficiency", ("--fractions", "0.5", "--", "--trainer.max_epochs=1")),
        ("seed_reproduction", ("--", "--trainer.max_epochs=1")),
    ],
    ids=["label_efficiency", "seed_reproduction"],
)
def test_every_study_runs_at_a_small_size(study, options, tmp_path, monkeypatch, jobs_run_here):
    monkeypatch.chdir(TOP)
    monkeypatch.setattr(synthetic, "write_sen1floods11", write_few_chips)
    monkeypatch.setitem(synthetic.LAYOUTS, "sen1floods11", write_few_chips)
    words = ["run.py", "--small", "--seeds", "0", "--output", str(tmp_path), *options]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(f"experiments/{study}/run.py", run_name="__main__")
    table = pd.read_csv(tmp_path / "results.csv")
    assert set(table["seed"]) == {0}
    if study == "label_efficiency":
        assert set(table["method"]) == {"fine-tuned", "frozen", "from scratch", "U-Net"}
        assert len(table) == 4
    else:
        assert set(table["result"]) == {"sen1floods11", "burn_scars", "multi_temporal_crop"}
        assert "| sen1floods11 | IoU/Water | 1 | 80.46 |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / f"{study}.png").stat().st_size > 5000


def test_a_sweep_varies_any_key_and_adds_to_existing_trials(
    config, tmp_path, command, jobs_run_here, start, monkeypatch
):
    pytest.importorskip("optuna", reason="the extra sweep is not installed")
    space = tmp_path / "space.yaml"
    space.write_text("model.lr: {low: 1.0e-5, high: 1.0e-2, log: true}\nmodel.loss: [ce, dice]\n")
    words = ("sweep", space, "--trials", "1", "--output", tmp_path / "sweep", "--config", config)

    def run_apart(words, *, stdout, **options):
        code, out, err = start(*words[3:]).communicate()
        stdout.write(out + err)
        return subprocess.CompletedProcess(words, code)

    with monkeypatch.context() as first:
        first.setattr("prithvi_tg.commands.sweep.subprocess", SimpleNamespace(run=run_apart))
        code, out, err = command(*words)
    assert code == 0, err
    assert "Best of 1: val_mIoU" in out
    assert "trial_0000: val_mIoU 0." in out
    assert (tmp_path / "sweep/trial_0000/version_0/checkpoints/best.ckpt").exists()
    assert f"Its weights: {tmp_path}/sweep/trial_0000/version_0/checkpoints/best.ckpt" in out
    assert "trial_0000: prithvi-tg: warning: warmup_steps" in err
    code, out, err = command(*words)
    assert "Best of 2" in out, err
    trials = pd.read_csv(tmp_path / "sweep/trials.csv")
    assert trials["params_model.lr"].between(1e-5, 1e-2).all()
    assert trials["params_model.lr"].nunique() == 2
    curves = pd.read_csv(tmp_path / "sweep/trial_0000/version_0/metrics.csv")
    assert trials["value"][0] == pytest.approx(curves["val_mIoU"].max())
    used = (tmp_path / "sweep/trial_0000/version_0/config.yaml").read_text()
    assert f"loss: {trials['params_model.loss'][0]}" in used
    code, _, err = command(
        *words[:4], "--output", tmp_path / "none", "--config", config, "--metric", "val_best"
    )
    assert (code, "metric: 'val_best' is not in" in err) == (2, True)
    assert not (tmp_path / "none/trial_0001").exists()  # no other trial would log it
    code, _, err = command(*words, "--metric", "val_loss")
    assert (code, "holds trials for val_mIoU, not for val_loss; choose another --output" in err) == (2, True)
    code, _, err = command(
        *words[:4], "--output", tmp_path / "failing", "--config", config, "--model.no_such_key", 3
    )
    assert (code, "no trial finished" in err) == (1, True)
    assert "trial_0000: failed with model.lr" in err
    assert "no_such_key: unknown key" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model.lr: 3", "is neither a list"),
        ("model.lr: {low: 1e-5, high: 1}", "YAML reads numbers like 1e-3 as text"),
        ("", "a line per key"),
    ],
)
def test_an_invalid_search_space_is_an_error(line, message, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(line)
    with pytest.raises(ConfigError, match=message):
        read_space(path)


def test_a_sweep_accepts_an_old_name_of_a_metric(tmp_path, monkeypatch):
    def fit(*_, **__):
        (tmp_path / "trial/version_0").mkdir(parents=True)
        (tmp_path / "trial/version_0/metrics.csv").write_text("step,val_mFscore\n1,0.25\n2,0.5\n")
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(subprocess, "run", fit)
    assert train([], {}, tmp_path / "trial", "val_mDice") == 0.5
