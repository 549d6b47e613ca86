"""A picture of one scene under each shift."""

import numpy as np
from chips import CHIP, GROWING_SEASON, SCENE, SHIFTS
from matplotlib.figure import Figure
from scenes import Conditions, Region, make_scene


def draw_scenes(region: int = 0, seed: int = 3) -> Figure:
    """The same ground under each shift: true colour, near infrared in red, cover and land use; chips as a grid."""
    figure = Figure(figsize=(3.2 * len(SHIFTS), 13), layout="constrained")
    axes = figure.subplots(4, len(SHIFTS))
    home = Conditions(Region.draw(region), day=float(np.mean(GROWING_SEASON)))
    titles = ("true colour", "near infrared, red, green", "cover", "land use")
    for column, (name, shift) in zip(axes.T, SHIFTS.items(), strict=True):
        scene = make_scene(seed, shift(home, seed + 1), SCENE)
        visible = np.where(scene.visible, 1.0, np.nan)
        column[0].imshow(_colors(scene.image[[2, 1, 0]], 0.20) * scene.valid[..., None])
        column[1].imshow(_colors(scene.image[[3, 2, 1]], 0.40) * scene.valid[..., None])
        column[2].imshow(scene.cover * visible, cmap="Set1", vmin=0, vmax=8, interpolation="nearest")
        column[3].imshow(scene.land_use * visible, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
        column[0].set_title(name)
    for row, title in zip(axes, titles, strict=True):
        row[0].set_ylabel(title)
        for panel in row:
            panel.set_xticks(range(0, SCENE, CHIP), [])
            panel.set_yticks(range(0, SCENE, CHIP), [])
            panel.tick_params(length=2)
    return figure


def _colors(bands: np.ndarray, brightest: float) -> np.ndarray:
    """Bands (3, H, W) as colours (H, W, 3)."""
    stretched: np.ndarray = np.clip((np.moveaxis(bands, 0, -1) - 0.02) / brightest, 0, 1)
    return stretched
