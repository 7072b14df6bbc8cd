"""Tiny models and checkpoints, and rows for them."""
