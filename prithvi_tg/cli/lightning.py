"""PrithviCLI: LightningCLI with our task, data modules, checkpoints and error messages."""

import copy
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torchgeo.datamodules import BaseDataModule

from ..bands import PRITHVI_BANDS
from ..callbacks import (
    BestCheckpoint,
    ChipClassWriter,
    ChipReport,
    EpochLines,
    LastCheckpoint,
    MapWriter,
    MeaninglessValues,
    PrintCheckpoints,
    RemoveEmptyRun,
    RunTimes,
    ScoreReport,
    SplitFigure,
    TrainingRecord,
    WindowProgressBar,
    score_best,
)
from ..checkpoints import load_weights, read_checkpoint
from ..class_paths import find_class
from ..compat import BaseTask
from ..errors import ConfigError, MissingStatisticsError, own_error
from ..files import shown
from ..hub import local_path
from ..mapping.chip_classes import plan_chip_classes
from ..mapping.ensembles import Ensemble, Member, create_map_model
from ..mapping.outputs import check_settings
from ..mapping.planning import plan_maps
from ..mapping.products.base import OutputOptions
from ..processes import process_callbacks
from ..readers.formats import InputOptions
from ..reporting.published import check_name, result_names
from ..spec import DataSpec
from ..tasks import PrithviTask, load_task
from ..tasks.calibration import read_calibration
from ..tasks.data_checks import check_target
from ..tasks.dependent_arguments import check_dependent_arguments
from ..tasks.precision import Float32Precision, check_precision
from .accelerators import check_accelerator
from .checkpoint_checks import check_resumable, refuse_other_model, refuse_other_task, use_model_of
from .lightning_parser import PrithviArgumentParser, known_classes
from .messages import ShortWarnings, options_of_command, shown_messages
from .run_folders import free_folder, run_loggers
from .settings import check_checkpoint, paths_of, require_checkpoint, require_scenes
from .table import COMMANDS

#: Kind of target, or ``pixels`` for all others -> the function that plans the files of ``predict``, and the callback
#: that writes them to a folder.
PREDICTIONS: dict[str, tuple[Callable[..., tuple[BaseDataModule, Any]], Callable[[Any, Path], Callback]]] = {
    "pixels": (plan_maps, partial(MapWriter, raises=True)),
    "chip_classes": (plan_chip_classes, lambda run, folder: ChipClassWriter(run)),
}


