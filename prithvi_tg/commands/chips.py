"""``prithvi-tg chips``: cut labelled scenes into a chip dataset."""

from pathlib import Path

from ..chip_writing import write_chips
from ..datamodules import LabelledScenesDataModule
from ..errors import ConfigError, counted
from .data_parser import data_parser, parse_data


def run(arguments: list[str]) -> int:
    """Write the windows of a configuration's samplers as chips."""
    parser = data_parser("chips")
    config = parse_data(parser, arguments)
    data = parser.instantiate_classes(config).data
    if not isinstance(data, LabelledScenesDataModule):
        raise ConfigError(
            f"data: {type(data).__name__} has no scenes to cut into chips; use LabelledScenesDataModule"
        )
    written, existing = write_chips(data, Path(config.folder), config.epochs, config.num_workers)
    print(
        f"Written: {counted(written, 'chip')} in {config.folder}"
        + (f"; {existing} existed" if existing else "")
    )
    print(
        f"Train on them: prithvi-tg fit --config YOUR_MODEL.yaml --config {Path(config.folder) / 'data.yaml'}"
    )
    return 0
