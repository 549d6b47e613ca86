"""``prithvi-tg export``: the model of a checkpoint as a program, ONNX or safetensors, adapters merged."""

from ..cli.table import COMMANDS
from ..exporting import export_model, item_path
from ..files import shown
from ..tasks import load_task


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the files and print their paths."""
    options = COMMANDS["export"].parser().parse_args(arguments)
    path = export_model(load_task(options.ckpt_path), options.output, options.window, options.overwrite)
    print(f"Written: {shown(path)}")
    if (item := item_path(path)).exists():
        print(f"Written: {shown(item)}")
    return 0
