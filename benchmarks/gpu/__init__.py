"""Checks and measures the engine on a GPU; `benchmarks/gpu/__main__.py` describes its parts."""
