"""Extensions from a file outside the package, given by class path: losses, optimisers, schedules, scores."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, PearsonCorrCoef, R2Score
from torchmetrics.classification import MulticlassCohenKappa
from torchmetrics.regression import ExplainedVariance

from prithvi_tg.__main__ import main
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.reporting.runs import read_run
from prithvi_tg.tasks import (
    PrithviClassificationTask,
    PrithviPixelwiseRegressionTask,
    PrithviSegmentationTask,
)
from prithvi_tg.tasks.chip_losses import create_chip_loss
from prithvi_tg.tasks.losses import create_loss
from prithvi_tg.tasks.schedules import SCHEDULES, create_schedule
from prithvi_tg.tasks.value_losses import create_value_loss

HERE = __name__
TINY = {"width": 16, "depth": 2, "num_heads": 2}


class BrierLoss(nn.Module):
    """Mean squared difference of probabilities and labels, over labelled pixels."""

    def forward(self, logits, mask):
        known = mask != 255
        target = nn.functional.one_hot(mask.where(known, 0), logits.shape[1]).movedim(-1, 1)
        return ((logits.softmax(1) - target) ** 2).sum(1)[known].mean()


class MeanConfidence(Metric):
    """Mean of the highest probability over labelled pixels."""

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits, mask):
        known = mask != 255
        self.total += logits.softmax(1).amax(1)[known].sum()
        self.count += known.sum()

    def compute(self):
        return self.total / self.count


class ScoredTask(PrithviSegmentationTask):
    """A task with two further scores."""

    def add_metrics(self):
        kappa = MulticlassCohenKappa(self.num_classes, ignore_index=255)
        return {"kappa": kappa, "confidence": MeanConfidence()}


class ReplacedScores(PrithviSegmentationTask):
    """A task that replaces all scores, as for TorchGeo's tasks."""

    def configure_metrics(self):
        from torchmetrics import MetricCollection

        metrics = MetricCollection({"kappa": MulticlassCohenKappa(self.num_classes, ignore_index=255)})
        self.train_metrics, self.val_metrics, self.test_metrics = (metrics.clone() for _ in range(3))


class PrefixedScores(ReplacedScores):
    """A task that replaces all scores by collections with the prefixes of TorchGeo's tasks."""

    def configure_metrics(self):
        super().configure_metrics()
        for split in ("train", "val", "test"):
            metrics = getattr(self, f"{split}_metrics")
            setattr(self, f"{split}_metrics", metrics.clone(prefix=f"{split}_"))


class TwoNumbers(PrithviSegmentationTask):
    """A task with a score that is not a number."""

    def add_metrics(self):
        return {"each": MulticlassCohenKappa(2, ignore_index=255), "pair": Pair()}


class Pair(MeanConfidence):
    def compute(self):
        return torch.tensor([1.0, 2.0])


class Uncertainty(MeanConfidence):
    """A metric with lower values better, which returns a Python number."""

    higher_is_better = False

    def compute(self):
        return 1 - float(super().compute())


class UncertaintyScored(PrithviSegmentationTask):
    def add_metrics(self):
        return {"uncertainty": Uncertainty()}


class MeanIoUAgain(PrithviSegmentationTask):
    """A task that adds a score with the name of an existing one."""

    def add_metrics(self):
        return {"mIoU": MeanConfidence()}


class WithoutDirection(PrithviSegmentationTask):
    """A task with a score that does not define whether high values are better."""

    def add_metrics(self):
        return {"confidence": MeanConfidence()}


def test_a_monitored_score_must_define_its_direction():
    with pytest.raises(ConfigError, match=r"monitor: val_confidence: .*; set its attribute higher_is_better"):
        WithoutDirection("nano", TINY, num_classes=2, monitor="val_confidence")
    assert WithoutDirection("nano", TINY, num_classes=2).mode == "max"


def config(flood_root, runs, **model):
    from conftest import TINY_CONFIG

    text = TINY_CONFIG.format(root=flood_root, runs=runs)
    for key, value in model.items():
        text = text.replace("    window: 32\n", f"    window: 32\n    {key}: {value}\n", 1)
    return text


def fit(tmp_path, text, *words):
    (tmp_path / "config.yaml").write_text(text)
    return main(["fit", "--config", str(tmp_path / "config.yaml"), *words])


