"""A test of several sets: each has the scores, files and report of a test of its own."""

import json
import re
import shutil
from dataclasses import dataclass

import pandas as pd
import pytest
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from prithvi_tg import Sen1Floods11DataModule, load_task, studies
from prithvi_tg.__main__ import main
from prithvi_tg.callbacks import ScoreReport
from prithvi_tg.cli.messages import shown_messages
from prithvi_tg.commands.pixel_baselines import pixel_baselines
from prithvi_tg.errors import ConfigError
from prithvi_tg.exporting.card import CardText, model_card, read_metrics
from prithvi_tg.reporting.published import PUBLISHED, PublishedResult
from prithvi_tg.reporting.runs import read_run, read_runs


@pytest.fixture(scope="module")
def tested(trained_run, trained, tmp_path_factory):
    """Folder with the runs ``several``, ``test`` and ``bolivia``: tests of both splits at once, and of each."""
    folder = tmp_path_factory.mktemp("tested")
    for name, split in (("several", "[test, bolivia]"), ("test", "test"), ("bolivia", "bolivia")):
        words = ["test", "--config", str(trained_run / "config.yaml"), "--ckpt_path", str(trained)]
        words += ["--trainer.default_root_dir", str(folder), "--data.test_split", split]
        assert main(words) == 0
        (folder / "version_0").rename(folder / name)
    return folder


def read(folder):
    record = json.loads((folder / "metrics.json").read_text())
    record.pop("run")
    return record


def test_each_set_has_the_scores_and_files_of_a_test_of_its_own(tested):
    first, further = read(tested / "several"), read(tested / "several" / "bolivia")
    bolivia = first.pop("further_splits")
    assert first == read(tested / "test")
    assert further == read(tested / "bolivia")
    assert bolivia == {"bolivia": {key: further[key] for key in ("overall", "per_class")}}
    assert first["overall"] != further["overall"]
    for name in ("chips.csv", "confusion.csv"):
        assert (tested / "several" / name).read_text() == (tested / "test" / name).read_text()
        assert (tested / "several/bolivia" / name).read_text() == (tested / "bolivia" / name).read_text()
    names = {path.name for path in (tested / "bolivia" / "chips").iterdir()}
    assert {path.name for path in (tested / "several/bolivia/chips").iterdir()} == names


def test_the_record_of_the_run_is_the_last_file_as_it_marks_a_complete_test(tested):
    last = (tested / "several" / "metrics.json").stat().st_mtime_ns
    for name in (
        "chips.csv",
        "confusion.csv",
        "bolivia/metrics.json",
        "bolivia/chips.csv",
        "bolivia/confusion.csv",
    ):
        assert (tested / "several" / name).stat().st_mtime_ns <= last
    assert all(path.stat().st_mtime_ns <= last for path in (tested / "several/bolivia/chips").iterdir())


def test_a_test_of_one_set_writes_what_it_wrote(tested):
    assert "further_splits" not in read(tested / "bolivia")
    assert read(tested / "bolivia")["split"] == "bolivia"
    logged = pd.read_csv(tested / "bolivia" / "metrics.csv")
    assert {"test_mIoU", "test_loss"} <= {*logged.columns}
    assert not [name for name in logged.columns if "bolivia" in name]


def test_scores_of_further_sets_are_logged_with_their_names(tested):
    logged = pd.read_csv(tested / "several" / "metrics.csv").iloc[0]
    for split, start in (("test", "test_"), ("bolivia", "test_bolivia_")):
        alone = pd.read_csv(tested / split / "metrics.csv").iloc[0]
        for name in ("mIoU", "loss", "IoU_Water", "ECE"):
            assert logged[start + name] == pytest.approx(alone[f"test_{name}"], nan_ok=True)


