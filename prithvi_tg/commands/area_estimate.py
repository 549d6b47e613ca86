"""``prithvi-tg area estimate``: areas and accuracies from labelled points."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..areas.points import read_points
from ..areas.results import MIN_OMISSIONS, estimate_areas
from ..cli.table import COMMANDS
from ..errors import ConfigError
from ..files import shown, write_json


def run(arguments: list[str]) -> int:
    """Parse the arguments, print tables and write the figures."""
    options = COMMANDS["area"].select(["estimate"])[0].parser().parse_args(arguments)
    if options.output is not None:
        if options.output.suffix.lower() != ".json":
            raise ConfigError(f"output: {options.output} does not end with .json")
        if options.output.exists() and not options.overwrite:
            raise ConfigError(f"output: {options.output} exists; add --overwrite to replace it")
    result = estimate_areas(*read_points(options.points, options.design))
    names = [one["name"] for one in result["classes"]]
    console = Console()
    console.print(_matrix_table(names, result["error_matrix"]))
    console.print(_class_table(result["classes"]))
    overall = result["overall_accuracy"]
    print(f"Overall accuracy: {_percent(overall)} %")
    left_out = result["uninterpretable"]
    print(
        f"{result['points']} points"
        + (f"; {left_out} cannot be interpreted and are left out" if left_out else "")
    )
    for one in result["classes"]:
        if not one["reliable"]:
            print(
                f"* {one['name']}: unreliable; fewer than {MIN_OMISSIONS} omissions were found in "
                f"{', '.join(one['few_omissions_in'])}, where a point stands for much area. The interval is too short; "
                "more points there would help"
            )
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.output, result)
        print(f"Written: {shown(options.output)}")
    return 0


def _matrix_table(names: Sequence[str], matrix: Sequence[Sequence[float]]) -> Table:
    table = Table(title="error matrix, % of the area; rows: map, columns: reference")
    table.add_column("")
    for name in (*names, "mapped"):
        table.add_column(escape(name), justify="right")
    for name, row in zip(names, matrix, strict=True):
        table.add_row(escape(name), *(f"{100 * share:.2f}" for share in (*row, sum(row))))
    totals = [sum(column) for column in zip(*matrix, strict=True)]
    table.add_row("reference", *(f"{100 * share:.2f}" for share in (*totals, sum(totals))))
    return table


def _class_table(classes: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="areas and accuracies with 95 % intervals")
    table.add_column("class")
    for column in ("mapped area, ha", "area, ha", "standard error, ha", "user's, %", "producer's, %"):
        table.add_column(column, justify="right")
    for one in classes:
        area = one["square_metres"]
        half = 1.96 * area["standard_error"]
        table.add_row(
            escape(one["name"]) + ("" if one["reliable"] else " *"),
            f"{one['mapped_square_metres'] / 1e4:,.1f}",
            f"{area['value'] / 1e4:,.1f} ± {half / 1e4:,.1f}",
            f"{area['standard_error'] / 1e4:,.1f}",
            _percent(one["users_accuracy"]),
            _percent(one["producers_accuracy"]),
        )
    return table


def _percent(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "-"
    return f"{100 * figure['value']:.1f} ± {196 * figure['standard_error']:.1f}"
