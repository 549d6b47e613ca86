"""The parser of commands that take the ``data:`` section of a configuration."""

from typing import Any

from torch.utils.data import Dataset
from torchgeo.datamodules import BaseDataModule

from ..cli.lightning_parser import PrithviArgumentParser
from ..cli.options.configured import OF_RUNS
from ..cli.table import COMMANDS
from ..datamodules import ChipDataModule, LabelledScenesDataModule
from ..errors import ConfigError


def _unread(value: Any) -> Any:
    """Type of a section that is not read: with a type hint, jsonargparse would import the classes that it names."""
    return value


def data_parser(command: str) -> PrithviArgumentParser:
    """A parser that creates the data module of a configuration and ignores its other sections.

    Args:
        command: Name of the command.
    """
    parser = PrithviArgumentParser(prog=f"prithvi-tg {command}")
    parser.add_argument("-c", "--config", action="config", help="A configuration file with a data: section.")
    parser.add_subclass_arguments(BaseDataModule, "data", fail_untyped=False)
    for section in OF_RUNS:
        parser.add_argument(f"--{section}", type=_unread, help="Accepted in the configuration, but not used.")
    COMMANDS[command].add_options(parser)
    return parser


def parse_data(parser: PrithviArgumentParser, arguments: list[str]) -> Any:
    """Parse the arguments.

    Raises:
        ConfigError: No data are given.
    """
    config = parser.parse_args(arguments)
    if config.data is None:
        raise ConfigError("data: not given; name a configuration with a data: section, --config FILE")
    return config


def open_split(data: Any, split: str) -> Dataset[dict[str, Any]]:
    """A dataset with every chip, or every labelled pixel of a split of scenes, once.

    Args:
        data: A data module of this package.
        split: Name of the split.
    """
    if isinstance(data, LabelledScenesDataModule):
        return data.scored_windows(split, *data.open_and_split("validate"))
    assert isinstance(data, ChipDataModule)  # as its spec is a DataSpec
    return data.open_split(split)
