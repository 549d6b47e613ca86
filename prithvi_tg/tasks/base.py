"""PrithviTask: base class of all tasks, with encoder, optimiser, schedule, description of the data and resuming."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..bands import PRITHVI_BANDS
from ..checkpoints import Checkpoint, load_weights, read_checkpoint
from ..class_paths import find_class
from ..datamodules.resuming import ResumableLoader
from ..datamodules.validation import has_validation
from ..errors import NO_VALIDATION, ConfigError
from ..hub import find_weights
from ..models import Encoder, WeightCache, create_encoder
from ..models.compiling import has_compiler
from ..models.lora import add_lora
from ..models.prompts import add_prompts
from ..processes import process_callbacks
from ..spec import DataSpec
from .advice import training_advice, window_advice
from .arguments import TaskArguments, check_initialisers
from .calibration import CALIBRATION, Calibration
from .data_checks import check_model_takes, check_target, check_training_data, other_unit_message
from .dependent_arguments import check_dependent_arguments
from .precision import Float32Precision, check_precision
from .schedules import PlateauSchedule, PlateauSteps, create_schedule

#: Optimisers by name; any other class of ``torch.optim`` is given by its path.
OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


class PrithviTask(LightningModule, metaclass=TaskArguments):
    """Base class of tasks with a ``model`` that has an ``encoder``. A task also derives from one of TorchGeo's tasks.

    A subclass declares its own arguments and passes all others on as ``*args`` and ``**kwargs``. The command line, its
    help and checkpoints include all of them.

    Args:
        encoder: A name in `prithvi_tg.models.ENCODERS`; ``timm/NAME``, a backbone of timm; ``torchgeo/WEIGHTS.MEMBER``,
            the architecture of weights of TorchGeo; or the path of an `Encoder` class.
        encoder_args: Further arguments of the encoder; for Prithvi, fields of the variant, such as
            ``{depth: 6, num_heads: 8}``.
        weights: Pre-trained weights for the encoder: a path; ``pretrained`` for the published ones;
            ``hf://OWNER/REPOSITORY/FILE``, see `prithvi_tg.hub.HubFile.parse`; a URL; or the name of a published
            encoder. ``None`` means random weights.
        truncate_depth: Accept `weights` with more blocks than the encoder, and load the first ones.
        allow_new_bands: Accept bands that `weights` were not trained on; they start from random weights.
        freeze_encoder: Do not train the encoder, only the other layers.
        unfreeze_epoch: With `freeze_encoder`, also train the encoder from this epoch on, counted from 0.
        lora_rank: Rank of low-rank adapters of the encoder's blocks; its other weights are frozen. 0 for no adapters.
        layer_decay: Factor of the learning rate from each layer of the encoder to the one before it.
        drop_path: Highest stochastic depth rate of the encoder.
        gradient_checkpointing: Recompute the encoder's blocks in the backward pass: less memory, more time.
        compile: Compile the model with ``torch.compile`` in fit, test and predict; the results are the
            same up to rounding. The first batches take a minute or more, less if torch has cached the code.
            Useful on a GPU. Without a C++ compiler the model runs without compilation.
        lora_targets: Layers with adapters, names in `prithvi_tg.models.lora.LORA_TARGETS`: ``qkv`` and ``proj`` of the
            attention; ``query``, ``key``, ``value``, parts of ``qkv``; ``mlp``, both layers of the MLP.
        lora_alpha: The output of the adapters is scaled by ``lora_alpha / lora_rank``; by default ``2 * lora_rank``.
        lora_dropout: Dropout rate of the input of the adapters.
        prompt_tokens: Number of learnt tokens before each block of a ViT, whose other weights are frozen; 0 for none.
        bands: Bands of a frame, by name; the command line takes them from the data.
        num_frames: Dates in a sample; the command line takes it from the data.
        optimizer: ``adamw``, ``adam`` (whose weight decay is an L2 penalty), or the path of a class, such as
            ``torch.optim.SGD``.
        optimizer_args: Further arguments of the optimiser.
        schedule: A name in `prithvi_tg.tasks.schedules.SCHEDULES`, such as ``poly`` or ``constant``, or the path
            of a class of ``torch.optim.lr_scheduler``; stepped after each optimiser step. ``plateau`` lowers the rate
            when the monitored metric no longer improves, and is stepped after each validation.
        schedule_args: Arguments of the schedule, such as ``{patience: 4, factor: 0.5}`` of ``plateau``, which may also
            monitor another metric, ``{monitor: val_loss}``.
        lr: Highest learning rate.
        weight_decay: Weight decay; ``None`` for the default of the optimiser.
        warmup_steps: Steps of linear warm-up of the schedule ``poly``; its rate falls linearly to 0 over the whole
            run, also during the warm-up.
        monitor: Logged metric that selects the best checkpoint; losses are minimised, other metrics maximised.
        data_spec: Bands, statistics and target of the training data, as returned by `DataSpec.to_dict`. A fit takes
            them from its data module. Checkpoints record them, so mapping does not need any other description.
    """

    #: Kind of target of the task, a key of `prithvi_tg.targets.TARGETS`.
    target_kind: ClassVar[str]
    #: Temperature of a model that `prithvi-tg calibrate` has fitted.
    calibration: Calibration | None = None
    model: Any
    weights: Any
    _loader_states: tuple[Any, ...] = ()
    _units_checked = False
    _run_spec: DataSpec | None = None  # of the data module of the current run
    _predict_cache: WeightCache | None = None

    def __init__(
        self,
        encoder: str = "prithvi_eo_v1_100m",
        encoder_args: dict[str, Any] | None = None,
        weights: str | None = None,
        truncate_depth: bool = False,
        allow_new_bands: bool = False,
        freeze_encoder: bool = False,
        unfreeze_epoch: int | None = None,
        lora_rank: int = 0,
        layer_decay: float = 1.0,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
        *,
        compile: bool = False,
        lora_targets: Sequence[str] = ("qkv", "proj"),
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        prompt_tokens: int = 0,
        bands: Sequence[str] = PRITHVI_BANDS,
        num_frames: int = 1,
        optimizer: str = "adamw",
        optimizer_args: dict[str, Any] | None = None,
        schedule: str = "poly",
        schedule_args: dict[str, Any] | None = None,
        lr: float = 1e-4,
        weight_decay: float | None = 0.05,
        warmup_steps: int = 500,
        monitor: str = "val_loss",
        data_spec: dict[str, Any] | None = None,
    ) -> None:
        self.monitor = monitor
        self.mode = self.default_mode(monitor)
        super().__init__(weights=weights)
        if compile:
            self.compile_model()

    # Methods to override in a subclass.

    def default_mode(self, monitor: str) -> str:
        """``min`` or ``max``: whether low or high values of a logged metric are better; called first in `__init__`."""
        return "min" if "loss" in monitor else "max"

    def mode_of(self, monitor: str) -> str:
        """As `default_mode`, when the metrics are known."""
        return self.default_mode(monitor)

    def create_encoder(self) -> Encoder:
        """Create the encoder, load its pre-trained weights, and add adapters or prompts.

        Raises:
            ConfigError: Settings contradict each other.
            CheckpointError: The weights do not fit the encoder.
        """
        hparams = self.hparams
        check_initialisers(type(self), hparams)
        encoder = create_encoder(
            hparams["encoder"],
            hparams["drop_path"],
            hparams["gradient_checkpointing"],
            **{"num_bands": len(hparams["bands"]), **(hparams["encoder_args"] or {})},
        )
        adapts = hparams["lora_rank"] or hparams["prompt_tokens"]
        if self.weights is not None:
            if adapts and hparams["allow_new_bands"]:
                raise ConfigError(
                    "allow_new_bands: new bands need a trainable input layer, but lora_rank and prompt_tokens "
                    "freeze it; remove them, or allow_new_bands"
                )
            self.load_pretrained(encoder, read_checkpoint(find_weights(self.weights, encoder)))
        if hparams["lora_rank"]:
            if hparams["freeze_encoder"]:
                raise ConfigError(
                    "lora_rank: adapters cannot be trained in a frozen encoder; remove freeze_encoder"
                )
            options = {key: hparams[f"lora_{key}"] for key in ("targets", "alpha", "dropout")}
            add_lora(encoder, hparams["lora_rank"], **options)
        if hparams["prompt_tokens"]:
            if others := [key for key in ("freeze_encoder", "lora_rank") if hparams[key]]:
                raise ConfigError(f"prompt_tokens: cannot be combined with {others[0]}; remove one of them")
            add_prompts(encoder, hparams["prompt_tokens"])
        return encoder

    def load_pretrained(self, model: nn.Module, checkpoint: Checkpoint) -> None:
        """Load pre-trained weights into the encoder, or into a model with it, and log the report.

        Raises:
            CheckpointError: The weights do not fit.
        """
        hparams = self.hparams
        report = load_weights(
            model,
            checkpoint,
            truncate_depth=hparams["truncate_depth"],
            bands=hparams["bands"],
            allow_new_bands=hparams["allow_new_bands"],
        )
        rank_zero_info(f"weights: {report}")

    def compile_model(self) -> None:
        """Compile the model in place, when it is first called, if a C++ compiler is installed."""
        if has_compiler():
            self.model.compile()
        else:
            rank_zero_warn("compile: no C++ compiler (g++) is found, so the model runs without compilation")

    def create_optimizer(self) -> Optimizer:
        """Create the optimiser of all trained parameters.

        On CUDA, Adam and AdamW use torch's fused implementation, unless `optimizer_args` choose another.
        """
        name = self.hparams["optimizer"]
        kind = find_class("optimizer", name, OPTIMIZERS, Optimizer)
        decay = self.hparams["weight_decay"]
        arguments = ({} if decay is None else {"weight_decay": decay}) | (
            self.hparams["optimizer_args"] or {}
        )
        groups = self.parameter_groups()
        chosen = arguments.keys() & {"fused", "foreach", "capturable", "differentiable"}
        if kind in OPTIMIZERS.values() and not chosen and self._can_fuse_optimizer(groups):
            arguments["fused"] = True
        try:
            optimizer: Optimizer = kind(groups, **{"lr": self.hparams["lr"], **arguments})
        except TypeError as error:
            raise ConfigError(f"optimizer_args: {name}: {error}") from error
        return optimizer

    def _can_fuse_optimizer(self, groups: list[dict[str, Any]]) -> bool:
        """Whether a fused optimiser can be used: on CUDA, unless gradients are clipped in 16-mixed.

        With a gradient scaler, a fused optimiser divides the gradients by the scale in its step, after clipping.
        Lightning raises an error for this combination.
        """
        trainer = self.attached_trainer
        scales = trainer is not None and getattr(trainer.precision_plugin, "scaler", None) is not None
        if scales and trainer is not None and trainer.gradient_clip_val:
            return False
        return all(parameter.is_cuda for group in groups for parameter in group["params"])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate: `layer_decay` lowers it from the encoder's last layer to its first.

        Parameters that are never trained are omitted.
        """
        later = self.hparams["unfreeze_epoch"] is not None
        decay = self.hparams["layer_decay"]
        distances = self.model.encoder.layer_distances() if decay != 1 else {}
        groups: dict[float, list[Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad or (later and name.startswith("model.encoder.")):
                rate = self.hparams["lr"] * decay ** distances.get(name.removeprefix("model.encoder."), 0)
                groups.setdefault(rate, []).append(parameter)
        return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]

    def create_schedule(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Create the schedule, stepped after each of the `total_steps` optimiser steps, or after each validation."""
        name, arguments = self.hparams["schedule"], self.hparams["schedule_args"] or {}
        if name == "poly":
            arguments = {"warmup_steps": self.hparams["warmup_steps"], **arguments}
        monitor = arguments.get("monitor", self.monitor)
        mode = self.mode if monitor == self.monitor else self.mode_of(monitor)
        return create_schedule(name, optimizer, total_steps, (monitor, mode), **arguments)

    def used_data(self, spec: DataSpec) -> DataSpec:
        """The description of the part of the data that the task uses; by default all of it."""
        return spec

    def check_options(self, data: Any) -> None:
        """Check that the options of a data module suit the model, before it reads data.

        Raises:
            ConfigError: One does not.
        """
        if getattr(data, "kwargs", {}).get("metadata") and not self.model.encoder.coordinates:
            raise ConfigError(
                f"metadata: the encoder {self.hparams['encoder']} does not use dates or locations; choose a *_tl "
                "encoder"
            )

    # Hooks of Lightning.

    def configure_optimizers(self) -> Any:
        """Create optimiser and schedule.

        Raises:
            ConfigError: The number of steps of the run is 0 or infinite, or the schedule needs a validation set.
        """
        optimizer = self.create_optimizer()
        total_steps = self.trainer.estimated_stepping_batches
        if not 1 <= total_steps < float("inf"):
            raise ConfigError(
                f"max_epochs, limit_train_batches: the run has {total_steps} optimiser steps; the learning-rate "
                "schedule needs a finite number, at least 1"
            )
        validates = has_validation(self.trainer)
        data = getattr(self.trainer, "datamodule", None)
        epochs = total_steps / -(-self.trainer.num_training_batches // self.trainer.accumulate_grad_batches)
        for advice in (
            *window_advice(self, data),
            *training_advice(self, total_steps, self.trainer.ckpt_path is not None, validates, epochs),
        ):
            rank_zero_warn(advice)
        schedule = self.create_schedule(optimizer, int(total_steps))
        config = {"scheduler": schedule, "interval": "step", "reduce_on_plateau": False}
        if isinstance(schedule, PlateauSchedule):
            if not validates:
                raise ConfigError(
                    f"schedule: {NO_VALIDATION}, which plateau needs to compute {schedule.monitor}; give one, or "
                    "another schedule"
                )
            config |= {"interval": "epoch", "monitor": schedule.monitor}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a schedule; `PlateauSteps` steps those that monitor a metric."""
        if not isinstance(scheduler, PlateauSchedule):
            super().lr_scheduler_step(scheduler, metric)

    def configure_callbacks(self) -> list[Callback]:
        """Callbacks for several processes, and those of schedule and precision that the trainer lacks."""
        given: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
        kinds = {type(one) for one in given}
        further = [kind() for kind in (PlateauSteps, Float32Precision) if kind not in kinds]
        return [*process_callbacks(given), *further]

    def setup(self, stage: str) -> None:
        """Compare the data module's description of the data with the model; a fit stores it.

        Raises:
            ConfigError: The data do not match the model, the precision of the trainer rounds the data, or a fit has
                an argument without effect.
        """
        check_precision(str(self.trainer.precision))
        if stage == "fit":  # a model that was trained with such an argument can be used
            check_dependent_arguments(self.hparams, type(self))
        data = getattr(self.trainer, "datamodule", None)
        self.check_options(data)
        spec = getattr(data, "spec", None)
        self._run_spec = None
        if stage != "predict" and isinstance(spec, DataSpec):
            self._run_spec = self.used_data(spec)
        self._units_checked = False
        if self._run_spec is None:
            return
        check_target(self._run_spec.target, self.target_kind, type(self).__name__)
        check_model_takes(self._run_spec, self.num_outputs, self.hparams["bands"], self.hparams["num_frames"])
        if stage == "fit":
            self.calibration = None  # training changes the logits
            self.hparams["data_spec"] = self._run_spec.to_dict()
        elif self.data_spec is not None:
            check_training_data(self.data_spec, self._run_spec)
        self.configure_metrics()  # type: ignore[operator]  # of TorchGeo's task; may depend on the statistics of labels

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the class that can read the checkpoint."""
        checkpoint["task_class"] = self.class_path
        if self.calibration is not None:
            checkpoint[CALIBRATION] = self.calibration.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the states of the loaders until training starts."""
        loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {})
        self._loader_states = tuple(loop.get("combined_loader", ()))

    def on_train_start(self) -> None:
        """Resume in the middle of an epoch, if the checkpoint was written there.

        Lightning restores the loader only if it did not exist before. Here it does: the number of steps depends on it.
        """
        loader = self.trainer.train_dataloader
        if self._loader_states and isinstance(loader, ResumableLoader):
            loader.load_state_dict(self._loader_states[0])
        self._loader_states = ()
        self._unfreeze_encoder()  # Lightning does not call on_train_epoch_start for a resumed epoch

    @property
    def attached_trainer(self) -> Trainer | None:
        """The trainer, or ``None``; Lightning's ``trainer`` raises an error if there is none."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    @property
    def backbone(self) -> Encoder:
        """The encoder, under the name that Lightning's BackboneFinetuning requires."""
        encoder: Encoder = self.model.encoder
        return encoder

    @property
    def class_path(self) -> str:
        """Module and name of the class."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def on_train_epoch_start(self) -> None:
        """Unfreeze the encoder from `unfreeze_epoch` on."""
        self._unfreeze_encoder()

    def _unfreeze_encoder(self) -> None:
        epoch = self.hparams["unfreeze_epoch"]
        if epoch is not None and self.current_epoch >= epoch and self.model.freeze_encoder:
            self.model.freeze_encoder = False
            self.model.encoder.requires_grad_(True)
            self.model.train()
            trained = sum(one.numel() for one in self.parameters() if one.requires_grad)
            rank_zero_info(
                f"epoch {self.current_epoch}: encoder unfrozen; {trained:,} parameters are trained"
            )

    def on_predict_start(self) -> None:
        """Cache derived weights until the prediction ends; weights do not change during prediction."""
        self._predict_cache = WeightCache()

    def on_predict_end(self) -> None:
        """Discard the cache."""
        self._predict_cache = None

    def coordinates(self, batch: Any) -> dict[str, Tensor]:
        """The dates and locations of a batch that the encoder uses."""
        return {key: batch[key] for key in self.model.encoder.coordinates if key in batch}

    def unused_parameters(self, batch: Any) -> set[str]:
        """Names of parameters without a gradient: those that encode dates or locations that the batch lacks."""
        encodings = self.model.encoder.coordinates
        missing = [f"model.encoder.{name}." for key, name in encodings.items() if key not in batch]
        return {name for name, _ in self.named_parameters() if name.startswith(tuple(missing))}

    def _check_units(self, batch: Any) -> None:
        """Warn if the first normalised batch of a run that has data is in another unit than the statistics."""
        if not self._units_checked and (spec := self.run_spec) is not None:
            message = other_unit_message(batch, spec)
            self._units_checked = message is not None
            if message:
                rank_zero_warn(message)

    # Descriptions of the data.

    @property
    def num_outputs(self) -> int:
        """Number of outputs of the model for each pixel or chip."""
        raise NotImplementedError

    @property
    def run_spec(self) -> DataSpec | None:
        """Description of the data of the current run, or else of the training data."""
        return self._run_spec or self.data_spec

    @property
    def data_spec(self) -> DataSpec | None:
        """Bands, statistics and target of the training data, if known."""
        spec = self.hparams["data_spec"]
        return DataSpec.from_dict(spec) if spec else None
