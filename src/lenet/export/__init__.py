"""Take a model elsewhere: other formats, each compared with its source before it is kept."""

from lenet.export.artifact import Exporter, Settings
from lenet.export.export import EXPORTERS, ExportRecord, export_model
from lenet.export.parity import Parity

__all__ = ["EXPORTERS", "ExportRecord", "Exporter", "Parity", "Settings", "export_model"]
