"""PrithviArgumentParser: LightningCLI's parser, with our help and errors of one line."""

import itertools
import sys
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from .. import datamodules, tasks
from ..compat import set_help
from ..deprecated import current_words
from .errors import one_line, plain_text
from .options.configured import CKPT_PATH
from .table import COMMANDS


class PrithviArgumentParser(LightningArgumentParser):
    """LightningCLI's parser, with errors of one line.

    Args:
        *args: Arguments of `LightningArgumentParser`.
        command: The command whose arguments it parses, if it is one of Lightning's.
        **kwargs: Arguments of `LightningArgumentParser`.
    """

    def __init__(self, *args: Any, command: str = "", **kwargs: Any) -> None:
        running = " ".join(word for word in sys.argv[1:2] if word in COMMANDS)
        kwargs.setdefault("prog", f"prithvi-tg {running}".strip())  # of --data.help CLASS and the like
        super().__init__(*args, **kwargs)
        self.command = command

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, with the docstrings of classes as plain text."""
        return plain_text(super().format_help(*args, **kwargs))

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a method of the trainer, with our own help for `ckpt_path`."""
        added = super().add_method_arguments(*args, **kwargs)
        set_help(self, "ckpt_path", CKPT_PATH[self.command])
        return added

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """Parse the arguments; a configuration that is not a text file is an error of one line."""
        given = sys.argv[1:] if args is None else args
        words = current_words(["--data.skip_bad=true" if word == "--skip_bad" else word for word in given])
        try:
            return super().parse_args(words, *more, **options)
        except UnicodeDecodeError as error:
            files = [after for word, after in itertools.pairwise(words) if word in ("--config", "-c")]
            self.error(f"config: {', '.join(map(str, files))}: not a text file ({error})")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error in one line, and exit with 2."""
        if not self.exit_on_error:  # an inner parser tries the kinds of an argument one by one
            super().error(message, ex)
        sys.stderr.write(f"prithvi-tg: error: {one_line(message, known_classes())}\n")
        sys.exit(2)


def print_trainer_help(command: str) -> None:
    """Print the keys of the trainer.

    Args:
        command: Name of the command.
    """
    parser = LightningArgumentParser(
        prog=f"prithvi-tg {command}", usage=f"prithvi-tg {command} [--trainer.KEY VALUE ...]", add_help=False
    )
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.print_help()


def known_classes() -> list[type]:
    """Classes that an error of a configuration may suggest: the trainer, and all tasks and data modules of ours."""
    ours = [getattr(module, name) for module in (tasks, datamodules) for name in module.__all__]
    return [Trainer, *(found for found in ours if isinstance(found, type))]
