"""Where the nodata values of a dataset are set: in the configuration, in the class, or in the files."""

from typing import Any

from ..class_paths import parameters_of
from ..datasets import ChipDataset


def is_published(kind: type) -> bool:
    """Whether a dataset class without a description in the configuration is one of this package."""
    return kind.__module__.startswith(f"{__package__.partition('.')[0]}.") and "nodata" not in parameters_of(
        kind
    )


def nodata_setting(value: str, dataset: Any = None) -> str:
    """Advice on how to make a stored value mean nodata.

    Args:
        value: The value.
        dataset: The dataset, whose class may not take nodata values.
    """
    kind = type(dataset)
    if not isinstance(dataset, ChipDataset) or "nodata" in parameters_of(kind):
        return f"set data.nodata: [{value}]"
    if kind.read_image is not ChipDataset.read_image:
        return f"mark it in the mask that {kind.__name__}.read_image returns"
    if is_published(kind):
        return f"write it into the files: gdal_edit.py -a_nodata {value} FILE"
    values = ", ".join([*(f"{one:g}" for one in kind.nodata), value])
    return f"set nodata = ({values}{',' * (not kind.nodata)}) in {kind.__name__}"
