"""Write a model in other formats; each file is run and compared with its source first."""

from lenet.export.export import FORMATS, ExportRecord, export_model
from lenet.export.parity import Parity, Settings

__all__ = ["FORMATS", "ExportRecord", "Parity", "Settings", "export_model"]