def test_the_report_has_a_column_for_each_set(tested, tmp_path, command):
    run = shutil.copytree(tested / "several", tmp_path / "several")
    code, _, err = command("report", run, tested / "bolivia", "--names", "ours", "alone", "--baseline")
    assert code == 0, err
    page = (run / "report.html").read_text()
    for name in ("ours (test)", "ours (bolivia)", "alone"):
        assert f"<h3>{name}</h3>" in page
    assert "not scored on the same pixels as ours (test)" in page
    runs = read_runs([run])
    assert [one.name for one in runs] == ["several (test)", "several (bolivia)"]
    assert [one.metrics["split"] for one in runs] == ["test", "bolivia"]
    assert runs[1].settings == runs[0].settings != {}
    assert read_run(run / "bolivia").chips.names == read_run(tested / "bolivia").chips.names
    baselines = pixel_baselines(runs)
    assert (
        baselines["several (bolivia)"].labelled
        == pixel_baselines(read_runs([tested / "bolivia"]))["bolivia"].labelled
    )


def test_studies_and_model_cards_read_the_scores_of_all_sets(tested, trained, tmp_path):
    shutil.copytree(tested / "several", tmp_path / "version_0")
    scores = studies.scores(tmp_path)
    assert scores["mIoU"] == read(tested / "test")["overall"]["mIoU"]
    assert scores["bolivia/mIoU"] == read(tested / "bolivia")["overall"]["mIoU"]
    assert scores["bolivia/IoU/Water"] == pytest.approx(
        read(tested / "bolivia")["per_class"]["Water"]["IoU"], nan_ok=True
    )
    metrics, task = read_metrics(tested / "several" / "metrics.json"), load_task(trained)
    card = model_card(task, "me/mine", CardText(), metrics, [])
    assert re.findall(r"^Split: (\w+)\.", card, re.MULTILINE) == ["test", "bolivia"]
    assert "split: bolivia" in card


class AnyProtocol:
    """A protocol that every run follows."""

    name = reference = files = description = seeds = ""

    def difference(self, arguments):
        return None


@dataclass(frozen=True)
class OneChip:
    """One published chip."""

    name: str

    def difference(self, names):
        return None if list(names) == [self.name] else "other chips"


def test_comparisons_are_those_of_the_set_with_the_published_chips(
    flood_root, tiny_task, tmp_path, monkeypatch, capsys
):
    chips = {row.split: row.chip for row in pd.read_csv(flood_root / "splits.csv").itertuples()}
    for split in ("test", "bolivia"):
        result = PublishedResult({"mIoU": 0.5}, OneChip(chips[split]), AnyProtocol())
        monkeypatch.setitem(PUBLISHED, split, result)
    data = Sen1Floods11DataModule(
        flood_root, splits=flood_root / "splits.csv", test_split=["test", "bolivia"]
    )
    report = ScoreReport(["test", "bolivia"])
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[report], default_root_dir=tmp_path)
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    titles = re.findall(r"published result (\w+)|(\w+), per cent", " ".join(capsys.readouterr().out.split()))
    assert [one or other for one, other in titles] == ["test", "test", "bolivia", "bolivia"]


def test_loaders_without_names_are_one_set(flood_root, tiny_task, tmp_path):
    data = Sen1Floods11DataModule(
        flood_root, splits=flood_root / "splits.csv", test_split=["test", "bolivia"]
    )
    data.setup("test")
    batches = [data.aug(batch) for loader in data.test_dataloader() for batch in loader]
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.test(tiny_task, [DataLoader([batch], batch_size=None) for batch in batches], verbose=False)
    assert int(tiny_task.confusion.sum()) == sum(int((batch["mask"] != 255).sum()) for batch in batches)
    assert list(tiny_task.test_results) == ["test"]


def test_splits_that_make_no_sense_are_refused(flood_root):
    with pytest.raises(
        ConfigError, match="test_split: 'bolvia' is not in Sen1Floods11; it has train, val, test"
    ):
        Sen1Floods11DataModule(flood_root, test_split=["test", "bolvia"])
    for splits in ([], ["test", "test"]):
        with pytest.raises(ConfigError, match=r"test_split: .* give one split, or several different ones"):
            Sen1Floods11DataModule(flood_root, test_split=splits)


def test_check_surveys_every_test_set(trained_run, command):
    words = ("check", "--config", trained_run / "config.yaml", "--data.test_split", "[test, bolivia]")
    code, out, err = command(*words)
    assert code == 0, err
    assert "bolivia" in out