def test_scores_of_a_subclass_reach_logger_record_table_and_report(flood_root, tmp_path, capsys):
    text = config(flood_root, tmp_path / "runs", monitor="val_kappa")
    assert fit(tmp_path, text.replace("PrithviSegmentationTask", f"{HERE}.ScoredTask", 1)) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "runs" / "version_0"
    overall = json.loads((folder / "metrics.json").read_text())["overall"]
    assert {"kappa", "confidence", "mIoU"} <= set(overall)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    for name in ("kappa", "confidence"):
        assert [name, f"{overall[name]:.4g}"] in rows
    (line,) = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert [part.split()[0] for part in line.partition(": ")[2].split(", ")[:5]] == [
        "train_loss", "val_loss", "val_kappa", "val_confidence", "val_mIoU",
    ]  # fmt: skip
    assert 0.5 <= overall["confidence"] <= 1
    logged = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "val_kappa" in logged
    assert "train_confidence" in logged
    assert read_run(folder).metrics["overall"]["kappa"] == pytest.approx(overall["kappa"])
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    for name in ("kappa", "confidence"):
        assert f'<tr><th>{name}</th><td class="score"><b>{overall[name]:.4g}</b></td></tr>' in page


def test_all_scores_can_be_replaced_as_in_torchgeo_tasks(flood_root, tmp_path):
    text = config(flood_root, tmp_path / "runs", monitor="val_kappa")
    assert fit(tmp_path, text.replace("PrithviSegmentationTask", f"{HERE}.ReplacedScores", 1)) == 0
    overall = json.loads((tmp_path / "runs" / "version_0" / "metrics.json").read_text())["overall"]
    assert set(overall) == {"kappa"}
    assert (
        main(["report", str(tmp_path / "runs" / "version_0"), "--output", str(tmp_path / "page.html")]) == 0
    )
    page = (tmp_path / "page.html").read_text()
    assert f'<tr><th>kappa</th><td class="score"><b>{overall["kappa"]:.4g}</b></td></tr>' in page
    assert "worst 1: " in page


def test_the_prefix_of_metrics_as_in_torchgeo_tasks_is_not_repeated(flood_root, tmp_path, capsys):
    text = config(flood_root, tmp_path / "runs", monitor="val_kappa")
    text = text.replace("PrithviSegmentationTask", f"{HERE}.PrefixedScores", 1)
    assert fit(tmp_path, text) == 0
    folder = tmp_path / "runs" / "version_0"
    logged = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {name for name in logged if "kappa" in name} == {"train_kappa", "val_kappa"}
    assert set(json.loads((folder / "metrics.json").read_text())["overall"]) == {"kappa"}
    assert fit(tmp_path, text.replace("monitor: val_kappa", "monitor: val_val_kappa")) == 2
    message = "'val_val_kappa' is not logged; did you mean val_kappa? validation logs val_loss, val_kappa"
    assert message in capsys.readouterr().err


def test_a_score_that_is_not_one_number_is_refused(flood_root, tmp_path, capsys):
    text = config(flood_root, tmp_path / "runs").replace("PrithviSegmentationTask", f"{HERE}.TwoNumbers", 1)
    assert fit(tmp_path, text) == 2
    assert r"add_metrics: pair returns (2,), not one number" in capsys.readouterr().err


def test_a_score_may_be_a_python_number_and_be_minimised(flood_root, tmp_path):
    text = config(flood_root, tmp_path / "runs", monitor="val_uncertainty").replace(
        "PrithviSegmentationTask", f"{HERE}.UncertaintyScored", 1
    )
    assert fit(tmp_path, text) == 0
    folder = tmp_path / "runs" / "version_0"
    assert 0 < json.loads((folder / "metrics.json").read_text())["overall"]["uncertainty"] <= 0.5


@pytest.mark.parametrize(
    ("monitor", "mode"), [("val_uncertainty", "min"), ("val_mIoU", "max"), ("val_loss", "min")]
)
def test_the_direction_of_a_monitored_score_is_that_of_its_metric(monitor, mode):
    task = UncertaintyScored(encoder="nano", encoder_args=TINY, num_classes=2, monitor=monitor)
    assert task.mode == mode


class VarianceScored(PrithviPixelwiseRegressionTask):
    def add_metrics(self):
        return {"explained": ExplainedVariance()}


