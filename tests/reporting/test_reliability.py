"""The calibration of a run in its files and in the report."""

import json
import shutil

import pytest

from prithvi_tg.reporting.reliability import reliability_figure, reliability_svg
from prithvi_tg.reporting.report import write_report
from prithvi_tg.reporting.runs import read_run
from prithvi_tg.tasks.calibration_metrics import BINS

pytestmark = pytest.mark.pictures


def test_a_scored_run_has_its_calibration_in_its_files(trained_run):
    record = json.loads((trained_run / "metrics.json").read_text())
    bins = record["reliability"]["calibration"]
    labelled = sum(entry["labelled_pixels"] for entry in record["per_class"].values())
    assert [len(values) for values in bins.values()] == [BINS] * 3
    assert sum(bins["pixels"]) == labelled
    pairs = zip(bins["pixels"], bins["confidence"], bins["accuracy"], strict=True)
    error = sum(count * abs(confidence - accuracy) for count, confidence, accuracy in pairs if count)
    assert record["overall"]["ECE"] == pytest.approx(error / labelled, abs=1e-9)
    assert (trained_run / "reliability.png").exists()
    header = (trained_run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "val_ECE" in header
    assert "train_ECE" not in header


def test_the_report_shows_the_diagram_unless_a_run_has_none(trained_run, tmp_path):
    older = shutil.copytree(trained_run, tmp_path / "older")
    record = json.loads((older / "metrics.json").read_text())
    del record["reliability"], record["overall"]["ECE"]
    (older / "metrics.json").write_text(json.dumps(record))
    runs = [read_run(trained_run, "new"), read_run(older, "old")]
    write_report(tmp_path / "both.html", runs)
    write_report(tmp_path / "old.html", runs[1:])
    both, old = ((tmp_path / name).read_text() for name in ("both.html", "old.html"))
    assert 'alt="reliability diagram of new"' in both
    assert 'alt="reliability diagram of old"' not in both
    assert "<th>ECE</th>" in both
    assert "reliability diagram" not in old
    assert "ECE" not in old


def test_the_legend_of_a_diagram_covers_no_line():
    counts = {"pixels": [10, 10], "confidence": [0.3, 0.8], "accuracy": [0.9, 1.0]}
    figure = reliability_figure({"calibration": counts, "calibrated": counts})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(axis.get_tightbbox()) for axis in figure.axes)
    assert figure.axes[0].get_legend() is None


def test_a_diagram_has_a_line_for_each_count_and_leaves_out_empty_bins():
    counts = {"pixels": [0, 5, 15], "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.4, 0.8]}
    text = reliability_svg({"calibration": counts, "calibrated": counts}).decode()
    assert text.count("<!-- as trained, ECE 0.100 -->") == 1
    assert text.count("<!-- with temperature, ECE 0.100 -->") == 1
