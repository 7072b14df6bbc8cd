"""dots.ocr, which the transformers library has no class for."""

from runners.families.dots_ocr.family import load

__all__ = ["load"]