class QuietLibraries(Callback):
    """Shows messages and short warnings in processes of strategy ddp_spawn, as `run_command` does in the first.

    Args:
        warned: The warnings of the first process; each started process appends to its copy.
    """

    def __init__(self, warned: list[str]) -> None:
        self.warned = warned
        self._options = options_of_command()
        self._stack = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show messages and short warnings until the process ends."""
        if ShortWarnings.innermost() is None:
            self._stack.enter_context(ShortWarnings(self.warned, self._options))
            self._stack.enter_context(shown_messages())


class PrithviCLI(LightningCLI):
    """``prithvi-tg fit | validate | test | predict``.

    Classes and frames are set once, in ``data:``, and linked to the task. ``--ckpt_path`` is a file of weights of any
    format for validate, test and predict, and a Lightning checkpoint to resume from for fit. ``predict`` needs no
    configuration if the checkpoint describes its data.

    Attributes:
        method: The method of the trainer that runs.
        task_class: Base class of the tasks that a configuration may name.
        name: Name of the command, if it is not that of the trainer's method.
    """

    task_class: type[BaseTask] = BaseTask
    name: str | None = None

    def __init__(self, method: str, warned: list[str], *args: Any, **kwargs: Any) -> None:
        self.method = method
        self.warned = warned
        self._tasks: list[type] = []  # the class of the task, once it is known
        with ExitStack() as self._until_the_end:
            super().__init__(*args, **kwargs)  # runs the command

    @classmethod
    def run_command(cls, arguments: list[str]) -> "PrithviCLI":
        """Parse the arguments, which begin with a method of the trainer, and run the command."""
        method = arguments[0]
        known_classes()  # imports all tasks: a configuration may name one without its module
        try:
            warned: list[str] = []
            with shown_messages(), ShortWarnings(warned):
                return cls(
                    method,
                    warned,
                    cls.task_class,
                    BaseDataModule,
                    subclass_mode_model=True,
                    subclass_mode_data=True,
                    auto_configure_optimizers=False,
                    seed_everything_default=0,
                    parser_class=PrithviArgumentParser,
                    parser_kwargs={"prog": "prithvi-tg", method: {"command": method}},
                    save_config_kwargs={"overwrite": False},
                    args=arguments,
                )
        except SIGTERMException:  # Lightning itself would exit with 0, as after success
            sys.exit(128 + signal.SIGTERM)
        except SystemExit as stop:  # after Ctrl-C, Lightning exits with 1, as after an error
            if isinstance(stop.__context__, KeyboardInterrupt):
                sys.exit(128 + signal.SIGINT)
            raise

    # Arguments.

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """Only the method that runs: Lightning builds a parser for each, which takes longer than parsing."""
        return {self.method: LightningCLI.subcommands()[self.method]}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, task and data; a checkpoint may describe the task, and for predict the data, too."""
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({"trainer.default_root_dir": "runs", "trainer.log_every_n_steps": 10})
        command = parser.command if isinstance(parser, PrithviArgumentParser) else ""
        for kind, key, optional in (
            (self.task_class, "model", command in ("validate", "test", "predict")),
            (BaseDataModule, "data", command == "predict"),
        ):
            parser.add_subclass_arguments(kind, key, fail_untyped=False, required=not optional)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link properties of the data to the task, and add our own options."""
        if isinstance(parser, PrithviArgumentParser) and parser.command:
            COMMANDS[parser.command].add_options(parser)
        for key in ("num_classes", "num_outputs", "num_frames", "bands", "in_channels"):
            compute = partial(_from_spec, key, self._tasks)  # strategy ddp_spawn pickles the parser
            vars(compute)["__name__"] = key  # for help
            parser.link_arguments(
                "data", f"model.init_args.{key}", compute_fn=compute, apply_on="instantiate"
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and hide ``ckpt_path`` until later: Lightning would merge the arguments stored in the file."""
        super().parse_arguments(parser, args)
        settings = self.config[self.config["subcommand"]]
        self._ckpt_path = settings.get("ckpt_path")
        settings["ckpt_path"] = None
        if self._ckpt_path and self._ckpt_path.startswith("hf://"):
            self._ckpt_path = str(local_path(self._ckpt_path))

    # Building.

    @property
    def _settings(self) -> Any:
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Check the settings of the command before objects are created."""
        settings = self._settings
        settings.ckpt_path = self._ckpt_path
        for name in result_names(settings.published_result):
            check_name(name)
        check_precision(str(settings.trainer.precision))
        check_accelerator(settings.trainer.accelerator, settings.trainer.devices)
        if self.subcommand == "predict":
            require_scenes(settings.scenes)
            named = {one.name: getattr(settings, one.name) for one in fields(OutputOptions)}
            self._writing = OutputOptions(**named)
            self._area = check_settings(Path(settings.output), self._writing, settings.aoi)
        paths = paths_of(settings.ckpt_path)
        require_checkpoint(next(iter(paths), None), str(self.subcommand))
        for path in paths:
            check_checkpoint(path)
        model = settings.get("model") or {}
        init_args = model.get("init_args", {})
        if model:
            self._tasks.append(find_class("model", model["class_path"], {}, BaseTask))
        if self.subcommand == "fit":  # before weights are downloaded
            check_dependent_arguments(init_args, self._tasks[0])
        if settings.ckpt_path and init_args.get("weights") is not None:
            init_args["weights"] = None  # the checkpoint contains the encoder's weights, too
        if self.subcommand != "fit" and "encoder" in init_args:  # not of TorchGeo's own tasks
            checkpoint = read_checkpoint(paths[0])
            refuse_other_task(checkpoint, self._tasks[0])
            use_model_of(checkpoint, init_args)

    def instantiate_classes(self) -> None:
        """Create data module, task and trainer, and load weights if any are given."""
        path = self._settings.ckpt_path
        try:
            super().instantiate_classes()
        except ValueError as error:
            if isinstance(missing := own_error(error), MissingStatisticsError):
                raise ConfigError(f"{missing}{_configuration_beside(path)}") from error
            raise
        if self.subcommand == "fit" and isinstance(self.model, PrithviTask):
            self.model.check_options(self.datamodule)  # before data are read
        if self.subcommand == "predict":
            self._prepare_predict(self._members(paths_of(path)))
        elif self.subcommand != "fit":
            if self.model is None:
                self.model = load_task(path)
            else:
                self._load(self.model, path)
        elif path:
            check_resumable(path, self.model)
        self._set_run_arguments(self.config_init[self.subcommand])

    def _set_run_arguments(self, arguments: Any) -> None:
        """Set the arguments of the trainer's method."""
        ours = isinstance(self.model, PrithviTask | Ensemble)
        if self.subcommand != "fit" and ours:
            arguments["ckpt_path"] = None  # already loaded
        if self.subcommand in ("validate", "test"):
            arguments["verbose"] = not ours  # ScoreReport prints a table
        if self.subcommand == "predict":
            arguments["return_predictions"] = False
        arguments["weights_only"] = True

    def _members(self, paths: list[str]) -> list[Member]:
        """The tasks of checkpoints. A configuration describes the first, and others without an own description."""
        paths = [str(local_path(path)) if path.startswith("hf://") else path for path in paths]
        if self.model is None:
            return [Member(load_task(path), Path(path)) for path in paths]
        members = []
        for number, path in enumerate(paths):
            if number and read_checkpoint(path).hyper_parameters:
                members.append(Member(load_task(path), Path(path)))
            else:
                members.append(Member(copy.deepcopy(self.model) if number else self.model, Path(path)))
                self._load(members[-1].task, path)
        return members

    def _load(self, task: Any, path: str) -> None:
        if not isinstance(task, PrithviTask):
            return  # TorchGeo's own tasks: Lightning loads their checkpoints.
        checkpoint = read_checkpoint(path)
        refuse_other_model(checkpoint, task, self.datamodule)
        print(load_weights(task.model, checkpoint))
        task.calibration = read_calibration(checkpoint)
        if checkpoint.hyper_parameters.get("data_spec"):
            task.hparams["data_spec"] = checkpoint.hyper_parameters["data_spec"]

    def _prepare_predict(self, members: list[Member]) -> None:
        settings = self._settings
        fitted_on = self.datamodule
        known = getattr(fitted_on, "spec", None)
        self.model = create_map_model(members, settings.tta, settings.calibrated, known)
        spec = getattr(self.model, "data_spec", None) or known
        if spec is None:
            raise ConfigError(f"{settings.ckpt_path}: {_missing_description(fitted_on)}")
        reading = InputOptions(
            tuple(settings.bands), settings.sensor, settings.scale, settings.offset, tuple(settings.nodata),
            tuple(settings.quality), tuple(settings.dates), format=settings.format, modifier=settings.modifier,
        )  # fmt: skip
        plan, writer = PREDICTIONS.get(spec.target.kind, PREDICTIONS["pixels"])
        self.datamodule, run = plan(
            self.model,
            spec,
            settings.scenes,
            Path(settings.output),
            " ".join(member.sha256 for member in members),
            reading,
            self._writing,
            window=settings.window,
            stride=settings.stride,
            blending=settings.blending,
            nodata_rule=settings.nodata_rule,
            qa_mask=settings.qa_mask,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            precision=str(self.trainer.precision),
            tf32=settings.tf32,
            fold_time=getattr(fitted_on, "fold_time", False),
            aoi=self._area,
        )
        self._until_the_end.enter_context(run.reserved())
        self.trainer.callbacks.append(writer(run, Path(settings.output)))  # type: ignore[attr-defined]  # a connector sets it

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer of the configuration, with the callbacks and loggers of the command."""
        config = {**self.config_init[self.subcommand].trainer, **kwargs}
        given = config["callbacks"] or []
        given = list(given) if isinstance(given, Iterable) else [given]
        callbacks: list[Callback] = [
            QuietLibraries(self.warned),
            Float32Precision(self._settings.tf32),
            TrainingRecord(),
            ChipReport(),  # before ScoreReport: with metrics.json, a run is complete
            ScoreReport(
                self._settings.published_result,
                None
                if self.subcommand == "fit"
                else self._settings.ckpt_path,  # for fit, it is the checkpoint to resume
                self.warned,
                self.name or self.subcommand,
            ),
            MeaninglessValues(),
            SplitFigure(),
            RunTimes(),
            PrintCheckpoints(),
        ]
        if self.model is not None and not isinstance(self.model, PrithviTask):
            callbacks += process_callbacks(given)  # our task adds them itself
        if not any(isinstance(one, ProgressBar) for one in given):
            # In a file, a bar would be noise.
            config["enable_progress_bar"] = (
                config.get("enable_progress_bar") is not False and sys.stdout.isatty()
            )
            callbacks.append(WindowProgressBar() if config["enable_progress_bar"] else EpochLines())
        if config.get("enable_model_summary") is None:
            config["enable_model_summary"] = False  # TrainingRecord counts parameters
        if self.subcommand == "predict":
            config["logger"] = False
            self.save_config_callback = None
        else:
            name = (
                None
                if self._settings.name is None
                else (self._settings.name, self.name or str(self.subcommand))
            )
            config["logger"] = run_loggers(config.get("logger"), config["default_root_dir"], name)
            if config["logger"] is False:  # the run has a folder of its own all the same
                config["default_root_dir"] = str(free_folder(config["default_root_dir"], name))
                callbacks.append(RemoveEmptyRun([], [Path(config["default_root_dir"])]))
            else:
                callbacks.append(RemoveEmptyRun(config["logger"]))
            if self.subcommand == "fit" and config["logger"]:
                callbacks.append(LearningRateMonitor())
        saves = self.subcommand == "fit" and config.get("enable_checkpointing") is not False
        if saves and not any(isinstance(callback, ModelCheckpoint) for callback in given):
            callbacks += [BestCheckpoint(self.model.monitor, self.model.mode), LastCheckpoint()]
        try:
            return super().instantiate_trainer(**{**config, "callbacks": [*given, *callbacks]})
        except (
            ValueError,
            ImportError,
        ) as error:  # Lightning's, of contradicting options and lacking packages
            raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error

    # Running.

    def after_fit(self) -> None:
        """Score the best checkpoint, which the record describes."""
        # After ddp_spawn and ddp_fork, this process does not know that the configuration was saved.
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
        callbacks[:] = [one for one in callbacks if not isinstance(one, SaveConfigCallback)]
        if not self._settings.trainer.fast_dev_run:
            score_best(self.trainer, self.model, self.datamodule)


run_command = PrithviCLI.run_command


def _configuration_beside(checkpoint: Any) -> str:
    """Advice to use the configuration of the run that wrote a checkpoint, which has the statistics."""
    paths = paths_of(checkpoint)
    recorded = Path(paths[0]).parent.parent / "config.yaml" if paths else None
    if recorded is None or not recorded.is_file():
        return ""
    return f"; or use the configuration that this checkpoint was trained with, --config {shown(recorded)}"


def _missing_description(data: Any) -> str:
    """Why neither a checkpoint nor the data module of its configuration, if given, describes the bands."""
    if data is None:
        return (
            "does not record the bands and statistics it was trained with; give the configuration it was trained "
            "with, --config FILE"
        )
    return (
        f"does not record the bands and statistics it was trained with, and {type(data).__name__} is not a data module "
        "of this package; describe the data with model.data_spec in the configuration"
    )


def _from_spec(key: str, tasks: Sequence[type], data: Any) -> Any:
    """The value of an argument of the task, from the data module.

    Raises:
        ConfigError: The task does not learn the labels of the data.
    """
    spec = getattr(data, "spec", None)
    if not isinstance(spec, DataSpec):  # a data module of TorchGeo's, or none
        six = len(PRITHVI_BANDS)
        unknown: dict[str, Any] = {"num_classes": None, "num_outputs": 1, "num_frames": 1, "in_channels": six}
        return {**unknown, "bands": list(PRITHVI_BANDS)}[key]
    for task in tasks:
        if issubclass(task, PrithviTask) and task.used_data is PrithviTask.used_data:
            check_target(spec.target, task.target_kind, task.__name__)
    return {
        "num_classes": spec.target.num_outputs,
        "num_outputs": spec.target.num_outputs,
        "num_frames": spec.input.num_frames,
        "bands": list(spec.input.bands),
        "in_channels": len(spec.input.channel_mean),  # the name in TorchGeo's tasks
    }[key]
