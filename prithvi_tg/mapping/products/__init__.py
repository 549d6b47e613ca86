"""What a map consists of: the table of products, and what each kind of target has by default."""

import copy
from importlib import import_module

from ...errors import ConfigError
from ...spec import DataSpec
from .base import FinishedMap, ItemFields, Layer, MapContext, OutputOptions, Product
from .classes import ClassMap, LegacyClassMap
from .polygons import Polygons
from .probabilities import Confidence, Probabilities
from .quicklook import Quicklook
from .rasters import RasterProduct
from .stac import StacItem
from .values import ValueMap

__all__ = [
    "DEFAULTS",
    "PRODUCTS",
    "FinishedMap",
    "ItemFields",
    "Layer",
    "MapContext",
    "OutputOptions",
    "Product",
    "RasterProduct",
    "select_products",
]

#: Name -> product, in the order in which they are finished.
PRODUCTS: dict[str, type[Product]] = {
    product.name: product
    for product in (
        ClassMap,
        LegacyClassMap,
        ValueMap,
        Probabilities,
        Confidence,
        Polygons,
        Quicklook,
        StacItem,
    )
}

#: Kind of target and profile -> products that every map has: the one that writes the map itself first, and what
#: describes all of them last.
DEFAULTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("classes", "cog"): ("classes", "item"),
    ("classes", "legacy"): ("legacy_classes",),
    ("values", "cog"): ("values", "item"),
}


def select_products(spec: DataSpec, options: OutputOptions) -> list[Product]:
    """The products of each map, not begun: those that its target has by default, and those that are asked for.

    Raises:
        ConfigError: No map is made of the target, a product is unknown, or one does not fit the target.
    """
    kind = spec.target.kind
    if (kind, options.profile) not in DEFAULTS:
        profiles = [profile for known, profile in DEFAULTS if known == kind]
        if profiles:
            raise ConfigError(
                f"profile: {options.profile!r} has no map of {kind}; use {' or '.join(profiles)}"
            )
        raise ConfigError(f"target: no map can be made of {kind}; a model of pixels is needed")
    main, *others = DEFAULTS[kind, options.profile]
    asked_for = [product for product in PRODUCTS.values() if product.is_asked_for(options)]
    wanted = [PRODUCTS[main], *asked_for, *map(find_product, options.products)]
    chosen: dict[str, Product] = {}
    for one in [*wanted, *(PRODUCTS[name] for name in others)]:
        product = one() if isinstance(one, type) else copy.copy(one)
        if not isinstance(spec.target, product.targets):
            raise ConfigError(
                f"{product.name}: cannot be made of {kind}, which the model gives ({', '.join(spec.target.names[:3])})"
            )
        product.check(spec, options)
        chosen.setdefault(product.name, product)
    # Asked for by name or not, what describes the others comes last.
    return [
        *(product for name, product in chosen.items() if name not in others),
        *map(chosen.__getitem__, others),
    ]


def find_product(product: str | type[Product] | Product) -> type[Product] | Product:
    """A product by its name in the table, by a class path, or as it is.

    Raises:
        ConfigError: There is none of that name.
    """
    if not isinstance(product, str):
        return product
    if product in PRODUCTS:
        return PRODUCTS[product]
    module, _, name = product.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"products: {product!r} is unknown; known are {', '.join(PRODUCTS)}, and class paths such as "
            "my_module.MyProduct"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Product)):
        raise ConfigError(f"products: {product} is not a subclass of prithvi_tg.mapping.products.Product")
    return found
