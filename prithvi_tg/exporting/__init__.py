"""Models out: exported programs, ONNX, weights, the items that describe them, and repositories of the hub."""

from .card import CardText, model_card
from .formats import EXPORT_FORMATS, ExportFormat, export_model, item_path
from .pushing import push, write_folder

__all__ = [
    "EXPORT_FORMATS",
    "CardText",
    "ExportFormat",
    "export_model",
    "item_path",
    "model_card",
    "push",
    "write_folder",
]
