"""``prithvi-tg calibrate``: fit the temperature of a checkpoint to the validation set."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torchgeo.datamodules import BaseDataModule

from ..cli.accelerators import check_accelerator
from ..cli.messages import ShortWarnings
from ..errors import NO_VALIDATION, ConfigError
from ..files import shown
from ..tasks import PrithviSegmentationTask, PrithviTask, load_task
from ..tasks.calibration import (
    Calibration,
    PixelSample,
    calibrated_path,
    fit_calibration,
    write_calibrated,
)
from .data_parser import data_parser, parse_data

#: Largest number of logits of the sample: 256 MB.
_LARGEST = 64_000_000


class _DrawPixels(Callback):
    """Draws a sample of the labelled pixels of a validation."""

    def __init__(self, sample: PixelSample) -> None:
        self.sample = sample

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw from a batch."""
        self.sample.update(outputs["logits"], batch["mask"])


def run(arguments: list[str]) -> int:
    """Fit the temperature, print what it changes, and write the calibrated checkpoint."""
    parser = data_parser("calibrate")
    config = parse_data(parser, arguments)
    source = Path(config.ckpt_path)
    output = calibrated_path(source, Path(config.output) if config.output else None, config.overwrite)
    if config.pixels < 1:
        raise ConfigError(f"pixels: {config.pixels} must be 1 or more")
    check_accelerator(config.accelerator, key="accelerator")
    task = load_task(source)
    if not isinstance(task, PrithviSegmentationTask):
        raise ConfigError(
            f"{source}: calibrate needs a model of classes of pixels, not {type(task).__name__}"
        )
    with ShortWarnings([]):
        data = parser.instantiate_classes(config).data
        if not getattr(data, "validates", True):
            raise ConfigError(
                f"data: {NO_VALIDATION}, which calibrate needs; move chips to val in the list of splits, or name "
                "another list: --data.splits OTHER.csv (of scenes, give val a share in data.split)"
            )
        sample = draw_pixels(task, data, config.pixels, config.seed, config.accelerator)
    found = fit_calibration(sample.logits, sample.labels)
    write_calibrated(source, output, found)
    print(described(found, sample.seen))
    print(f"Written: {shown(output)}")
    return 0


def draw_pixels(
    task: PrithviTask, data: BaseDataModule, pixels: int, seed: int = 0, accelerator: str = "auto"
) -> PixelSample:
    """Draw labelled pixels of the validation set, with their logits.

    Args:
        task: The model.
        data: A data module of this package.
        pixels: Largest number of pixels; less if their logits would need more than 256 MB.
        seed: Seed of the draw.
        accelerator: ``cpu``, ``gpu`` or ``auto``.
    """
    sample = PixelSample(min(pixels, _LARGEST // max(1, task.num_outputs)), seed)
    trainer = Trainer(
        accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, callbacks=[_DrawPixels(sample)],
    )  # fmt: skip
    trainer.validate(task, datamodule=data, verbose=False)
    return sample


def described(calibration: Calibration, seen: int) -> str:
    """The temperature and its effect, as lines of text.

    Args:
        calibration: The result of the fit.
        seen: Number of labelled pixels of the validation set.
    """
    count = f"{calibration.pixels:,}" if calibration.pixels == seen else f"{calibration.pixels:,} of {seen:,}"
    return "\n".join([
        f"temperature {calibration.temperature:.4g}, fitted to {count} labelled pixels of the validation set",
        f"mean NLL {calibration.nll_before:.4f} before, {calibration.nll_after:.4f} after",
        f"ECE {calibration.ece_before:.4f} before, {calibration.ece_after:.4f} after (0 to 1)",
    ])  # fmt: skip
