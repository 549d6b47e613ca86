"""Figures as arrays, and logging them as pictures."""

from io import BytesIO
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image


def rendered(figure: Figure, dpi: int = 60) -> NDArray[np.uint8]:
    """A figure as RGB (H, W, 3)."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return np.asarray(Image.open(buffer).convert("RGB"))


def takes_pictures(logger: Logger) -> bool:
    """Whether `log_picture` supports a logger: TensorBoard's, and loggers with ``log_image``."""
    return isinstance(logger, TensorBoardLogger) or hasattr(logger, "log_image")


def log_picture(logger: Any, name: str, picture: NDArray[np.uint8], step: int) -> None:
    """Log a picture (H, W, 3) to TensorBoard, or to a logger with ``log_image``, such as W&B's."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    else:
        logger.log_image(name, [Image.fromarray(picture)], step=step)
