"""``prithvi-tg area sample``: a stratified random sample of the pixels of maps."""

import argparse

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..areas.design import Design
from ..areas.maps import ClassMap
from ..areas.points import UNINTERPRETABLE, check_outputs, design_path, point_table, write_points
from ..areas.results import described_allocation
from ..areas.sample import SampleOptions, draw_sample, open_population_maps
from ..areas.sampling import Population, count
from ..areas.strata import BoundaryStrata, ClassStrata, ConfidenceStrata, Stratification
from ..cli.table import COMMANDS
from ..errors import ConfigError, counted
from ..files import shown


def run(arguments: list[str]) -> int:
    """Parse the arguments, draw the points and print how they are allocated."""
    options = COMMANDS["area"].select(["sample"])[0].parser().parse_args(arguments)
    check_outputs(options.output, options.overwrite)
    size = SampleOptions(
        options.points,
        options.standard_error,
        dict(options.expected_accuracy),
        options.allocation,
        options.minimum,
        options.seed,
    )
    maps = open_population_maps(options.maps, dict(options.classes))
    population = Population(maps, _stratification(options, maps[0]))
    design, points = draw_sample(population, count(population), size)
    table = Table(
        title=f"sample of {counted(design.size, 'point')}, {described_allocation(design.record)}, seed {size.seed}"
    )
    table.add_column("stratum")
    for column in ("mapped area, ha", "share, %", "pixels", "points"):
        table.add_column(column, justify="right")
    for one, number in zip(design.strata, design.record["points_per_stratum"].values(), strict=True):
        hectares, share = one.square_metres / 1e4, 100 * one.square_metres / design.areas.sum()
        table.add_row(escape(one.name), f"{hectares:,.1f}", f"{share:.2f}", f"{one.pixels:,}", str(number))
    Console().print(table)
    if size.points is not None and design.size > size.points:
        print(
            f"More than --points {size.points}, as --minimum is {counted(size.minimum, 'point')} in each stratum"
        )
    if empty := _empty(population.stratification, design):
        print(f"Strata without pixels, and so without points: {', '.join(empty)}")
    if (error := design.record["expected_standard_error"]) is not None:
        print(f"Expected standard error of overall accuracy: {error:.4f}")
    written = point_table(design, points, maps)
    for path in options.output:
        write_points(path, written, design)
        if path.suffix.lower() == ".csv":
            print(f"Written: {shown(design_path(path))}")
        print(f"Written: {shown(path)}")
    print(
        f"Write {', '.join(design.classes)} or {UNINTERPRETABLE} into the column reference of each point, then run: "
        f"prithvi-tg area estimate {shown(options.output[0])}"
    )
    return 0


def _empty(strata: Stratification, design: Design) -> list[str]:
    """Strata without pixels, with the reason if their class is mapped."""
    present = {one.name for one in design.strata}
    mapped = dict(zip(design.classes, design.mapped_square_metres, strict=True))
    empty = [
        (name, strata.class_of(number)) for number, name in enumerate(strata.names) if name not in present
    ]
    return [
        f"{name} (all of its pixels are in other strata)" if kind is not None and mapped[kind] > 0 else name
        for name, kind in empty
    ]


def _stratification(options: argparse.Namespace, first: ClassMap) -> Stratification:
    if options.boundary_buffer is not None and options.confidence_bands is not None:
        raise ConfigError("boundary_buffer: give this option or --confidence_bands, not both")
    names = tuple(first.classes.values())
    if options.boundary_buffer is not None:
        return BoundaryStrata(names, options.boundary_buffer)
    if options.confidence_bands is not None:
        return ConfidenceStrata(names, options.confidence_bands)
    return ClassStrata(names)
