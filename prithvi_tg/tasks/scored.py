"""ScoredTask: base class of tasks with losses, metrics and logged scores."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from ..datamodules.validation import has_validation
from ..errors import ConfigError
from ..targets import IGNORE_INDEX, TARGETS
from .base import PrithviTask
from .data_checks import check_logits
from .losses import LabelledMean
from .metrics import score_log
from .monitoring import log_scores, unknown_monitors
from .own_losses import call_loss


class ScoredTask(PrithviTask):
    """A task with a model that returns outputs (B, K, ...) for labels (B, ...).

    To add scores, override `add_metrics`. To replace all scores, set `train_metrics`, `val_metrics` and `test_metrics`
    in `configure_metrics`, as for TorchGeo's tasks.
    """

    #: Key of a batch that holds the labels.
    label_key: ClassVar[str] = "mask"
    #: Names of the metrics that `compute_scores` uses; all other metrics return one number each.
    counts: ClassVar[tuple[str, ...]] = ()
    #: Scores of `compute_scores` that summarise a validation, the most important first.
    headlines: ClassVar[tuple[str, ...]] = ()
    #: Names of further metrics of validation and test that are not numbers; `compute_scores` and reports use them.
    records: ClassVar[tuple[str, ...]] = ()
    train_metrics: MetricCollection
    val_metrics: MetricCollection
    test_metrics: MetricCollection
    monitor: str
    mode: str
    val_loss: LabelledMean
    test_loss: LabelledMean
    criterion: Any
    computed: dict[str, Any]
    scores: dict[str, Tensor]
    _own_scores: frozenset[str] = frozenset()  # names of `add_metrics`
    _test_sets: Sequence[tuple[MetricCollection, LabelledMean]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.val_loss, self.test_loss = LabelledMean(), LabelledMean()
        #: Results of the last test by set: those of its metrics, and its scores.
        self.test_results: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {}

    @property
    def main_scores(self) -> list[str]:
        """Logged names of the validation scores that summarise an epoch: those of `add_metrics`, then the headlines."""
        further = [name for name in named(self.val_metrics, "val") if name not in self.counts]
        return [f"val_{name}" for name in (*further, *self.headlines)]

    @property
    def output_names(self) -> list[str]:
        """Name of each output of the model."""
        raise NotImplementedError

    # Methods to override in a subclass.

    def add_metrics(self) -> dict[str, Metric]:
        """Further metrics by name, from torchmetrics or your own; `update_metrics` updates them.

        Segmentation updates them with logits (B, K, H, W) and classes (B, H, W), 255 = not labelled, so metrics of
        torchmetrics need ``ignore_index=255``. Regression updates them with the values and labels, in
        the unit, of the labelled pixels, both (N,), or (N, V) for several values. Classification updates them with
        probabilities (B, K) and labels of chips.

        Each metric returns one number. It is logged as ``val_NAME`` and so on, and appears in the progress bar, tables,
        metrics.json and the report. If it is monitored, its attribute ``higher_is_better`` must define which checkpoint
        is the best.
        """
        return {}

    def set_metrics(self, metrics: dict[str, Metric], evaluated: Mapping[str, Metric] | None = None) -> None:
        """Set `train_metrics`, `val_metrics` and `test_metrics` to these metrics and those of `add_metrics`.

        Args:
            metrics: Metrics by name.
            evaluated: Metrics of validation and test only.

        Raises:
            ConfigError: `add_metrics` does not return metrics by new names.
        """
        further = self.add_metrics()
        check_metrics(
            further,
            {*metrics, *(evaluated or {}), "loss"},
            IGNORE_INDEX if self.target_kind == "classes" else None,
        )
        collection = MetricCollection({**metrics, **further}, compute_groups=False)
        self.train_metrics = collection.clone()
        collection.add_metrics(dict(evaluated or {}))
        self.val_metrics = collection.clone()
        self.test_metrics = collection.clone()
        self._own_scores = frozenset(further)
        if self.monitor in [f"val_{name}" for name in further]:
            self.mode = self.mode_of(self.monitor)

    def mode_of(self, monitor: str) -> str:
        """``min`` or ``max``, by ``higher_is_better`` of the metric, or else by `default_mode`.

        Raises:
            ConfigError: The metric is one of `add_metrics`, and does not define it.
        """
        name = monitor.removeprefix("val_")
        better = getattr(named(self.val_metrics, "val").get(name), "higher_is_better", None)
        if better is None and name in self._own_scores.difference(self.headlines):
            raise ConfigError(
                f"monitor: {monitor}: the metric {name} does not define whether high or low values are better; set its "
                "attribute higher_is_better to True or False"
            )
        return self.default_mode(monitor) if better is None else "max" if better else "min"

    def is_labelled(self, labels: Tensor) -> Tensor:
        """Which labels are labelled, as the target defines it: bool, with the shape of `labels`."""
        return TARGETS[self.target_kind].is_labelled(labels)

    def encode(self, labels: Tensor) -> Tensor:
        """Labels in the form that the loss requires."""
        return labels

    def compute_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, from outputs (B, K, ...) and the result of `encode`; see `call_loss`."""
        return call_loss(self.criterion, outputs, labels)

    def decode(self, outputs: Tensor) -> Tensor:
        """Predictions, in the form of labels, from the outputs (B, K, H, W) of the model."""
        raise NotImplementedError

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, labels: Tensor) -> None:
        """Update metrics with outputs (B, K, H, W) and labels (B, H, W) of a batch."""
        metrics.update(outputs, labels)

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """Scores of a set from the results of its metrics: scalars, or a value per output."""
        raise NotImplementedError

    def forward_evaluation(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Outputs (B, K, ...) for normalised images (B, T, C, H, W) of any size, in validation and test."""
        raise NotImplementedError

    # Hooks of Lightning.

    def setup(self, stage: str) -> None:
        """As in `PrithviTask`; and, before training, check that validation will log what is monitored.

        Raises:
            ConfigError: It will not, or the data do not match the model.
        """
        super().setup(stage)
        if stage == "fit" and has_validation(self.trainer):
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
            for message in unknown_monitors(self, callbacks, self.output_names):
                raise ConfigError(message)

    def on_train_epoch_end(self) -> None:
        """Log all scores of the training crops of the epoch."""
        self.finish_scores(self.train_metrics, "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update loss and metrics with a batch.

        Returns:
            ``logits`` (B, K, H, W), the outputs of the model, and ``prediction``, in the form of labels.

        Raises:
            DataError: An output is not finite.
        """
        return self._evaluate(batch, f"validation, batch {batch_idx}", self.val_metrics, self.val_loss)

    def on_validation_epoch_end(self) -> None:
        """Log the loss and all scores of the validation set."""
        self.finish_scores(self.val_metrics, "val", self.val_loss)

    def on_test_epoch_start(self) -> None:
        """Create metrics of each further test set of the data module."""
        first = (self.test_metrics, self.test_loss)
        self._test_sets = [first, *(deepcopy(first) for _ in names_of_test_sets(self.trainer)[1:])]

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """As `validation_step`.

        Raises:
            DataError: An output is not finite.
        """
        sets = self._test_sets or [(self.test_metrics, self.test_loss)]  # no hook of a test has run
        metrics, mean_loss = sets[min(dataloader_idx, len(sets) - 1)]
        return self._evaluate(batch, f"test, batch {batch_idx}", metrics, mean_loss)

    def on_test_epoch_end(self) -> None:
        """Log the loss and all scores of each test set: ``test_mIoU`` of the first, ``test_bolivia_mIoU`` of others."""
        self.test_results = {}
        for name, (metrics, mean_loss) in zip(names_of_test_sets(self.trainer), self._test_sets, strict=True):
            self.finish_scores(metrics, f"test_{name}" if self.test_results else "test", mean_loss)
            self.test_results[name] = self.computed, self.scores
        self.use_results(next(iter(self.test_results)))
        self._test_sets = ()

    def use_results(self, name: str) -> None:
        """Set `computed` and `scores` to the results of one set of the last test."""
        self.computed, self.scores = self.test_results[name]

    def _evaluate(
        self, batch: Any, place: str, metrics: MetricCollection, mean_loss: LabelledMean
    ) -> dict[str, Tensor]:
        image, labels = batch["image"], batch[self.label_key]
        is_fit = self.attached_trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        if not is_fit:
            self._check_units(batch)
        outputs = self.forward_evaluation(image, **self.coordinates(batch))
        check_logits(outputs, image, batch.get("name"), place)
        self.update_metrics(metrics, outputs, labels)
        # One chip at a time, so that the mean over labelled pixels does not depend on the batch size.
        for output, label in zip(outputs.split(1), self.encode(labels).split(1), strict=True):
            mean_loss.update(self.compute_loss(output, label), self.is_labelled(label).sum())
        return {"logits": outputs, "prediction": self.decode(outputs)}

    def logged_in_validation(self, names: Sequence[str]) -> list[str]:
        """Names of loss and scores that a validation logs.

        Args:
            names: Name of each output; `output_names` needs a running trainer.
        """
        metrics = named(self.val_metrics, "val")
        known = [name for name in (*self.counts, *self.records) if name in metrics]
        computed = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*was called before the ``update`` method")
            for name in known:
                metric = deepcopy(metrics[name])
                metric.sync_on_compute = False
                computed[name] = metric.compute()
        found = self.compute_scores(computed) if computed else {}
        scores = {name: values.nan_to_num() for name, values in found.items()}
        further = [f"val_{name}" for name in metrics if name not in computed]
        return ["val_loss", *score_log(scores, names, "val"), *further]

    def finish_scores(
        self, metrics: MetricCollection, prefix: str, mean_loss: LabelledMean | None = None
    ) -> None:
        """Compute, log and reset the metrics of an epoch; those of validation and test become `scores`.

        Args:
            metrics: The metrics of the set.
            prefix: First part of the logged names: ``train``, ``val``, ``test`` or ``test_`` and the name of a set.
            mean_loss: The loss of the set.

        Raises:
            ConfigError: A metric of `add_metrics` has the name of a score of the task.
        """
        computed = {
            name: metric.compute() for name, metric in named(metrics, prefix.partition("_")[0]).items()
        }
        known = (*self.counts, *self.records)
        counts = {name: value for name, value in computed.items() if name in known}
        further = {name: _number(name, value) for name, value in computed.items() if name not in known}
        scores = self.compute_scores(counts) if counts else {}
        if taken := scores.keys() & further:
            raise ConfigError(f"add_metrics: {', '.join(taken)} is a score of the task; choose another name")
        scores |= further
        shown = {f"{prefix}_{name}": float(value) for name, value in further.items()}
        log_scores(self, score_log(scores, self.output_names, prefix), shown if prefix != "train" else {})
        if mean_loss is not None:
            self.log(f"{prefix}_loss", mean_loss.compute())  # over all processes
        # A test runs in inference mode; a later fit could not update tensors that were created in it.
        with torch.inference_mode(False):
            metrics.reset()
            if mean_loss is not None:
                mean_loss.reset()
        if prefix != "train" and not self.trainer.sanity_checking:
            self.computed, self.scores = counts, scores  # of the last validation or test, for reports


def named(metrics: MetricCollection, split: str) -> dict[str, Metric]:
    """Metrics by name, without the prefix ``val_`` and so on that TorchGeo's tasks give those of a split.

    Args:
        metrics: The metrics of the split.
        split: ``train``, ``val`` or ``test``.
    """
    return {name.removeprefix(f"{split}_"): metric for name, metric in metrics.items()}


def names_of_test_sets(trainer: Any) -> list[str]:
    """Names of the test sets of the data module of a trainer: its ``test_splits``, or ``test``."""
    return list(getattr(getattr(trainer, "datamodule", None), "test_splits", ())) or ["test"]


def check_metrics(metrics: Any, taken: Collection[str], ignore_index: int | None) -> None:
    """Check the result of `ScoredTask.add_metrics`.

    Args:
        metrics: The result, which should be a dict of metrics by new names.
        taken: Names that are not allowed.
        ignore_index: Label of pixels without a label; ``None`` if there is none.

    Raises:
        ConfigError: The result is not such a dict.
    """
    if not isinstance(metrics, Mapping):
        raise ConfigError(f"add_metrics: returns {type(metrics).__name__}, not a dict of names and metrics")
    for name, metric in metrics.items():
        if not isinstance(metric, Metric | MetricCollection):
            kind = f"the class {metric.__name__}" if isinstance(metric, type) else type(metric).__name__
            raise ConfigError(f"add_metrics: {name} is {kind}, not an instance of torchmetrics.Metric")
        if name in taken:
            raise ConfigError(f"add_metrics: {name} is a name of the task's own; choose another")
        ignored = getattr(metric, "ignore_index", ignore_index)
        if ignore_index is not None and ignored != ignore_index:
            raise ConfigError(
                f"add_metrics: {name} has ignore_index {ignored}; set ignore_index={ignore_index}, the label of "
                "pixels that are not labelled"
            )


def _number(name: str, value: Any) -> Tensor:
    """The result of a metric of `add_metrics`, float64.

    Raises:
        ConfigError: The result is not one number.
    """
    if isinstance(value, int | float):
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"add_metrics: {name} returns {shape}, not one number; average it, or add one metric for each"
        )
    return value.detach().cpu().double().reshape(())
