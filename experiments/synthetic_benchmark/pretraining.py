"""Masked autoencoding of the encoder on chips without labels."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from benchmark_tasks import IMAGES
from chips import CHIP, write_pool
from networks import VIT, quiet, quiet_trainer
from plan import Plan

from prithvi_tg.datamodules import UnlabelledChipsDataModule
from prithvi_tg.files import finished_file, write_json
from prithvi_tg.tasks import PrithviPretrainingTask

#: Decoder and optimisation of pre-training.
AUTOENCODER: dict[str, Any] = {
    "decoder_args": {"width": 64, "depth": 2, "num_heads": 4},
    "mask_ratio": 0.75,
    "norm_pix_loss": False,
    "lr": 1e-3,
}


def checkpoint_path(plan: Plan, folder: Path, seed: int) -> Path:
    """The checkpoint of a pre-training; another plan has another one."""
    return folder / f"pretrained_{plan.pool}_chips_{plan.pretraining_steps}_steps_{seed}.ckpt"


def pretrain(plan: Plan, folder: Path, seed: int) -> Path:
    """Pre-train an encoder, unless its checkpoint exists, and record how well it reconstructs chips.

    Args:
        plan: Sizes of the benchmark.
        folder: Folder for chips and checkpoints.
        seed: Seed of the pool, the weights and the masks.

    Returns:
        The checkpoint.
    """
    path = checkpoint_path(plan, folder, seed)
    if path.exists():
        return path
    pool = write_pool(folder / "data" / f"pool_{seed}_{plan.pool}", seed, plan.pool)
    steps, batch_size = plan.pretraining_steps, plan.pretraining_batch_size
    data = UnlabelledChipsDataModule(
        images=f"{pool}/images/*.tif",
        split_fractions=(0.9, 0.1, 0.0),
        batch_size=batch_size,
        eval_batch_size=128,
        crop_size=None,
        crops_per_chip=-(-steps * batch_size // (plan.pool // 2)),
        **IMAGES,
    )
    pl.seed_everything(seed, verbose=False)
    start = time.perf_counter()
    with quiet():
        model = PrithviPretrainingTask(**VIT, **AUTOENCODER, warmup_steps=steps // 10, window=CHIP)
        trainer = quiet_trainer(max_steps=steps)
        trainer.fit(model, datamodule=data)
        seconds = time.perf_counter() - start
        trainer.limit_val_batches = 1.0
        trainer.validate(model, datamodule=data, verbose=False)
    scores = {name: float(value) for name, value in model.scores.items() if value.ndim == 0}
    record = {"seed": seed, "chips": plan.pool, "steps": steps, "batch_size": batch_size}
    write_json(path.with_suffix(".json"), {**record, "scores": scores, "seconds": round(seconds, 1)})
    with finished_file(path) as partial:
        trainer.save_checkpoint(partial, weights_only=True)
    return path
