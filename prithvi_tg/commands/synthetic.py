"""``prithvi-tg synthetic``: write a synthetic data set to try things on."""

import argparse

from ..datasets.synthetic import write_sen1floods11


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the data, say where they are."""
    parser = argparse.ArgumentParser(
        prog="prithvi-tg synthetic",
        description="Write synthetic flood chips in the layout of Sen1Floods11, and a larger scene to map.",
    )
    parser.add_argument("root", help="folder to write to; must be empty or absent")
    parser.add_argument("--chips", type=int, default=24, help="number of chips (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of a chip, pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same data (default: %(default)s)")
    options = parser.parse_args(arguments)
    root = write_sen1floods11(options.root, options.chips, options.size, seed=options.seed)
    print(f"Written: {options.chips} chips, splits.csv, scene.tif and scene_label.tif in {root}")
    return 0
