"""``prithvi-tg export``: the weights of a checkpoint as safetensors, adapters merged."""

import argparse

from ..tasks import load_task
from ..tasks.export import export_weights


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the file and print its path."""
    parser = argparse.ArgumentParser(
        prog="prithvi-tg export",
        description="Write the weights of a checkpoint as safetensors, with the published parameter names.",
    )
    parser.add_argument("ckpt_path", help="a checkpoint of this package")
    parser.add_argument("output", help="the file to write, *.safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    options = parser.parse_args(arguments)
    print(f"Written: {export_weights(load_task(options.ckpt_path), options.output, options.overwrite)}")
    return 0
