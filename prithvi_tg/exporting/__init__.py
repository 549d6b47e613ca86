"""Models out: exported programs, ONNX, weights, and the items that describe them."""

from .formats import EXPORT_FORMATS, ExportFormat, export_model

__all__ = ["EXPORT_FORMATS", "ExportFormat", "export_model"]
