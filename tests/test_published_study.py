"""The study of the published comparison: its table, resuming after a kill, several processes, missing data, costs."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import run_here

from prithvi_tg.datasets.chips.split_lists import published_splits, split_list
from prithvi_tg.errors import ConfigError
from prithvi_tg.reporting.published import PUBLISHED
from prithvi_tg.studies import Job, run_jobs, shard

pytestmark = pytest.mark.version_independent

TOP = Path(__file__).parents[1]
STUDY = TOP / "experiments/published/run.py"


@pytest.fixture
def study(monkeypatch):
    """The module of the study; call its ``main`` with arguments."""
    spec = importlib.util.spec_from_file_location("published_study", STUDY)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "published_study", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(TOP)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, words)])
        module.main()

    module.call = run
    return module


def test_a_small_study_writes_a_row_for_each_test_set(study, tmp_path, jobs_run_here, capsys):
    study.call(
        "--small", "--datasets", "floods", "--tunings", "linear_probe", "--seeds", 0, 1, "--output", tmp_path,
        "--", "--trainer.max_epochs=1",
    )  # fmt: skip
    found = json.loads((tmp_path / "results.json").read_text())
    assert [(row["data"], row["test_set"], row["seeds"]) for row in found] == [
        ("floods", "test", [0, 1]), ("floods", "bolivia", [0, 1]),
    ]  # fmt: skip
    for row in found:
        assert row["mean"] == pytest.approx(sum(row["mIoU"]) / 2)
        assert row["std"] == pytest.approx(abs(row["mIoU"][0] - row["mIoU"][1]) / 2**0.5)
        assert "published" not in row
    runs = tmp_path / "runs/floods/nano/linear_probe"
    record = json.loads((runs / "seed_1/test/version_0/metrics.json").read_text())
    assert found[0]["mIoU"][1] == record["overall"]["mIoU"]
    assert found[1]["mIoU"][1] == record["further_splits"]["bolivia"]["overall"]["mIoU"]
    assert (
        f"| floods | bolivia | nano | linear_probe | 2 | {100 * found[1]['mean']:.2f} |"
        in (tmp_path / "results.md").read_text()
    )
    assert "2 of 2 runs are done." in capsys.readouterr().out


RESULT = "peft_geofm/burn_scars/v2_300m/lora"


def finished_job(folder, chips, score, **changed):
    """Write the files of a trained and tested run that the study reads."""
    arguments = dict(PUBLISHED[RESULT].protocol.settings) | changed
    for name in ("fit", "test"):
        run = folder / name / "version_0"
        run.mkdir(parents=True)
        per_class = {"Unburnt land": {"IoU": score}, "Burn scar": {"IoU": score}}
        (run / "metrics.json").write_text(json.dumps({"overall": {"mIoU": score}, "per_class": per_class}))
        (run / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": arguments}}))
        with (run / "chips.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["chip"], *([chip] for chip in chips)])


def published_chips():
    listed = split_list(published_splits("hls_burn_scars_non_overlapping"), "test")
    return [f"subsetted_512x512_HLS.S30.{chip}.4" for chip in listed]


def compare(study, folder):
    labels = {"data": "burn_scars", "encoder": "v2_300m", "tuning": "lora"}
    jobs = [Job(f"burn_scars/v2_300m/lora/seed_{seed}", {**labels, "seed": str(seed)}, ()) for seed in (0, 1)]
    (row,) = study.compare(jobs, folder)
    return row, study.write_results(jobs, folder.parent)


def test_runs_of_the_published_protocol_and_chips_are_compared_in_standard_deviations(study, tmp_path):
    for seed, score in enumerate((0.92, 0.93)):
        finished_job(tmp_path / f"runs/burn_scars/v2_300m/lora/seed_{seed}", published_chips(), score)
    row, table = compare(study, tmp_path / "runs")
    assert (row["published"]["mIoU"], row["published"]["std"], row["published"]["runs"]) == (
        0.9333,
        0.0064,
        5,
    )
    assert row["difference"] == pytest.approx(0.925 - 0.9333)
    assert row["difference_in_std"] == pytest.approx((0.925 - 0.9333) / 0.0064)
    assert "| 2 | 92.50 | 0.71 | 93.33 | 0.64 | -0.83 | -1.3 | Marti-Escofet et al. 2025" in table
    assert json.loads((tmp_path / "results.json").read_text()) == [row]


@pytest.mark.parametrize(
    ("chips", "changed", "reason"),
    [
        (slice(1, None), {}, "the published list has 120 chips, but this run scored 119"),
        (slice(None), {"decoder": "linear"}, "its protocol has decoder patch_linear, but the run has linear"),
    ],
)
def test_other_chips_or_protocols_are_not_compared(study, tmp_path, chips, changed, reason):
    for seed in (0, 1):
        finished_job(
            tmp_path / f"runs/burn_scars/v2_300m/lora/seed_{seed}", published_chips()[chips], 0.9, **changed
        )
    row, table = compare(study, tmp_path / "runs")
    assert reason in row["not_comparable"]
    assert "difference" not in row
    assert reason in table


def test_missing_data_and_weights_are_listed_with_size_and_place(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(SystemExit) as stop:
        study.call("--data", tmp_path, "--encoders", "v2_600m", "--output", tmp_path / "out")
    for told in (
        f"hls_burn_scars.tar.gz; 2.65 GB; unpack into {tmp_path / 'hls_burn_scars'}",
        f"{tmp_path / 'sen1floods11'}", "training_chips.tgz and validation_chips.tgz; 10.6 GB and 1.18 GB",
        "hf download ibm-nasa-geospatial/Prithvi-EO-2.0-600M Prithvi_EO_V2_600M.pt", "2.64 GB",
    ):  # fmt: skip
        assert told in str(stop.value)
    assert not (tmp_path / "out/runs").exists()
    (tmp_path / "hls_burn_scars/training").mkdir(parents=True)
    (tmp_path / "hls_burn_scars/training/one_merged.tif").touch()
    with pytest.raises(SystemExit) as stop:
        study.call("--data", tmp_path, "--tunings", "unet")
    assert "burn_scars" not in str(stop.value)
    assert "- weights of" not in str(stop.value)


def test_every_row_is_listed_with_the_published_rate(study, capsys):
    study.call("--list", "--encoders", "v1_100m", "v2_300m", "--seeds", 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * (2 * 3 + 1)
    (lora,) = [
        line for line in lines if "floods.yaml" in line and "v2_300m.yaml" in line and "lora.yaml" in line
    ]
    assert "--seed_everything=3" in lora
    assert f"--model.lr={PUBLISHED['peft_geofm/floods/v2_300m/lora'].lr}" in lora
    study.call(
        "--list", "--datasets", "crops", "--tunings", "full", "--encoders", "v1_100m", "--head", "linear"
    )
    out = capsys.readouterr().out
    assert "--model.lr" not in out
    assert "linear_head.yaml" in out


def test_costs_grow_with_the_encoder_and_are_those_of_the_page(study, capsys):
    def rate(encoder, tuning):
        return 1 / study.seconds_per_chip(encoder, tuning, 512, 1)[0]

    assert (
        rate("v1_100m", "lora") > rate("v1_100m", "full") > rate("v2_300m", "full") > rate("v2_600m", "full")
    )
    window = 1 / study.seconds_per_chip("v1_100m", "full", 224, 1)[0]
    assert window == pytest.approx(1275)  # as measured
    study.call("--costs")
    table = capsys.readouterr().out
    assert table in (STUDY.parent / "README.md").read_text()


# Several processes, with a stand-in of the command in the place of the training.

COMMAND = """\
import json, os, sys, time
from pathlib import Path
words = sys.argv[1:]
folder = Path(words[words.index("--trainer.default_root_dir") + 1])
with (folder.parent / "calls.txt").open("a") as file:
    file.write(" ".join(words) + "\\n")