@pytest.mark.parametrize(
    ("monitor", "mode"), [("val_explained", "max"), ("val_R2", "max"), ("val_RMSE", "min")]
)
def test_the_direction_of_a_monitored_regression_score_is_that_of_its_metric(monitor, mode):
    assert VarianceScored(encoder="nano", encoder_args=TINY, monitor=monitor).mode == mode


def test_a_score_must_not_have_the_name_of_a_score_of_the_task(flood_root, tmp_path, capsys):
    text = config(flood_root, tmp_path / "runs").replace("PrithviSegmentationTask", f"{HERE}.MeanIoUAgain", 1)
    assert fit(tmp_path, text) == 2
    assert "add_metrics: mIoU is a score of the task; choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "add_metrics: returns NoneType, not a dict of names and metrics"),
        ([MeanConfidence()], "add_metrics: returns list, not a dict"),
        (
            {"a": MeanConfidence},
            "add_metrics: a is the class MeanConfidence, not an instance of torchmetrics.Metric",
        ),
        ({"confusion_matrix": MeanConfidence()}, "add_metrics: confusion_matrix is a name of the task's own"),
        ({"loss": MeanConfidence()}, "add_metrics: loss is a name of the task's own"),
        ({"a": MulticlassCohenKappa(2)}, "add_metrics: a has ignore_index None; set ignore_index=255"),
    ],
)
def test_invalid_metrics_are_refused_when_the_task_is_created(given, message):
    class Task(PrithviSegmentationTask):
        def add_metrics(self):
            return given

    with pytest.raises(ConfigError, match=message):
        Task(encoder="nano", encoder_args=TINY, num_classes=2)


def test_loss_optimiser_and_schedule_can_be_class_paths(flood_root, tmp_path):
    text = config(
        flood_root, tmp_path / "runs", loss=f"{HERE}.BrierLoss", optimizer="torch.optim.SGD",
        optimizer_args="{momentum: 0.9}", schedule="torch.optim.lr_scheduler.StepLR",
        schedule_args="{step_size: 1, gamma: 0.5}",
    )  # fmt: skip
    assert fit(tmp_path, text) == 0
    last = tmp_path / "runs" / "version_0" / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["momentum"] == 0.9
    assert state["lr_schedulers"][0]["gamma"] == 0.5
    assert state["hyper_parameters"]["loss"] == f"{HERE}.BrierLoss"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("loss", "brier", "loss: 'brier' is unknown; choose from ce, dice"),
        ("loss", "torch.optim.SGD", "loss: torch.optim.SGD must derive from torch.nn.modules.module.Module"),
        ("optimizer", "torch.optim.Sgd", "optimizer: torch.optim.Sgd: torch.optim has no Sgd"),
        ("optimizer_args", "{speed: 1}", "optimizer_args: adamw:"),
        ("schedule", "nowhere.Schedule", "schedule: nowhere.Schedule: no module nowhere"),
        ("schedule_args", "{gamma: 1}", "schedule_args: poly:"),
    ],
)
def test_errors_name_unknown_losses_optimisers_and_schedules(
    flood_root, tmp_path, capsys, key, value, message
):
    assert fit(tmp_path, config(flood_root, tmp_path / "runs", **{key: value})) == 2
    assert message in capsys.readouterr().err


class NeedsShare(nn.Module):
    def __init__(self, share):
        super().__init__()


class PlainCrossEntropy(nn.CrossEntropyLoss):
    """It does not ignore 255."""


class PerPixel(nn.Module):
    def forward(self, logits, mask):
        return nn.functional.cross_entropy(logits, mask, ignore_index=255, reduction="none")


class PythonNumber(nn.Module):
    def forward(self, logits, mask):
        return 0.5


class WithDetails(PerPixel):
    def forward(self, logits, mask):
        return super().forward(logits, mask).mean(), {}


class WithoutGradient(PerPixel):
    def forward(self, logits, mask):
        return super().forward(logits.detach(), mask).mean()


class LogitsOnly(nn.Module):
    def forward(self, logits):
        return logits.mean()


def labelled_batch():
    """Two chips, the first with unlabelled pixels."""
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    mask[0, :4] = 255
    return {"image": torch.randn(2, 1, 6, 32, 32), "mask": mask}


