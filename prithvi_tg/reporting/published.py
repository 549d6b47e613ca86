"""Published results, and a run's distance to them.

Figures of hls-foundation-os (Jakubik et al. 2023, arXiv:2310.18660, and the model cards of its checkpoints).
"""

from collections.abc import Sequence

from rich.table import Table
from torch import Tensor

from ..errors import ConfigError

#: Metric -> score, by the name that a configuration gives; ``IoU/Water`` is a metric of one class.
PUBLISHED: dict[str, dict[str, float]] = {
    "sen1floods11_test": {"IoU/Water": 0.8046, "mIoU": 0.8868, "aAcc": 0.9725, "mAcc": 0.9437},
    "sen1floods11_bolivia": {"IoU/Water": 0.7795, "mIoU": 0.8666},
    "burn_scars": {"IoU/Burn scar": 0.73},
    "multi_temporal_crop": {"mIoU": 0.4269, "aAcc": 0.6064, "mAcc": 0.6406},
}


def distance_table(name: str, scores: dict[str, Tensor], class_names: Sequence[str]) -> Table:
    """A row per published metric: published, this run, difference, in per cent.

    Args:
        name: A key of `PUBLISHED`.
        scores: What `prithvi_tg.tasks.metrics.segmentation_scores` gave.
        class_names: One per class.
    """
    table = Table(title=f"distance to the published result {name}, per cent")
    for column in ("metric", "published", "this run", "difference"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, published in PUBLISHED[name].items():
        kind, _, class_name = metric.partition("/")
        values = scores[kind]
        own = float(values[list(class_names).index(class_name)] if class_name else values)
        table.add_row(
            metric, *(f"{100 * v:.2f}" for v in (published, own)), f"{100 * (own - published):+.2f}"
        )
    return table


def check_name(name: str | None) -> None:
    """Raise a ConfigError that lists the known names for one that is not among them."""
    if name is not None and name not in PUBLISHED:
        raise ConfigError(f"published_result: {name!r} is unknown; known are {', '.join(PUBLISHED)}")
