"""``prithvi-tg synthetic``: write a small synthetic data set."""

import argparse

from ..datasets.synthetic import LAYOUTS as PUBLISHED_LAYOUTS
from ..datasets.synthetic_values import write_biomass

#: Choices of ``--layout``.
LAYOUTS = {**PUBLISHED_LAYOUTS, "biomass": write_biomass}


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the data and print their folder."""
    parser = argparse.ArgumentParser(
        prog="prithvi-tg synthetic",
        description="Write synthetic chips in the layout of a published data set, and a larger scene to map.",
    )
    parser.add_argument("root", help="output folder; must be empty or absent")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="sen1floods11",
        help="layout of the data set (default: %(default)s)",
    )
    parser.add_argument(
        "--chips", type=int, default=24, help="number of chips, at least 6 (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=int, default=256, help="side of a chip in pixels (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    options = parser.parse_args(arguments)
    root = LAYOUTS[options.layout](options.root, options.chips, options.size, seed=options.seed)
    print(f"Written: {options.chips} chips, scene.tif and scene_label.tif in {root}")
    return 0
