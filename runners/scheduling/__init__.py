"""Decides which rows run, with which blocks of the KV cache. Imports no torch.

It knows rows, blocks, tokens and time; no image, no HTTP, no family, no device. `runners.vlm` runs
what it decides.
"""
