"""ClassTask: names and weights of classes, for tasks that predict a class of each pixel or chip."""

from collections.abc import Sequence

from torch import Tensor

from ..errors import ConfigError, counted
from .scored import ScoredTask


class ClassTask(ScoredTask):
    """A task with the arguments ``num_classes``, ``class_names`` and ``class_weights``."""

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
            ConfigError: Neither the data nor the arguments give it.
        """
        spec = self.data_spec
        names = self.hparams["class_names"] or (spec.target.names if spec else None)
        if names:
            return len(names)
        if self.hparams["num_classes"] is None:
            raise ConfigError(
                "num_classes: not known from the data module; set class_names, or num_classes in Python"
            )
        return int(self.hparams["num_classes"])

    @property
    def class_names(self) -> list[str]:
        """Class names: those of the argument, of the data of the fit or of the run, or ``class_0`` and so on."""
        spec = self.data_spec or self._run_spec
        names = self.hparams["class_names"] or (spec.target.names if spec else None)
        return list(names or [f"class_{index}" for index in range(self.num_classes)])

    @property
    def class_weights(self) -> Sequence[float] | None:
        """The class weights of the loss.

        Raises:
            ConfigError: Their number is not that of the classes.
        """
        weights: Sequence[float] | None = self.hparams["class_weights"]
        if weights is not None and len(weights) != self.num_classes:
            raise ConfigError(
                f"class_weights: {counted(len(weights), 'weight')} for {counted(self.num_classes, 'class', 'classes')}"
            )
        return weights

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return self.num_classes

    @property
    def output_names(self) -> list[str]:
        """Class names."""
        return self.class_names

    @property
    def confusion(self) -> Tensor:
        """Counts of the last validation or test.

        (K, K): rows are labels, columns are predictions. For several classes per chip (K, 2, 2), one matrix per class.
        """
        confusion: Tensor = self.computed["confusion_matrix"]
        return confusion