run = folder / f"version_{len(list(folder.glob('version_*')))}"
(run / "checkpoints").mkdir(parents=True)
(run / "checkpoints/last.ckpt").touch()
if words[0] == "fit":
    time.sleep(float(os.environ.get("SECONDS", "0")))
record = {"overall": {"mIoU": 0.5}, "per_class": {}, "run": {"checkpoint": "best.ckpt"}}
(run / "metrics.json").write_text(json.dumps(record))
"""
RUN = """\
import sys
from pathlib import Path
from prithvi_tg.studies import Job, run_jobs
folder, fake, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print(len(run_jobs([Job(f"job_{n}", {"n": str(n)}, (), fake) for n in range(count)], folder)))
"""


@pytest.fixture
def fake(tmp_path):
    """Folder of a module with the name of the command."""
    package = tmp_path / "fake/prithvi_tg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(COMMAND)
    (tmp_path / "run.py").write_text(RUN)
    return package.parent


def start(fake, folder, count, seconds):
    environment = {**os.environ, "SECONDS": str(seconds), "PYTHONPATH": str(TOP)}
    return subprocess.Popen(
        [sys.executable, fake.parent / "run.py", folder, fake, str(count)],
        env=environment, cwd=fake.parent, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def calls(folder):
    return [path.read_text().splitlines() for path in sorted(folder.glob("job_*/calls.txt"))]


def wait_for(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_two_processes_share_the_jobs_of_a_folder(fake, tmp_path):
    studies = [start(fake, tmp_path / "study", 6, 0.5) for _ in range(2)]
    assert [one.wait(120) for one in studies] == [0, 0]
    lines = calls(tmp_path / "study")
    assert [[line.split()[0] for line in one] for one in lines] == [["fit", "test"]] * 6
    assert max(int(one.stdout.read().split()[-1]) for one in studies) == 6
    assert len(run_jobs([Job(f"job_{n}", {}, (), str(fake)) for n in range(6)], tmp_path / "study")) == 6


def test_a_killed_study_is_resumed_and_its_orphans_keep_their_jobs(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    jobs = [Job("job_0", {}, (), str(fake))]
    killed = start(fake, folder, 1, 60)
    wait_for(lambda: (folder / "job_0/fit/version_0/checkpoints/last.ckpt").exists())
    killed.kill()
    killed.wait(10)
    assert run_jobs(jobs, folder).empty  # the training still runs, and has the job
    assert len(calls(folder)[0]) == 1
    os.killpg(killed.pid, signal.SIGKILL)
    wait_for(lambda: not run_jobs(jobs, folder).empty)
    first, second, third = calls(folder)[0]
    assert "--ckpt_path" not in first
    assert f"--ckpt_path {folder / 'job_0/fit/version_0/checkpoints/last.ckpt'}" in second
    assert third.startswith("test ")


def test_a_shard_is_every_nth_job():
    jobs = [Job(str(number), {}, ()) for number in range(5)]
    parts = [[job.name for job in shard(jobs, f"{part}/2")] for part in range(2)]
    assert parts == [["0", "2", "4"], ["1", "3"]]
    assert shard(jobs, "0/1") == jobs
    for part in ("2/2", "1", "a/b", "-1/2"):
        with pytest.raises(ConfigError, match=r"must be I/N"):
            shard(jobs, part)


def test_a_job_gets_its_share_of_the_visible_gpus(monkeypatch):
    from prithvi_tg.studies import _environment

    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    job = Job("one", {}, ())
    assert [_environment(job, slot, 3, 1)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["4", "6", "7"]
    assert _environment(job, 1, 2, 2)["CUDA_VISIBLE_DEVICES"] == "7,4"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert _environment(job, 2, 3, 1)["CUDA_VISIBLE_DEVICES"] == "2"


def test_a_study_whose_training_was_killed_ends_with_the_whole_table(study, tmp_path, monkeypatch, start):
    """With the real command: the first training is killed, and the same study resumes it."""
    run = tmp_path / "runs/burn_scars/nano/linear_probe"
    killed = []

    def kill_first(words, **options):
        if killed:
            return run_here(words, **options)
        killed.append(start(*words[3:]))
        wait_for(lambda: list(run.glob("seed_0/fit/version_0/checkpoints/last.ckpt")), 120)
        killed[0].kill()
        return subprocess.CompletedProcess(words, killed[0].poll())

    monkeypatch.setattr("prithvi_tg.studies.subprocess", SimpleNamespace(run=kill_first))
    words = (
        "--small", "--datasets", "burn_scars", "--tunings", "linear_probe", "--seeds", 0, 1, "--output", tmp_path,
        "--", "--trainer.max_epochs=2",
    )  # fmt: skip
    with pytest.raises(SystemExit, match=r"error: 1 of 2 jobs failed; see .*seed_0/log\.txt"):
        study.call(*words)
    assert killed[0].poll() == -signal.SIGKILL
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert row["seeds"] == [1]
    study.call(*words)
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert row["seeds"] == [0, 1]
    assert [len(list(run.glob(f"seed_{seed}/test/version_*"))) for seed in (0, 1)] == [1, 1]
    resumed = (run / "seed_0/log.txt").read_text()
    assert len(list(run.glob("seed_0/fit/version_*"))) == 2, resumed
    assert "Resuming in " in resumed