def loss_task(loss, kind=PrithviSegmentationTask, **arguments):
    task = kind(
        encoder="nano", encoder_args=TINY, decoder="linear", loss=f"{HERE}.{loss}", window=32, **arguments
    )
    task.log = lambda *words, **more: None
    return task


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("PlainCrossEntropy", "IndexError: Target 255 is out of bounds; .* is labelled: pass ignore_index"),
        ("PerPixel", r"returned a tensor of shape \(\d, 32, 32\); return one number, a tensor of shape \(\)"),
        ("PythonNumber", r"returned float; return one number, a tensor of shape \(\)"),
        ("WithDetails", r"returned tuple; return one number, a tensor of shape \(\)"),
        (
            "LogitsOnly",
            r"TypeError: .*; it is called with outputs \(\d, 2, 32, 32\) and labels \(\d, 32, 32\)",
        ),
    ],
)
def test_a_loss_that_fails_or_returns_no_number_is_one_line(loss, message):
    task = loss_task(loss, num_classes=2)
    for step in (task.training_step, task.validation_step):
        with pytest.raises(ConfigError, match=rf"loss: {HERE}.{loss}:? {message}"):
            step(labelled_batch(), 0)


def scheduled(kind, **arguments):
    """The schedule of a task, as a training creates it."""
    task = kind(**arguments)
    return task.create_schedule(task.create_optimizer(), 1)


@pytest.mark.parametrize(
    ("key", "given", "method"),
    [
        ("loss", LogitsOnly(), "configure_losses"),
        ("loss", LogitsOnly, "configure_losses"),
        ("decoder", nn.Identity(), "configure_models"),
        ("encoder", nn.Identity(), "create_encoder"),
        ("optimizer", torch.optim.SGD, "create_optimizer"),
        ("schedule", torch.optim.lr_scheduler.StepLR, "create_schedule"),
        ("pooling", nn.Identity(), "configure_models"),
    ],
)
def test_a_class_or_object_instead_of_a_path_is_refused(key, given, method):
    kind = PrithviClassificationTask if key == "pooling" else PrithviSegmentationTask
    given_class = given if isinstance(given, type) else type(given)
    path = f"{given_class.__module__}.{given_class.__qualname__}"
    with pytest.raises(
        ConfigError, match=rf"{key}: .*; give a name or a class path such as '{path}', .*, override {method}$"
    ):
        scheduled(kind, **{"encoder": "nano", "encoder_args": TINY, "num_classes": 2, key: given})


def test_a_loss_without_a_gradient_is_one_line():
    task = loss_task("WithoutGradient", num_classes=2)
    with pytest.raises(
        ConfigError, match=rf"{HERE}.WithoutGradient returned a tensor without gradient; comp"
    ):
        task.training_step(labelled_batch(), 0)
    with torch.no_grad():
        task.validation_step(labelled_batch(), 0)


@pytest.mark.parametrize(
    "create", [create_loss, create_value_loss, lambda name: create_chip_loss(name, False)]
)
def test_a_loss_that_needs_arguments_is_refused(create):
    with pytest.raises(
        ConfigError, match=r"NeedsShare: missing a required argument: 'share'; .*configure_losses"
    ):
        create(f"{HERE}.NeedsShare")


def test_a_loss_of_chips_without_class_weights_refuses_them():
    with pytest.raises(
        ConfigError, match=r"class_weights: not supported by the loss .*LogitsOnly.*; use one of ce, bce"
    ):
        create_chip_loss(f"{HERE}.LogitsOnly", False, [1.0, 2.0])


class SquaredError(nn.Module):
    """It does not skip pixels without a label."""

    def forward(self, outputs, labels):
        return ((outputs - labels) ** 2).mean()


class MeanOfLabelled(nn.Module):
    """It is NaN without labels."""

    def forward(self, outputs, labels):
        known = ~labels.isnan() if labels.is_floating_point() else labels != 255
        return (outputs.mean(1) - labels.squeeze(1)).abs()[known.squeeze(1)].mean()


@pytest.mark.parametrize(
    ("loss", "rows", "cause"),
    [
        ("SquaredError", 4, "labels are NaN where nothing is labelled, and .*SquaredError must skip"),
        ("MeanOfLabelled", 32, "the batch has no labels, where .*MeanOfLabelled must return"),
    ],
)
def test_a_loss_that_does_not_skip_unlabelled_pixels_is_named_as_the_cause(loss, rows, cause):
    task = loss_task(loss, PrithviPixelwiseRegressionTask)
    batch = {"image": torch.randn(2, 1, 6, 32, 32), "mask": torch.zeros(2, 32, 32)}
    task.training_step(batch, 0)
    batch["mask"][:, :rows] = float("nan")
    with pytest.raises(DataError, match=f"loss: nan at step 0; {cause}"):
        task.training_step(batch, 0)


