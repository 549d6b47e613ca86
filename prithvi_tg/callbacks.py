"""Lightning callbacks, thin over reporting and mapping."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from rich.console import Console

from .errors import ConfigError
from .mapping.maps import Profile, write_map
from .plotting import plot_sample
from .reporting.published import distance_table
from .reporting.tables import score_table, write_scores
from .spec import IGNORE_INDEX, DataSpec
from .tasks import PrithviSegmentationTask


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: the whole state after every epoch and at the end of a run, to go on from."""

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the weights of the best validation, without the optimiser's state.

    A run that ends before its first validation leaves its last weights under this name, and says so.

    Args:
        monitor: A logged metric.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, enable_version_counter=False
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if this validation is the best.

        Raises:
            ConfigError: The validation did not log the metric to monitor.
        """
        logged = trainer.callback_metrics
        if (
            not trainer.sanity_checking
            and trainer.state.fn == TrainerFn.FITTING
            and self.monitor not in logged
        ):
            known = ", ".join(key for key in logged if key.startswith("val"))
            raise ConfigError(f"monitor: {self.monitor!r} is not logged; validation logs {known}")
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make sure that there is a best checkpoint."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path and self.dirpath is not None:
            path = str(Path(self.dirpath) / "best.ckpt")
            trainer.save_checkpoint(path, weights_only=True)
            self.best_model_path = path
            if trainer.is_global_zero:
                print("No validation ran, so best.ckpt holds the last weights.")


class PrintCheckpoints(Callback):
    """Say where the checkpoints are when training ends."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print their paths."""
        if trainer.is_global_zero:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                    print(f"Written: {_relative(callback.best_model_path)}")


class ScoreReport(Callback):
    """After a test or validation, print a table of scores and write ``metrics.json`` to the run's folder.

    Args:
        published_result: A key of `PUBLISHED`; after a test, the distance to it is printed.
    """

    def __init__(self, published_result: str | None = None) -> None:
        self.published_result = published_result

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the test set."""
        self._report(trainer, pl_module, getattr(_datamodule(trainer), "test_split", "test"))
        name = self.published_result
        if name and isinstance(pl_module, PrithviSegmentationTask) and trainer.is_global_zero:
            Console().print(distance_table(name, pl_module.scores, pl_module.class_names))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the validation set, but not each time while training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._report(trainer, pl_module, "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the last validation of a training run."""
        self._report(trainer, pl_module, "val")

    @staticmethod
    def _report(trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        scores = getattr(pl_module, "scores", None)
        if not isinstance(pl_module, PrithviSegmentationTask) or scores is None or not trainer.is_global_zero:
            return
        names = pl_module.class_names
        Console().print(score_table(scores, names, f"{split}, per cent"))
        if trainer.log_dir is not None:
            path = Path(trainer.log_dir) / "metrics.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_scores(path, scores, names, pl_module.confusion, split)
            print(f"Written: {_relative(path)}")


class MapWriter(Callback):
    """Write the map of each scene that `Trainer.predict` ran on.

    Args:
        paths: Where the map of each scene goes.
        spec: Class names and colours.
        profile: See `write_map`.
        tags: Further tags of the maps.
        quicklook: Also write ``NAME_pred.png`` beside each map.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        spec: DataSpec,
        profile: Profile = "cog",
        tags: dict[str, str] | None = None,
        quicklook: bool = False,
    ) -> None:
        self.paths = paths
        self.spec = spec
        self.profile = profile
        self.tags = tags
        self.quicklook = quicklook

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the map of one scene and print its path."""
        scene = batch["path"][0]
        path = self.paths[scene]
        classes = outputs.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
        masked = batch["masked"][0].cpu().numpy()
        print(f"{scene}: bands {batch['bands'][0]}")
        write_map(path, classes, masked, scene, self.spec, self.profile, self.tags)
        print(f"Written: {_relative(path)}")
        if self.quicklook:
            picture = path.with_suffix(".png")
            self._draw(batch, classes, masked).savefig(picture, dpi=110)
            print(f"Written: {_relative(picture)}")

    def _draw(self, batch: Any, classes: Any, masked: Any) -> Figure:
        shown = classes.copy()
        shown[masked] = IGNORE_INDEX
        image = batch["image"][0].cpu()
        sample = {"image": image, "prediction": shown, "valid": ~torch.from_numpy(masked).expand(image.shape)}
        return plot_sample(sample, self.spec)


def _datamodule(trainer: Trainer) -> Any:
    return getattr(trainer, "datamodule", None)


def _relative(path: str | Path) -> Path:
    path = Path(path).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
