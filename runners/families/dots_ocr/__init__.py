"""The dots.ocr family; a folder, because the transformers library has no class for its model."""

from runners.families.dots_ocr.family import load

__all__ = ["load"]
