"""``prithvi-tg area change``: the mapped area of each transition between the classes of two maps."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..areas.change import Transitions, count_transitions, write_change_map
from ..areas.maps import ClassMap
from ..cli.table import COMMANDS
from ..errors import ConfigError, counted
from ..files import shown, write_json


def run(arguments: list[str]) -> int:
    """Parse the arguments, print the matrix and write the files."""
    options = COMMANDS["area"].select(["change"])[0].parser().parse_args(arguments)
    for path in options.output:
        if path.suffix.lower() not in (".tif", ".json"):
            raise ConfigError(f"output: {path} is neither a map (.tif) nor a matrix (.json)")
        if path.exists() and not options.overwrite:
            raise ConfigError(f"output: {path} exists; add --overwrite to replace it")
    before, after = (ClassMap.open(path, dict(options.classes)) for path in (options.before, options.after))
    found = count_transitions(before, after)
    Console().print(_table(found))
    print(f"Rows: {before.name()}")
    print(f"Columns: {after.name()}")
    total, stable = found.square_metres.sum(), 0.0
    for i, j, name in found.names():
        stable += found.square_metres[i, j] if name.startswith("stable ") else 0.0
    if total > 0:
        print(f"Changed: {(total - stable) / 1e4:,.1f} ha of {total / 1e4:,.1f} ha mapped on both dates")
    if found.only_before or found.only_after:
        print(
            f"Left out, as they have a class on one date only: {counted(found.only_before, 'pixel')} of the first "
            f"date, {counted(found.only_after, 'pixel')} of the second"
        )
    print(
        "These are mapped areas, which contain the errors of both maps; estimate areas of change from a sample."
    )
    for path in options.output:
        if path.suffix.lower() == ".json":
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, found.record())
        else:
            write_change_map(path, found)
        print(f"Written: {shown(path)}")
    return 0


def _table(found: Transitions) -> Table:
    table = Table(title="mapped area, ha")
    table.add_column("")
    for name in (*found.after.classes.values(), "total"):
        table.add_column(escape(name), justify="right")
    hectares = found.square_metres / 1e4
    for name, row in zip(found.before.classes.values(), hectares, strict=True):
        table.add_row(escape(name), *(f"{area:,.1f}" for area in (*row, row.sum())))
    columns = hectares.sum(axis=0)
    table.add_row("total", *(f"{area:,.1f}" for area in (*columns, columns.sum())))
    return table
