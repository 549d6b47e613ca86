"""Findings about the labels of the splits, by kind of target."""

from collections.abc import Callable, Iterator

from ..spec import DataSpec
from .findings import Finding
from .surveys import Survey
from .values import of_values

_RARE = 0.001  # share of the labelled pixels


def _of_classes(surveys: dict[str, Survey], spec: DataSpec) -> Iterator[Finding]:
    """Share of each class, and classes that occur in validation or test but not in training."""
    train = surveys.get("train")
    if train is None or not train.labels.sum():
        # Other findings name chips whose labels could not be read.
        if train is not None and not train.mislabelled and not train.unreadable:
            yield Finding("error", "train", "no pixels are labelled", "check classes and ignored_labels")
        return
    for split, survey in surveys.items():
        shares = dict(zip(spec.target.names, survey.labels / max(1, survey.labels.sum()), strict=True))
        listed = ", ".join(f"{name} {100 * share:.2g} %" for name, share in shares.items())
        yield Finding("ok", f"classes of {split}", listed)
        absent = [name for name, share in shares.items() if share < _RARE]
        if split != "train" and absent:
            yield Finding(
                "advice", f"classes of {split}", f"{', '.join(absent)}: almost no pixels, so the score is unreliable",
                "choose another split; for blocks, smaller blocks or another seed",
            )  # fmt: skip
    train_shares = train.labels / train.labels.sum()
    for number, name in enumerate(spec.target.names):
        if train.labels[number] == 0:
            scored = [
                split for split, survey in surveys.items() if split != "train" and survey.labels[number]
            ]
            yield Finding(
                "error" if scored else "advice", "classes of train",
                f"{name} has no pixels" + (f", but is in {' and '.join(scored)}" if scored else ""),
                "choose another split, or remove the class",
            )  # fmt: skip
        elif train_shares[number] < _RARE:
            yield Finding(
                "advice", "classes of train", f"{name} has {100 * train_shares[number]:.2g} % of the pixels",
                "use class_weights of prithvi-tg stats",
            )  # fmt: skip


def _of_images(surveys: dict[str, Survey], spec: DataSpec) -> Iterator[Finding]:
    """No findings, as there are no labels."""
    yield from ()


#: Kind of target -> the findings about its labels.
LABEL_CHECKS: dict[str, Callable[[dict[str, Survey], DataSpec], Iterator[Finding]]] = {
    "classes": _of_classes,
    "chip_classes": _of_classes,
    "values": of_values,
    "images": _of_images,
}
