"""Words that options accept, apart from the modules that use them: a parser is built without importing PyTorch."""

from typing import Literal

#: How to blend overlapping windows: ``average`` takes the mean of their logits, ``hann`` weights it by a Hann window,
#: with less weight at the edges of a window, and ``crop`` uses only the core of each window.
Blending = Literal["average", "hann", "crop"]
#: Batch size or number of workers that suits the device.
Auto = Literal["auto"]
#: Precision of a model, by Lightning's names.
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
#: When a pixel of the map is nodata: ``all`` bands of the model lack data, ``any`` of them does, or ``legacy``, as in
#: hls-foundation-os: any band of the file, used or not, equals the file's nodata tag.
NodataRule = Literal["all", "any", "legacy"]
#: Classes that a quality layer can mask.
QualityClass = Literal["cloud", "adjacent", "shadow", "snow", "cirrus", "water"]
#: ``cog``, or ``legacy``, the files of hls-foundation-os.
Profile = Literal["cog", "legacy"]
#: Type of stored probabilities: ``uint8`` with 0 to 250 for 0 to 1 and a scale tag, or floats of 32 or 16 bits.
ProbabilityType = Literal["uint8", "float32", "float16"]
#: Type of stored features: ``float16``, ``float32``, or ``int8`` with a scale per band.
EmbeddingType = Literal["float16", "float32", "int8"]
#: Formats of polygons: GeoPackage and GeoParquet.
VectorFormat = Literal["gpkg", "parquet"]
#: Names of `prithvi_tg.readers.SCENE_FORMATS`.
SceneFormatName = Literal["raster", "safe", "hls", "stac"]
#: Views of a window that a model runs on: ``d4``, the eight flips and rotations of a square.
Tta = Literal["d4"]
#: Layouts of synthetic data.
Layout = Literal[
    "sen1floods11", "hls_burn_scars", "multi_temporal_crop", "classified_chips", "biomass", "change"
]
