"""The linear baseline of single pixels: fits, scores, and ``report --baseline``."""

import json
import shutil

import pytest
import torch

from prithvi_tg.reporting.linear_baseline import linear_baseline
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget, ValueTarget

pytestmark = pytest.mark.pictures

INPUT = InputSpec(("RED", "NIR_NARROW"), (0.3, 0.3), (0.1, 0.1))


def chips(label, count=4, seed=0):
    """Chips of two bands; some pixels have no label, and some no data."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(count):
        image = torch.rand(1, 2, 16, 16, generator=generator)
        mask = label(image[0, 0], image[0, 1])
        mask[:2] = torch.nan if mask.is_floating_point() else 255
        valid = torch.ones_like(image, dtype=torch.bool)
        valid[..., -1] = False
        samples.append({"image": image, "valid": valid, "mask": mask})
    return samples


def test_classes_that_a_plane_separates_are_found():
    spec = DataSpec(INPUT, ClassTarget(("Land", "Water")))
    samples = chips(lambda red, nir: (red > nir).long())
    metrics = {
        "per_class": {name: {"IoU": 0.5} for name in ("Land", "Water")},
        "overall": {"mIoU": 0.5, "aAcc": 0.6},
    }
    first, again = (linear_baseline(samples[:2], 2, samples[2:], spec, metrics) for _ in range(2))
    assert first == again
    assert first.pixels == 2 * 14 * 15
    assert sum(first.labelled.values()) == 2 * 14 * 16
    assert [row[:2] for row in first.rows[-2:]] == [("mIoU", 0.5), ("aAcc", 0.6)]
    assert all(row[2] > 0.95 for row in first.rows)


def test_values_that_are_linear_in_the_bands_are_found():
    spec = DataSpec(INPUT, ValueTarget(("biomass",), mean=(10.0,), std=(5.0,)))
    samples = chips(lambda red, nir: 20 * nir - 5 * red + 3)
    metrics = {"per_value": {"biomass": {"RMSE": 2.0, "MAE": 1.0, "R2": 0.8}}}
    rows = {row[0]: row[2] for row in linear_baseline(samples[:2], 2, samples[2:], spec, metrics).rows}
    assert rows["biomass R2"] == pytest.approx(1, abs=1e-4)
    assert rows["biomass RMSE"] < 0.05


def test_the_report_shows_the_baseline_on_the_pixels_of_the_run(trained_run, command, tmp_path):
    code, _, err = command("report", trained_run, "--baseline", "--output", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "Logistic regression on 6 values of a pixel" in page
    mean = json.loads((trained_run / "metrics.json").read_text())["overall"]["mIoU"]
    assert f"<tr><th>mIoU</th><td>{100 * mean:.1f}</td><td>" in page


def test_a_baseline_without_configuration_or_data_is_an_error_of_one_line(trained_run, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("*.ckpt"))
    record = json.loads((run / "metrics.json").read_text())
    changed = json.loads(json.dumps(record))
    changed["confusion_matrix"]["counts"][0][0] += 1
    (run / "metrics.json").write_text(json.dumps(changed))
    code, _, err = command("report", run, "--baseline")
    assert (code, "labelled pixels, but its data now have" in err) == (1, True)
    (run / "metrics.json").write_text(json.dumps(record))
    text = (run / "config.yaml").read_text()
    lines = [
        f"    root: {tmp_path}/moved" if line.strip().startswith("root:") else line
        for line in text.splitlines()
    ]
    (run / "config.yaml").write_text("\n".join(lines))
    code, _, err = command("report", run, "--baseline")
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert f"baseline: the data of {run} cannot be read: {tmp_path}/moved" in err
    (run / "config.yaml").unlink()
    code, _, err = command("report", run, "--baseline")
    assert code == 2
    assert f"baseline: {run}/config.yaml: no such file" in err
    assert not (run / "report.html").exists()
