"""Encoders in the formats of other tools. Each export is run, and compared with the encoder."""

from .exporting import FORMATS, LARGEST_DIFFERENCE, export

__all__ = ["FORMATS", "LARGEST_DIFFERENCE", "export"]
