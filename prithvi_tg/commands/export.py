"""``prithvi-tg export``: the weights of a checkpoint as safetensors, adapters merged."""

from ..cli.table import COMMANDS
from ..tasks import load_task
from ..tasks.export import export_weights


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the file and print its path."""
    options = COMMANDS["export"].parser().parse_args(arguments)
    print(f"Written: {export_weights(load_task(options.ckpt_path), options.output, options.overwrite)}")
    return 0
