"""Searching a STAC API for items."""

import json
import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import shapely

from ..class_paths import find_function
from ..errors import ConfigError, DataError
from .aoi import AreaOfInterest


def search_items(
    api: str,
    collections: Sequence[str],
    aoi: str | Path,
    dates: Sequence[str],
    max_cloud: float | None = None,
    max_items: int | None = None,
    modifier: str | None = None,
) -> list[dict[str, Any]]:
    """Items of an API that intersect an area, in the order of their dates.

    Args:
        api: Address of the API.
        collections: Ids of collections.
        aoi: See `AreaOfInterest.of`.
        dates: First and last day, ``YYYY-MM-DD``; or a single day.
        max_cloud: Largest ``eo:cloud_cover`` in percent; items without this property are left out.
        max_items: Largest number of items.
        modifier: Path of a function that signs the items, see `InputOptions.modifier`.

    Raises:
        ConfigError: pystac-client is not installed, or a date or the modifier is unknown.
        DataError: The API does not answer, or finds nothing.
    """
    try:
        from pystac_client import Client
        from pystac_client.exceptions import APIError
    except ModuleNotFoundError as error:
        raise ConfigError("search: needs pystac-client: pip install pystac-client") from error
    days = [_day(text) for text in dates]
    if not 1 <= len(days) <= 2 or days[0] > days[-1]:
        raise ConfigError(f"dates: {' '.join(dates)}; give the first and the last day, YYYY-MM-DD")
    function = None if modifier is None else find_function("modifier", modifier)
    area = AreaOfInterest.of(aoi)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # links that an API lacks
            client = Client.open(api, modifier=function)
            found = client.search(
                collections=list(collections),
                intersects=json.loads(shapely.to_geojson(area.in_degrees)),
                datetime=f"{days[0]}/{days[-1]}",
                query={"eo:cloud_cover": {"lte": max_cloud}}
                if max_cloud is not None and client.conforms_to("QUERY")
                else None,
            )
            items = [item for item in found.items_as_dicts() if _is_clear(item, max_cloud)]
    except (APIError, OSError) as error:  # requests' errors are OSErrors
        raise DataError(f"api: {api}: {str(error).splitlines()[0][:200]}") from error
    if not items:
        cloud = "" if max_cloud is None else f" with at most {max_cloud:g} % cloud"
        raise DataError(
            f"api: {api} has no item of {', '.join(collections)} in {area.described} on these dates{cloud}"
        )
    items.sort(key=lambda item: (str(item["properties"].get("datetime")), str(item["id"])))
    return items[:max_items]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"dates: {text} is not a date; write it as YYYY-MM-DD") from error


def _is_clear(item: Mapping[str, Any], max_cloud: float | None) -> bool:
    cover = item["properties"].get("eo:cloud_cover")
    return max_cloud is None or (cover is not None and float(cover) <= max_cloud)
