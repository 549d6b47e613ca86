"""Numbers and texts of the report, as shown on its page."""

import math
import re
from typing import Any

from markupsafe import Markup


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def count(value: int) -> str:
    """A whole number."""
    return f"{value:,}"


def area(value: float) -> str:
    """An area."""
    return f"{value:,.1f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference of shares in per cent."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:+.{digits}f}"


def path(text: str) -> Markup:
    """Text whose paths and dotted names may be broken into lines after slashes and dots."""
    return Markup("<wbr>").join(re.split(r"(?<=[./])(?=[A-Za-z_])", text))


def number(value: float | None) -> str:
    """A score that is not in per cent, as in the terminal."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def setting(value: Any, limit: int = 80) -> str:
    """A value of a configuration."""
    text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
