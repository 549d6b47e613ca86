"""``prithvi-tg area estimate``: areas and accuracies from labelled points."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..areas.points import read_points
from ..areas.results import DEGENERATE, MIN_OMISSIONS, estimate_areas
from ..cli.table import COMMANDS
from ..errors import ConfigError, counted, listed
from ..files import shown, write_json

_ANY_WIDTH = 10_000
_ACCURACIES = ("users_accuracy", "producers_accuracy")


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
    matrix = _matrix_table(names, names, result["error_matrix"])
    if _narrowest(console, matrix) > console.width:
        numbers = [str(number) for number in range(1, len(names) + 1)]
        numbered = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
        matrix = _matrix_table(numbered, numbers, result["error_matrix"])
    for table in (matrix, _area_table(result["classes"]), _accuracy_table(result["classes"])):
        # A table that is wider than the screen is complete, rather than cut.
        Console(width=max(console.width, _narrowest(console, table))).print(table)
    overall = result["overall_accuracy"]
    print(f"Overall accuracy in %: {_percent(overall)}")
    left_out = result["uninterpretable"]
    print(
        counted(result["points"], "point")
        + (
            f"; {left_out} could not be interpreted and {'is' if left_out == 1 else 'are'} left out"
            if left_out
            else ""
        )
    )
    for one in result["classes"]:
        if not one["reliable"]:
            print(
                f"* {one['name']}: unreliable, as fewer than {MIN_OMISSIONS} omissions were found in "
                f"{listed(one['few_omissions_in'])}, where each point represents a large area. The interval is too "
                "short; label more points there"
            )
    figures = [one[key] for one in result["classes"] for key in ("square_metres", *_ACCURACIES)]
    if any(map(_is_degenerate, (overall, *figures))):
        print(f"† no interval: {DEGENERATE}")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.output, result)
        print(f"Written: {shown(options.output)}")
    return 0


def _narrowest(console: Console, table: Table) -> int:
    """Width of a table whose names are broken between words."""
    return console.measure(table, options=console.options.update(width=_ANY_WIDTH)).minimum


def _matrix_table(rows: Sequence[str], columns: Sequence[str], matrix: Sequence[Sequence[float]]) -> Table:
    totals = [sum(column) for column in zip(*matrix, strict=True)]
    cells = [
        (name, *(f"{100 * share:.2f}" for share in (*shares, sum(shares))))
        for name, shares in zip((*rows, "reference"), (*matrix, totals), strict=True)
    ]
    title = "error matrix, % of the area; rows: map, columns: reference"
    return _table(title, ("", *columns, "mapped"), cells)


def _area_table(classes: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for one in classes:
        mapped, value, error = (
            f"{square_metres / 1e4:,.1f}"
            for square_metres in (
                one["mapped_square_metres"],
                one["square_metres"]["value"],
                one["square_metres"]["standard_error"],
            )
        )
        half = 1.96 * one["square_metres"]["standard_error"]
        interval = "†" if _is_degenerate(one["square_metres"]) else f"± {half / 1e4:,.1f}"
        rows.append((_marked(one), mapped, f"{value} {interval}", error))
    return _table(
        "areas in hectares, with 95 % intervals", ("class", "mapped area", "area", "standard error"), rows
    )


def _accuracy_table(classes: Sequence[dict[str, Any]]) -> Table:
    rows = [(_marked(one), *(_percent(one[key]) for key in _ACCURACIES)) for one in classes]
    return _table("accuracies in %, with 95 % intervals", ("class", "user's", "producer's"), rows)


def _marked(one: dict[str, Any]) -> str:
    return one["name"] + ("" if one["reliable"] else " *")


def _table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column may be broken into lines; the others are figures."""
    table = Table(title=title)
    table.add_column(headers[0])
    for header, *cells in list(zip(headers, *rows, strict=True))[1:]:
        width = max(map(len, (header, *cells)))
        table.add_column(escape(header), justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _is_degenerate(figure: dict[str, Any] | None) -> bool:
    return figure is not None and figure["degenerate"]


def _percent(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "-"
    if _is_degenerate(figure):
        return f"{100 * figure['value']:.1f} †"
    return f"{100 * figure['value']:.1f} ± {196 * figure['standard_error']:.1f}"
