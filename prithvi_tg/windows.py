"""Window geometry: exact covers of an image by windows."""

from .errors import ConfigError


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Offsets of windows that cover ``length`` pixels exactly, along one axis.

    Windows stand ``stride`` apart; the last one is shifted inwards so that it ends on the last pixel, as in
    MMSegmentation's sliding inference. An axis shorter than a window gets one window at 0 (pad the image).

    Raises:
        ConfigError: The stride leaves gaps between windows, or is not positive.
    """
    if not 0 < stride <= window:
        raise ConfigError(f"stride: {stride} must lie between 1 and the window, {window}")
    if length <= window:
        return [0]
    steps = -(-(length - window) // stride)
    return [min(step * stride, length - window) for step in range(steps + 1)]
