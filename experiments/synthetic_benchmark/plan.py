"""The plan of the benchmark: all runs, in the order in which a limited time is best spent."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark_tasks import TASKS
from networks import NETWORKS
from pixels import PIXEL_MODELS

MODELS = (*PIXEL_MODELS, *NETWORKS)


@dataclass(frozen=True)
class Run:
    """A model, trained on the chips of a world.

    Attributes:
        task: A key of `TASKS`.
        model: One of `MODELS`.
        size: Number of labelled training chips.
        seed: Number of the world, and seed of the model.
        labels: ``true``, or ``noisy`` training labels; test labels are always true.
    """

    task: str
    model: str
    size: int
    seed: int
    labels: str = "true"

    @property
    def name(self) -> str:
        """Name of its file, without ``.json``."""
        words = (self.task, self.model, f"{self.size}_{self.labels}_{self.seed}")
        return "/".join(words).replace(" ", "_")


@dataclass(frozen=True)
class Plan:
    """Sizes of the benchmark.

    Attributes:
        seeds: Worlds, each with its own region, chips and initial weights.
        sizes: Numbers of training chips.
        smallest_steps: Optimiser steps for the smallest size; sixteen times the chips have twice the steps.
        batch_size: Chips in a training batch.
        test_scenes: Scenes in each test set.
        pool: Chips for pre-training.
        pretraining_steps: Optimiser steps of pre-training.
        pretraining_seeds: Number of encoders that are pre-trained, on pools of their own; the worlds take turns.
        pretraining_batch_size: Chips in a batch of pre-training.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    sizes: tuple[int, ...] = (50, 200, 800)
    smallest_steps: int = 400
    batch_size: int = 16
    test_scenes: int = 12
    pool: int = 4096
    pretraining_steps: int = 2500
    pretraining_seeds: int = 2
    pretraining_batch_size: int = 64

    def steps(self, size: int) -> int:
        """Optimiser steps for a number of training chips."""
        return round(self.smallest_steps * (size / min(self.sizes)) ** 0.25)

    def runs(self) -> Iterator[Run]:
        """All runs: small sets of all worlds first, then larger sets, then noisy labels."""
        for size in self.sizes:
            for seed in self.seeds:
                for task in TASKS:
                    for model in MODELS:
                        yield Run(task, model, size, seed)
        for seed in self.seeds:
            for model in MODELS:
                yield Run("cover", model, self.sizes[min(1, len(self.sizes) - 1)], seed, "noisy")


FULL = Plan()
SMALL = Plan(
    seeds=(0, 1),
    sizes=(8,),
    smallest_steps=3,
    batch_size=4,
    test_scenes=1,
    pool=32,
    pretraining_steps=3,
    pretraining_seeds=1,
    pretraining_batch_size=8,
)
