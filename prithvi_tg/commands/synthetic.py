"""``prithvi-tg synthetic``: write a small synthetic dataset."""

from ..cli.table import COMMANDS
from ..datasets.synthetic import LAYOUTS as PUBLISHED_LAYOUTS
from ..datasets.synthetic_change import write_change
from ..datasets.synthetic_values import write_biomass

#: Choices of ``--layout``.
LAYOUTS = {**PUBLISHED_LAYOUTS, "biomass": write_biomass, "change": write_change}


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the data and print their folder."""
    options = COMMANDS["synthetic"].parser().parse_args(arguments)
    root = LAYOUTS[options.layout](options.root, options.chips, options.size, seed=options.seed)
    print(f"Written: {options.chips} chips, scene.tif and scene_label.tif in {root}")
    return 0