def test_a_loss_that_skips_unlabelled_pixels_is_not_the_cause_of_a_divergence():
    task = loss_task("MeanOfLabelled", PrithviPixelwiseRegressionTask)
    torch.nn.init.constant_(task.model.decode_head.conv_seg.weight, float("nan"))
    batch = {"image": torch.randn(2, 1, 6, 32, 32), "mask": torch.zeros(2, 32, 32)}
    batch["mask"][:, :4] = float("nan")
    with pytest.raises(DataError, match="the training has diverged: lower lr"):
        task.training_step(batch, 0)


class FourScores(PrithviPixelwiseRegressionTask):
    """Metrics of torchmetrics, which do not know NaN; each of one number."""

    def add_metrics(self):
        scores = {
            "mse": MeanSquaredError(),
            "mae": MeanAbsoluteError(),
            "r2": R2Score(),
            "masked": MaskedError(),
        }
        return scores | ({"pearson": PearsonCorrCoef()} if self.num_outputs == 1 else {})


class MaskedError(MeanAbsoluteError):
    """A metric that skips NaN itself."""

    def update(self, values, labels):
        known = ~labels.isnan()
        super().update(values[known], labels[known])


@pytest.mark.parametrize("count", [1, 2])
def test_further_scores_of_regression_get_the_labelled_pixels_only(count):
    torch.manual_seed(0)
    task = FourScores(encoder="nano", encoder_args=TINY, decoder="linear", num_outputs=count)
    outputs = torch.randn(3, count, 8, 8)
    labels = outputs + torch.randn(3, count, 8, 8)
    labels[0, :, :2] = float("nan")
    labels[1, -1, 5:] = float("nan")  # one of two values
    labels[2] = float("nan")
    for chip in range(3):  # the last batch has no label
        mask = labels[[chip], 0] if count == 1 else labels[[chip]]
        task.update_metrics(task.val_metrics, outputs[[chip]], mask)
    known = ~labels.isnan().any(1).numpy()
    x, y = (part.movedim(1, -1).double().numpy()[known] for part in (outputs, labels))
    residual, spread = ((x - y) ** 2).sum(0), ((y - y.mean(0)) ** 2).sum(0)
    expected = {
        "mse": ((x - y) ** 2).mean(),
        "mae": abs(x - y).mean(),
        "masked": abs(x - y).mean(),
        "r2": (1 - residual / spread).mean(),
    }
    if count == 1:
        expected["pearson"] = np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    computed = {name: float(task.val_metrics[name].compute()) for name in expected}
    assert computed == pytest.approx(expected, rel=1e-4)
    assert task.val_metrics["errors"].compute()[0].tolist() == (~labels.isnan()).sum((0, 2, 3)).tolist()


class WithoutFurtherArguments(PrithviSegmentationTask):
    def __init__(self, share: float = 0.5):
        super().__init__()


class BelowIt(WithoutFurtherArguments):
    def __init__(self, more: float = 0.5, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize("task", ["WithoutFurtherArguments", "BelowIt"])
def test_a_task_that_does_not_pass_arguments_on_is_named(flood_root, tmp_path, capsys, task):
    data = config(flood_root, tmp_path / "runs").partition("data:")
    assert fit(tmp_path, f"model: {{class_path: {HERE}.{task}}}\n" + "".join(data[1:])) == 2
    message = (
        f"{HERE}.WithoutFurtherArguments.__init__ must accept **kwargs and pass them to super().__init__"
    )
    assert message in capsys.readouterr().err


def test_a_loss_without_class_weights_refuses_them():
    with pytest.raises(
        ConfigError, match="class_weights: not supported by the loss 'dice'; use one of ce, focal"
    ):
        create_loss("dice", [1.0, 2.0])


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"plateau"}))
def test_schedules_cover_the_run(name):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    schedule = create_schedule(name, optimizer, 10, **({} if name == "constant" else {"warmup_steps": 2}))
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) <= 2.0
    if name == "constant":
        assert rates == [2.0] * 10
    else:
        assert rates[0] < rates[2]
        assert rates[-1] < 0.5
