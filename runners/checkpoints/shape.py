"""Computes from a checkpoint's config how much of the KV cache one page takes. Imports no torch."""

from collections.abc import Mapping
from typing import Any

ANSWER = 2048
"""Tokens of a long answer."""
_TOKENS_OF_TILES = 7 * 256
"""Visual tokens of a large page in GOT-OCR 2.0, six tiles and the whole; its config does not say
them."""


def kv_token_bytes(config: Mapping[str, Any], bytes_per_number: int) -> int:
    """Bytes of the keys and values of one token. config: what a `config.json` holds."""
    text = config.get("text_config") or config
    heads = text["num_attention_heads"]
    size = text.get("head_dim") or text["hidden_size"] // heads
    kv_heads = text.get("num_key_value_heads") or heads
    return int(2 * text["num_hidden_layers"] * kv_heads * size * bytes_per_number)


def page_tokens(config: Mapping[str, Any], max_pixels: int) -> int:
    """Visual tokens of a page of so many pixels."""
    vision = config["vision_config"]
    if "spatial_merge_size" not in vision:
        return _TOKENS_OF_TILES
    side = vision.get("patch_size", 14) * vision["spatial_merge_size"]
    return int(max_pixels // side**2)


def kv_page_bytes(config: Mapping[str, Any], max_pixels: int, bytes_per_number: int) -> int:
    """Bytes that a page of so many pixels and a long answer take in the KV cache."""
    tokens = page_tokens(config, max_pixels) + ANSWER
    return tokens * kv_token_bytes(config, bytes_per_number)
