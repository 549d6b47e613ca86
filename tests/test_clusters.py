"""Commands and SLURM scripts of docs/how-to/clusters.md run on a CPU, with two processes.

``srun`` is replaced by one that starts two tasks, and ``prithvi-tg`` by one that adds options for small models.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import SMALL, TOP, blocks, write_workspace

pytestmark = pytest.mark.pictures

PAGE = TOP / "docs" / "how-to" / "clusters.md"
SCRIPTS = [one.text for one in blocks(PAGE.read_text()) if one.text.startswith("#!/bin/bash")]
TWO_DEVICES = next(one.text for one in blocks(PAGE.read_text()) if "--trainer.devices 2" in one.text)
#: A command with options that make it small.
COMMAND = """\
#!{python}
import os, sys
small = {small}[sys.argv[1]]
small += ["--trainer.accelerator=cpu", "--trainer.num_nodes=1", "--trainer.devices=2"]
small += ["--trainer.max_epochs=" + os.environ["EPOCHS"]]
os.execv(sys.executable, [sys.executable, "-m", "prithvi_tg", *sys.argv[1:], *small])
"""
#: Starts a command twice, as SLURM would for two tasks.
SRUN = """\
#!{python}
import os, subprocess, sys
words = sys.argv[sys.argv.index("prithvi-tg") :]
shared = dict(
    SLURM_JOB_ID="{job}", SLURM_JOB_NAME="job", SLURM_NTASKS="2", SLURM_NTASKS_PER_NODE="2", SLURM_NODEID="0",
    SLURM_NODELIST="127.0.0.1",
)
tasks = [
    subprocess.Popen(words, env=dict(os.environ, **shared, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)))
    for rank in range(2)
]
sys.exit(max(task.wait() for task in tasks))
"""


def directives(script):
    """The values of ``#SBATCH``."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, flags=re.MULTILINE))


@pytest.mark.version_independent
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: directives(script)["job-name"])
def test_a_job_has_a_task_and_a_gpu_for_each_device(script):
    asked = directives(script)
    options = dict(re.findall(r"--trainer\.(\w+) (\S+)", script))
    assert options["num_nodes"] == asked["nodes"]
    assert options["devices"] == asked["ntasks-per-node"] == asked["gpus-per-node"]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with small data, and ``srun`` on the path; returns a function that runs a script."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write_workspace(Path())
    shutil.copytree("data/sen1floods11", "demo/data")
    names = sorted(line.split(",")[0] for line in Path("demo/data/splits.csv").read_text().split()[1:])
    splits = zip(names, ["train", "train", "val", "val", "test", "test"], strict=True)
    Path("demo/data/splits.csv").write_text(
        "chip,split\n" + "".join(f"{name},{split}\n" for name, split in splits)
    )
    activate = Path(".venv/bin/activate")
    activate.parent.mkdir(parents=True)
    activate.touch()
    small = {
        "fit": [*SMALL["configs/demo.yaml"], "--data.num_workers=0", "--data.batch_size=1"],
        "predict": ["--overwrite"],
    }
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("prithvi-tg", COMMAND)):
        (commands / name).write_text(text.format(python=sys.executable, small=small, job=os.getpid()))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)

    def run(script, epochs=1):
        monkeypatch.setenv("EPOCHS", str(epochs))
        done = subprocess.run(
            ["bash", "-e", "-c", script], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.docs
@pytest.mark.version_independent
def test_jobs_train_resume_and_map_with_two_processes(cluster):
    train, maps = SCRIPTS
    assert "MEMBER: 2/2" in cluster(train, epochs=1)
    cluster(train, epochs=2)
    record = json.loads(Path("runs/floods/version_1/metrics.json").read_text())["run"]
    assert record["processes"] == 2
    assert record["training"]["epochs"] == 2
    assert record["training"]["resumed_from"][0]["folder"] == "runs/floods/version_0"
    shutil.copytree("runs/floods", "demo/runs")
    cluster(maps)
    assert Path("maps/scene_pred.tif").stat().st_size


@pytest.mark.docs
@pytest.mark.version_independent
def test_commands_for_two_devices_start_two_processes(cluster):
    assert cluster(TWO_DEVICES).count("MEMBER: 2/2") == 2
    record = json.loads(Path("demo/runs/version_0/metrics.json").read_text())["run"]
    assert record["processes"] == 2
    assert Path("maps/scene_pred.tif").stat().st_size
