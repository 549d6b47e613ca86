"""Options of the commands that take a configuration: fit, validate, test, predict; check, stats, chips."""

import argparse
from typing import Any

from ..parsers import ConfiguredParser, group_of

CONFIGURATION = "configuration and weights"
READING = "reading"
WINDOWS = "windows"
OUTPUTS = "outputs"
COMPUTING = "hardware and precision"
_MORE = "more help"
#: Groups of the help, in their order.
GROUPS = (READING, WINDOWS, OUTPUTS, COMPUTING, CONFIGURATION, _MORE)

#: Keys of Lightning's ``Trainer``.
TRAINER_KEYS = (
    "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "fast_dev_run",
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_val_batches",
    "limit_test_batches", "limit_predict_batches", "overfit_batches", "val_check_interval",
    "check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps", "enable_checkpointing",
    "enable_progress_bar", "enable_model_summary", "accumulate_grad_batches", "gradient_clip_val",
    "gradient_clip_algorithm", "deterministic", "benchmark", "inference_mode", "use_distributed_sampler", "profiler",
    "detect_anomaly", "barebones", "plugins", "sync_batchnorm", "reload_dataloaders_every_n_epochs",
    "default_root_dir", "enable_autolog_hparams", "model_registry",
)  # fmt: skip
#: Options of Lightning's methods that our commands set themselves.
_OF_METHODS = {
    "fit": ("--weights_only",),
    "validate": ("--verbose", "--weights_only"),
    "test": ("--verbose", "--weights_only"),
    "predict": ("--return_predictions", "--weights_only"),
}
#: Meaning of ``--ckpt_path``, by command.
CKPT_PATH = dict.fromkeys(_OF_METHODS, "The weights, in any published format.") | {
    "fit": "The last.ckpt of a run to resume.",
    "predict": "Weights in any published format; several form an ensemble.",
}


#: Sections and keys of a configuration that commands accept and do not use, as it is that of a run.
OF_RUNS = (
    "model", "trainer", "seed_everything", "published_result", "name", "tf32", "ckpt_path", "weights_only", "verbose",
)  # fmt: skip


def add_run_options(parser: Any) -> None:
    """Options of ``fit``, ``validate`` and ``test`` besides Lightning's."""
    _add_run_options(
        parser,
        "NAME/fit_0, NAME/test_0",
        "The published result, or several, that test compares scores with; see prithvi_tg.reporting.published.",
    )


def add_pretrain_options(parser: Any) -> None:
    """Options of ``pretrain`` besides Lightning's."""
    _add_run_options(parser, "NAME/pretrain_0, NAME/pretrain_1", argparse.SUPPRESS)


def _add_run_options(parser: Any, folders: str, published: str) -> None:
    add = group_of(parser, OUTPUTS).add_argument
    add(
        "--name",
        metavar="NAME",
        type=str | None,
        default=None,
        help=f"Name of the run: its folder is {folders} and so on; by default version_0, version_1 ...",
    )
    add("--published_result", metavar="NAME", type=str | list[str] | None, default=None, help=published)
    add_tf32(parser)


def add_tf32(parser: Any) -> None:
    """Precision of matrix products on CUDA."""
    group_of(parser, COMPUTING).add_argument(
        "--tf32",
        type=bool,
        default=False,
        help="On CUDA, compute matrix products and convolutions of float32 in TF32: faster, 10 bits of mantissa.",
    )


def add_no_options(parser: Any) -> None:
    """A command without options of its own."""


def add_chip_options(parser: Any) -> None:
    """Options of ``chips``."""
    add = group_of(parser, OUTPUTS).add_argument
    add("folder", metavar="FOLDER", type=str, help="Folder for the chips; an unfinished folder is completed.")
    add("--epochs", metavar="N", type=int, default=1, help="Number of epochs of training windows.")
    group_of(parser, COMPUTING).add_argument(
        "--num_workers", metavar="N", type=int, default=1, help="Worker processes."
    )


