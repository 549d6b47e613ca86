"""``prithvi-tg search``: write the STAC items of an area and some dates, which ``predict`` reads."""

from collections import Counter
from pathlib import Path

from ..cli.table import COMMANDS
from ..errors import ConfigError, counted
from ..files import write_json, writing
from ..readers.stac_search import search_items


def run(arguments: list[str]) -> int:
    """Parse the arguments, search, and write the list."""
    options = COMMANDS["search"].parser().parse_args(arguments)
    output: Path = options.output
    if output.suffix.lower() not in (".json", ".geojson"):
        raise ConfigError(f"output: {output} must be a .json")
    if output.exists() and not options.overwrite:
        raise ConfigError(f"output: {output} exists; add --overwrite to replace it, or give another file")
    items = search_items(
        options.api, options.collection, options.aoi, options.dates, options.max_cloud, options.max_items,
        options.modifier,
    )  # fmt: skip
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, {"type": "FeatureCollection", "features": items})
    for day, count in sorted(Counter(str(item["properties"].get("datetime"))[:10] for item in items).items()):
        print(f"{day}: {counted(count, 'item')}")
    print(f"Written: {counted(len(items), 'item')} in {output}")
    return 0
