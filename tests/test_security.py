"""No code in input files is run: a pickle with code has no effect, whatever argument it is given for."""

import pickle
from pathlib import Path

import pytest
import torch


class Mark:
    """Unpickled freely, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "it ran")


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture(params=["pickle", "zip", "legacy"])
def malicious(request, tmp_path, mark):
    """A malicious file, as a bare pickle and in both of torch's formats."""
    path = tmp_path / "malicious"
    content = {"state_dict": {"weight": torch.zeros(1)}, "meta": Mark(str(mark))}
    if request.param == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
    return path


def test_loading_the_test_file_with_pickle_runs_its_code(mark, tmp_path):
    pickle.loads(pickle.dumps(Mark(str(mark))))  # noqa: S301
    assert mark.exists()


@pytest.mark.parametrize(
    ("words", "suffix"),
    [
        (("fit", "--config", "CONFIG", "--model.weights", "FILE"), ".pt"),
        (("fit", "--config", "CONFIG", "--ckpt_path", "FILE"), ".ckpt"),
        (("test", "--config", "CONFIG", "--ckpt_path", "FILE"), ".pth"),
        (("validate", "--config", "CONFIG", "--ckpt_path", "FILE"), ".safetensors"),
        (("check", "--config", "CONFIG", "--model.weights", "FILE"), ".pt"),
        (("predict", "SCENE", "--ckpt_path", "FILE"), ".ckpt"),
        (("predict", "FILE", "--ckpt_path", "BEST"), ".tif"),
        (("predict", "SCENE", "--ckpt_path", "BEST", "--quality", "FILE", "--qa_mask", "cloud"), ".tif"),
        (("export", "FILE", "out.safetensors"), ".ckpt"),
        (("predict", "SCENE", "--model", "FILE"), ".pt2"),
        (("push", "FILE", "me/floods", "--dry_run", "folder"), ".ckpt"),
        (("fit", "--config", "FILE"), ".yaml"),
        (("fit", "--config", "CONFIG", "--data.splits", "FILE"), ".csv"),
        (("report", "RUN"), "metrics.json"),
        (("report", "RUN"), "chips.csv"),
        (("report", "BESTRUN", "--maps", "FILE"), ".tif"),
        (("sweep", "FILE", "--config", "CONFIG"), ".yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[:1]),
)
def test_no_input_is_unpickled_freely(
    words, suffix, malicious, mark, trained, config, flood_root, tmp_path, command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    if words[-1] == "RUN":
        for name in ("metrics.json", "chips.csv"):
            (run / name).write_bytes((trained.parents[1] / name).read_bytes())
        path = run / suffix
    else:
        path = tmp_path / f"file{suffix}"
    path.write_bytes(malicious.read_bytes())
    places = {
        "CONFIG": config, "FILE": path, "SCENE": flood_root / "scene.tif", "BEST": trained, "RUN": run,
        "BESTRUN": trained.parents[1],
    }  # fmt: skip
    code, out, err = command(*(places.get(word, word) for word in words))
    assert code != 0, (out, err)
    assert not mark.exists()
    told = err + out
    assert "Traceback" not in told
    assert path.name in told.replace("\n", "") or path.stem in told.replace("\n", ""), told


def test_configurations_cannot_create_or_call_arbitrary_objects(config, command, mark, tmp_path):
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text(
        f"seed_everything: !!python/object/apply:pathlib.Path.touch [{mark}]\n{config.read_text()}"
    )
    touch = f"[{{class_path: subprocess.Popen, init_args: {{args: [touch, {mark}]}}}}]"
    for words in (
        ("--config", tagged),
        ("--config", config, "--model.class_path", "subprocess.Popen"),
        ("--config", config, "--data.class_path", "subprocess.Popen"),
        ("--config", config, "--trainer.callbacks", touch),
        ("--config", config, "--trainer.logger", touch[1:-1]),
        ("--config", config, "--data.augmentations", touch),
    ):
        code, _, err = command("fit", *words)
        assert code == 2, words
        assert "error" in err
        assert not mark.exists()


def test_a_checkpoint_cannot_name_a_class_other_than_a_task(trained, command, flood_root, tmp_path):
    content = torch.load(trained, weights_only=True)
    for class_path in ("subprocess.Popen", "os.system", "antigravity.none"):
        path = tmp_path / "other.ckpt"
        torch.save({**content, "task_class": class_path}, path)
        code, _, err = command("predict", flood_root / "scene.tif", "--ckpt_path", path, "--output", tmp_path)
        assert code == 1
        assert "other.ckpt" in err


def test_python_code_in_a_vrt_is_not_run(trained, flood_root, mark, tmp_path, command):
    scene = flood_root / "scene.tif"
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{band}" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionType>run</PixelFunctionType>"
        "<PixelFunctionCode><![CDATA[\ndef run(*arguments, **more):\n"
        f"    open({str(mark)!r}, 'w').close()\n]]></PixelFunctionCode>"
        f"<SimpleSource><SourceFilename>{scene}</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>"
        "</VRTRasterBand>"
        for band in range(1, 14)
    )
    path = tmp_path / "scene.vrt"
    path.write_text(f'<VRTDataset rasterXSize="100" rasterYSize="90">{bands}</VRTDataset>')
    code, out, err = command("predict", path, "--ckpt_path", trained, "--output", tmp_path / "maps")
    assert code == 1, out
    assert "scene.vrt" in err
    assert not mark.exists()