def add_calibrate_options(parser: Any) -> None:
    """Options of ``calibrate``."""
    add = group_of(parser, OUTPUTS).add_argument
    add("--output", metavar="FILE", type=str | None, default=None,
        help="The checkpoint to write; by default best_calibrated.ckpt beside best.ckpt.")  # fmt: skip
    add("--overwrite", action="store_true", help="Replace the file if it exists.")
    add = group_of(parser, COMPUTING).add_argument
    add("--pixels", metavar="N", type=int, default=1_000_000,
        help="Maximum number of labelled pixels, drawn at random.")  # fmt: skip
    add("--seed", metavar="N", type=int, default=0, help="Seed of the draw.")
    add(
        "--accelerator",
        metavar="NAME",
        type=str,
        default="auto",
        help="cpu or gpu; auto is a GPU if there is one.",
    )


def describe_data(parser: ConfiguredParser) -> None:
    """Describe options of a command that reads the data of a configuration."""
    parser.describe(
        CONFIGURATION, "-c", "--config", metavar="FILE",
        text="A configuration with a data: section. If several are given, later ones take precedence.",
    )  # fmt: skip
    parser.describe(
        CONFIGURATION, "--data", metavar="CLASS", text="The data module, instead of a configuration's."
    )
    parser.describe(
        CONFIGURATION,
        "--data.KEY",
        metavar="VALUE",
        text="A key of the data module, such as --data.batch_size 4.",
    )
    parser.describe(READING, "--skip_bad", text=_SKIP_BAD)
    for name in (*OF_RUNS, "print_config"):
        parser.describe(CONFIGURATION, f"--{name}", metavar="VALUE")
    parser.describe(
        _MORE,
        "--data.help",
        metavar="CLASS",
        text="List the keys of a data module, by default that of --config.",
    )
    _describe_help(parser)


_SKIP_BAD = "Skip chips that cannot be read or lack their image or label file, and list them."


def describe_lightning(parser: ConfiguredParser, command: str) -> None:
    """Describe options that Lightning and jsonargparse add to a command."""
    parser.describe(
        CONFIGURATION, "-c", "--config", metavar="FILE",
        text="A configuration. If several are given, later ones take precedence; options take precedence over all."
        + (" Not needed with a checkpoint of this package." if command == "predict" else ""),
    )  # fmt: skip
    parser.describe(CONFIGURATION, "--ckpt_path", metavar="FILE", text=CKPT_PATH[command])
    sections = (
        ("model", "task", "lr 1.0e-4"),
        ("data", "data module", "root data"),
        ("trainer", "trainer", "max_epochs 5"),
    )
    for section, meaning, example in sections:
        metavar = "FILE" if section == "trainer" else "CLASS"
        if (command, section) == ("predict", "model"):
            parser.describe(
                CONFIGURATION,
                "--model",
                metavar="MODEL.pt2",
                text="An exported model, instead of --ckpt_path.",
            )
        else:
            parser.describe(CONFIGURATION, f"--{section}", metavar=metavar)
        parser.describe(
            CONFIGURATION,
            f"--{section}.KEY",
            metavar="VALUE",
            text=f"A key of the {meaning}: --{section}.{example}.",
        )
    parser.describe(
        CONFIGURATION, "--seed_everything", metavar="SEED", text="Seed of random numbers; 0 by default."
    )
    if command != "predict":
        parser.describe(READING, "--skip_bad", text=_SKIP_BAD)
        parser.describe(
            OUTPUTS, "--trainer.default_root_dir", metavar="FOLDER", text="Folder of runs; by default runs."
        )
    for name, metavar, text in (
        ("accelerator", "NAME", "cpu or gpu; by default a GPU if there is one."),
        ("devices", "N", "Number of devices."),
        ("precision", "NAME", "32-true, bf16-mixed or 16-mixed."),
    ):
        parser.describe(COMPUTING, f"--trainer.{name}", metavar=metavar, text=text)
    for name in (*_OF_METHODS[command], "--print_shtab"):
        parser.describe(CONFIGURATION, name, metavar="VALUE")
    parser.describe(_MORE, "--print_config", text="Print the complete configuration, and exit.")
    parser.describe(_MORE, "--trainer.help", text="List the keys of the trainer.")
    parser.describe(
        _MORE,
        "--model.help",
        metavar="CLASS",
        text="List the keys of a task, by default that of --config.",
    )
    parser.describe(
        _MORE,
        "--data.help",
        metavar="CLASS",
        text="List the keys of a data module, by default that of --config.",
    )
    _describe_help(parser)


def _describe_help(parser: ConfiguredParser) -> None:
    group_of(parser, _MORE).add_argument("-h", "--help", action="help", help="Show this help, and exit.")
