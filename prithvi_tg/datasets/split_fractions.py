"""Splits and their shares of a dataset."""

import math
from collections.abc import Sequence

from ..errors import ConfigError

#: Splits of chips and scenes of your own.
SPLITS = ("train", "val", "test")


def check_fractions(key: str, fractions: Sequence[float]) -> None:
    """Check shares of training, validation and test.

    Args:
        key: Key of the configuration, for the message.
        fractions: The shares.

    Raises:
        ConfigError: They are not three shares that add up to 1.
    """
    are_shares = len(fractions) == len(SPLITS) and min(fractions) >= 0
    if not are_shares or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ConfigError(
            f"{key}: {list(fractions)} must be three shares of {', '.join(SPLITS)} that add up to 1"
        )
