"""The table of products of a map, and the default products of each kind of target."""

import copy

from ...class_paths import find_class
from ...errors import ConfigError
from ...spec import DataSpec
from ..blending import BlendedRows
from .base import FinishedMap, ItemFields, Layer, MapContext, OutputOptions, Product
from .classes import ClassMap, LegacyClassMap
from .embeddings import Embeddings, PrincipalComponents
from .polygons import Polygons
from .probabilities import Confidence, Probabilities
from .quicklook import Quicklook
from .rasters import RasterProduct, filled
from .stac import StacItem
from .uncertainty import Entropy, Margin, Spread
from .values import ValueMap

__all__ = [
    "DEFAULTS",
    "PRODUCTS",
    "BlendedRows",
    "FinishedMap",
    "ItemFields",
    "Layer",
    "MapContext",
    "OutputOptions",
    "Product",
    "RasterProduct",
    "filled",
    "find_product",
    "select_products",
]

#: Name -> product, in the order in which `Product.finish` is called.
PRODUCTS: dict[str, type[Product]] = {
    product.name: product
    for product in (
        ClassMap,
        LegacyClassMap,
        ValueMap,
        Embeddings,
        Probabilities,
        Confidence,
        Entropy,
        Margin,
        Spread,
        Polygons,
        Quicklook,
        PrincipalComponents,
        StacItem,
    )
}

#: Kind of target and profile -> products that every map has: the one that writes the map itself first, and what
#: describes all of them last.
DEFAULTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("classes", "cog"): ("classes", "item"),
    ("classes", "legacy"): ("legacy_classes",),
    ("values", "cog"): ("values", "item"),
    ("tokens", "cog"): ("embeddings", "item"),
}


#: Kind of target without maps -> why there is none, and what is needed for one.
_NEEDED = {
    "images": "ckpt_path: the checkpoint comes from pretrain and cannot make maps; fine-tune it first: "
    "prithvi-tg fit --config FILE --model.weights CHECKPOINT"
}


def select_products(spec: DataSpec, options: OutputOptions) -> list[Product]:
    """The products of each map: the defaults of its target, and the requested ones.

    Raises:
        ConfigError: The target has no map, a product is unknown or does not support the target, or an
            option has no effect.
    """
    kind = spec.target.kind
    if (kind, options.profile) not in DEFAULTS:
        profiles = [profile for known, profile in DEFAULTS if known == kind]
        if profiles:
            raise ConfigError(
                f"profile: {options.profile!r} has no map of {kind}; use {' or '.join(profiles)}"
            )
        raise ConfigError(
            _NEEDED.get(kind, f"target: no map can be made of {kind}; a per-pixel model is needed")
        )
    main, *others = DEFAULTS[kind, options.profile]
    asked_for = [product for product in PRODUCTS.values() if product.is_asked_for(options)]
    wanted = [PRODUCTS[main], *asked_for, *(find_product(product) for product in options.products)]
    chosen: dict[str, Product] = {}
    for one in [*(PRODUCTS[name] for name in others), *wanted]:
        product = one() if isinstance(one, type) else copy.copy(one)  # each map has its own instance
        if not isinstance(getattr(product, "name", None), str):
            raise ConfigError(
                f"products: {type(product).__qualname__} has no name, its name in the table of products"
            )
        product.check(spec, options)
        chosen[product.name] = product  # a given product replaces a default
    for name, product_class in PRODUCTS.items():
        for key in () if name in chosen else product_class.own_options:
            if getattr(options, key) != getattr(OutputOptions, key):
                raise ConfigError(f"{key}: has no effect without {product_class.option or name}")
    # Products that describe the others come last, whether requested by name or not.
    return [
        *(product for name, product in chosen.items() if name not in others),
        *map(chosen.__getitem__, others),
    ]


def find_product(product: str | type[Product] | Product) -> type[Product] | Product:
    """The product of a name in `PRODUCTS` or of a class path; any other is returned as it is.

    Raises:
        ConfigError: The name is unknown, or the class is not a product.
    """
    return find_class("products", product, PRODUCTS, Product) if isinstance(product, str) else product
