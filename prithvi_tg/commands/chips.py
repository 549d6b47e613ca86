"""``prithvi-tg chips``: windows of labelled scenes as a chip data set, for those who train many times."""

from pathlib import Path

from ..chip_writing import write_chips
from ..datamodules import LabelledScenesDataModule
from ..errors import ConfigError
from .data_parser import data_parser, parse_data


def run(arguments: list[str]) -> int:
    """Write the windows that a configuration's samplers draw."""
    parser = data_parser(
        "chips", "Write what the samplers of a configuration of scenes draw, as chips with split lists."
    )
    parser.add_argument("folder", type=str, help="Where the chips go; an unfinished one is gone on with.")
    parser.add_argument("--epochs", type=int, default=1, help="Epochs of training windows.")
    parser.add_argument("--num_workers", type=int, default=1, help="Processes that read and write.")
    config = parse_data(parser, arguments)
    data = parser.instantiate_classes(config).data
    if not isinstance(data, LabelledScenesDataModule):
        raise ConfigError(
            f"data: {type(data).__name__} draws no windows; chips are cut by LabelledScenesDataModule"
        )
    written, kept = write_chips(data, Path(config.folder), config.epochs, config.num_workers)
    print(f"Written: {written} chips in {config.folder}" + (f"; {kept} were there" if kept else ""))
    print(
        f"Train on them: prithvi-tg fit --config YOUR_MODEL.yaml --config {Path(config.folder) / 'data.yaml'}"
    )
    return 0
