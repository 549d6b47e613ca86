"""Fixtures: golden numbers, a tiny synthetic dataset, a tiny task, the command line."""

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from forked import ForkedCommand, end_server
from matplotlib.figure import Figure
from PIL import Image

from prithvi_tg import EncoderDecoder, PrithviSegmentationTask, create_encoder, load_weights
from prithvi_tg.datasets import HLSBurnScars
from prithvi_tg.datasets.synthetic import write_sen1floods11
from prithvi_tg.models import ConvTransposeNeck, FCNHead
from prithvi_tg.spec import DataSpec

GOLDEN = Path(__file__).parent / "golden"
TINY = {"width": 32, "depth": 2, "num_heads": 2}


def pytest_collection_finish() -> None:
    """What lives until the end, such as modules and collected tests, is not searched for garbage again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _share_of_the_cores() -> None:
    """Each worker of pytest-xdist, and each process that its tests start, computes on its share of the cores."""
    share = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(share))
    torch.set_num_threads(int(threads))


@pytest.fixture(autouse=True, scope="session")
def _tables_as_wide_as_needed() -> None:
    """Tables depend on ``COLUMNS`` only in tests that set it; in the workers of pytest-xdist it is 80."""
    os.environ.pop("COLUMNS", None)


#: As matplotlib draws figures.
draw = Figure.savefig


def save_a_pixel(figure: Figure, file: Any, **options: Any) -> None:
    """Replaces `Figure.savefig`: a picture of one pixel, unless the figure becomes a part of a page."""
    if options.get("format", "png") != "png":
        draw(figure, file, **options)
    else:
        Image.new("RGB", (1, 1)).save(file, format="png")


@pytest.fixture(autouse=True)
def _pictures_of_one_pixel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed but not drawn, as drawing takes half of a tiny run; except in tests of pictures."""
    if not request.node.get_closest_marker("pictures"):
        monkeypatch.setattr(Figure, "savefig", save_a_pixel)


@pytest.fixture
def compiler_in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """`torch.compile` with an empty cache, in this process only, and without vector instructions."""
    from torch._inductor import config, cpu_vec_isa

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # An empty cache does not know which vector instructions the CPU has, and would compile a program for each.
    monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", lambda: [], raising=False)
    with config.patch(compile_threads=1):  # `monkeypatch` cannot restore an option of torch
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real imagery."""
    if not os.environ.get("PRITHVI_TG_REAL_DATA"):
        pytest.skip("PRITHVI_TG_REAL_DATA is not set: no real imagery here")
    return Path(os.environ["PRITHVI_TG_REAL_DATA"])


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


def golden_input(arrays: Any, key: str) -> torch.Tensor:
    """Golden inputs are (B, band, frame, H, W) int8; ours are (B, T, C, H, W)."""
    image = arrays[key].astype(np.float32) * arrays["input_scale"]
    return torch.from_numpy(image).transpose(1, 2)


@pytest.fixture
def golden_segmenter() -> Callable[[str], EncoderDecoder]:
    """The small models of the golden numbers."""

    def build(name: str) -> EncoderDecoder:
        frames, classes = {"burn_scars_64": (1, 2), "crop_64": (3, 13)}[name]
        encoder = create_encoder("nano", width=64, depth=2, num_heads=4)
        channels = 64 * frames
        heads = [FCNHead(channels, classes, 16, convs) for convs in (1, 2)]
        model = EncoderDecoder(encoder, ConvTransposeNeck(channels), *heads)
        load_weights(model, GOLDEN / "models" / f"{name}.pth")
        return model.eval()

    return build


@pytest.fixture
def burn_spec() -> DataSpec:
    """Burn scars: bands, statistics and classes of the golden inference."""
    return HLSBurnScars.data_spec()


@pytest.fixture(scope="session")
def flood_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small synthetic chips, splits.csv and a scene of 100 x 90; read only."""
    return write_sen1floods11(
        tmp_path_factory.mktemp("floods") / "data", chips=6, size=64, scene_size=(100, 90), seed=1
    )


@pytest.fixture(scope="session")
def trained_run(flood_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of ``fit``: a tiny model after an epoch of the synthetic chips; read only."""
    from prithvi_tg.__main__ import main

    folder = tmp_path_factory.mktemp("trained")
    path = folder / "config.yaml"
    path.write_text(TINY_CONFIG.format(root=flood_root, runs=folder))
    assert main(["fit", "--config", str(path)]) == 0
    return folder / "version_0"


@pytest.fixture(scope="session")
def trained(trained_run: Path) -> Path:
    """Best checkpoint of `trained_run`; read only."""
    return trained_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def tiny_task() -> PrithviSegmentationTask:
    torch.manual_seed(0)
    return PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, warmup_steps=1
    )


TINY_CONFIG = """\
seed_everything: 0
model:
  class_path: PrithviSegmentationTask
  init_args:
    encoder: nano
    encoder_args: {{width: 32, depth: 2, num_heads: 2}}
    head_channels: 8
    lr: 1.0e-3
    warmup_steps: 1
    window: 32
data:
  class_path: Sen1Floods11DataModule
  init_args:
    root: {root}
    splits: {root}/splits.csv
    batch_size: 2
    crop_size: 32
trainer:
  default_root_dir: {runs}
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
"""


@pytest.fixture
def config(flood_root: Path, tmp_path: Path) -> Path:
    """A configuration that trains a tiny model on the synthetic chips."""
    path = tmp_path / "config.yaml"
    path.write_text(TINY_CONFIG.format(root=flood_root, runs=tmp_path / "runs"))
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``prithvi-tg`` in this process: exit code, standard output, standard error."""
    from prithvi_tg.__main__ import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(autouse=True, scope="session")
def _no_process_is_left() -> Iterator[None]:
    """The server of forked processes ends with the tests, and writes the coverage that it has measured."""
    yield
    end_server()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ForkedCommand]]:
    """Start ``prithvi-tg`` in a process of its own, for seconds less than `subprocess` takes; ended with the test."""
    started: list[ForkedCommand] = []

    def run(*words: object, path: tuple[Path, ...] = ()) -> ForkedCommand:
        folder = tmp_path / f"output_of_{len(started)}"
        started.append(ForkedCommand([str(word) for word in words], folder, path))
        return started[-1]

    yield run
    for one in started:
        one.kill()


# Studies.


def run_here(
    words: list[str],
    *,
    stdout: Any,
    stderr: Any,
    env: dict[str, str] | None = None,
    **_: Any,
) -> subprocess.CompletedProcess[str]:
    """Replaces `subprocess.run`: runs the command in this process, without importing again, and draws no pictures."""
    assert words[:3] == [sys.executable, "-m", "prithvi_tg"]
    path = (env or {}).get("PYTHONPATH", "").split(os.pathsep)
    with (
        mock.patch.object(sys, "path", [*path, *sys.path]),
        mock.patch.object(Figure, "savefig", save_a_pixel),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            from prithvi_tg.__main__ import main

            code = main(words[3:])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(words, code)


def run_valid_jobs_here(words: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Replaces `subprocess.run`: a job with an invalid option is a process, as all are outside of tests."""
    return (subprocess.run if "--encoder=none" in words else run_here)(words, **options)


@pytest.fixture
def jobs_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of studies and sweeps run in this process."""
    for module in ("prithvi_tg.studies", "prithvi_tg.commands.sweep"):
        monkeypatch.setattr(f"{module}.subprocess", SimpleNamespace(run=run_valid_jobs_here))
