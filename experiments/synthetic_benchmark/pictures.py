"""A picture of one scene under each shift."""

import numpy as np
from chips import CHIP, GROWING_SEASON, SCENE, SHIFTS
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scenes import ENDMEMBERS, LAND_USES, Conditions, Region, make_scene

from prithvi_tg.colors import default_colors

WATER, TREES, SOIL, BUILT_UP = default_colors(("water", "trees", "soil", "built-up"))
HERBS = "#b2df8a"  # light, as trees have the usual green of vegetation
COVER = (WATER, TREES, HERBS, SOIL, BUILT_UP)
LAND_USE = (WATER, TREES, HERBS, "#e69f00", BUILT_UP, "#e31a1c", "#6a3d9a", "#ffd9b3")


def draw_scenes(region: int = 0, seed: int = 3) -> Figure:
    """The same ground under each shift: true colour, near infrared in red, cover and land use; chips as a grid."""
    figure = Figure(figsize=(3.2 * len(SHIFTS) + 1.5, 13), layout="constrained")
    axes = figure.subplots(4, len(SHIFTS))
    home = Conditions(Region.draw(region), day=float(np.mean(GROWING_SEASON)))
    titles = ("true colour", "near infrared, red, green", "cover", "land use")
    for column, (name, shift) in zip(axes.T, SHIFTS.items(), strict=True):
        scene = make_scene(seed, shift(home, seed + 1), SCENE)
        visible = np.where(scene.visible, 1.0, np.nan)
        column[0].imshow(_colors(scene.image[[2, 1, 0]], 0.20) * scene.valid[..., None])
        column[1].imshow(_colors(scene.image[[3, 2, 1]], (0.42, 0.26, 0.22)) * scene.valid[..., None])
        for panel, classes, colors in (
            (column[2], scene.cover, COVER),
            (column[3], scene.land_use, LAND_USE),
        ):
            panel.imshow(
                classes * visible,
                cmap=ListedColormap(colors),
                vmin=0,
                vmax=len(colors) - 1,
                interpolation="nearest",
            )
        column[0].set_title(name)
    for row, names, colors in ((axes[2], ENDMEMBERS, COVER), (axes[3], LAND_USES, LAND_USE)):
        patches = [Patch(color=color, label=name) for name, color in zip(names, colors, strict=True)]
        row[-1].legend(handles=patches, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for row, title in zip(axes, titles, strict=True):
        row[0].set_ylabel(title)
        for panel in row:
            panel.set_xticks(range(0, SCENE, CHIP), [])
            panel.set_yticks(range(0, SCENE, CHIP), [])
            panel.tick_params(length=2)
    return figure


def _colors(bands: np.ndarray, brightest: float | tuple[float, ...]) -> np.ndarray:
    """Bands (3, H, W) as colours (H, W, 3); `brightest` is the reflectance of full brightness."""
    stretched: np.ndarray = np.clip((np.moveaxis(bands, 0, -1) - 0.02) / brightest, 0, 1)
    return stretched
