"""Computes how much memory the tensors of a checkpoint take once they are loaded. No torch.

It follows what the transformers library does when it loads them: floating-point numbers are
converted to the data type that the model computes in, except in quantised layers. All else stays as
it is stored.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_UNQUANTISED = {"F64", "F32", "F16", "BF16"}
"""The data types, as safetensors names them, that no quantised weight is stored in."""
_FP8_CAPABILITY = (8, 9)
"""The first GPUs for which the library leaves weights in FP8; for others it converts them."""


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the header of its file describes it."""

    dtype: str
    elements: int
    stored_bytes: int


def loaded_bytes(
    shards: Iterable[Path],
    config: Mapping[str, Any],
    *,
    bytes_per_number: int,
    gpu_capability: tuple[int, int] | None,
    packs_output: bool,
) -> int:
    """Returns the bytes that a checkpoint's tensors take in the loaded model.

    shards: its safetensors files. config: what its `config.json` holds.
    bytes_per_number: of the data type that the model computes in.
    gpu_capability: CUDA's compute capability; None on the CPU.
    packs_output: whether the output projection is packed. One that is the embedding is then in
        memory twice, as packed weights cannot be looked up.
    """
    tensors = {name: tensor for shard in shards for name, tensor in _header(shard).items()}
    quantised = _quantised_layers(tensors) if _stays_quantised(config, gpu_capability) else set()
    sizes = {
        name: tensor.elements * bytes_per_number
        if _is_float(tensor) and _layer(name) not in quantised
        else tensor.stored_bytes
        for name, tensor in tensors.items()
    }
    total = sum(sizes.values())
    if packs_output and not any(name.endswith("lm_head.weight") for name in sizes):
        total += sum(size for name, size in sizes.items() if name.endswith("embed_tokens.weight"))
    return total


def _stays_quantised(config: Mapping[str, Any], gpu_capability: tuple[int, int] | None) -> bool:
    """Returns whether the checkpoint has quantised weights, and the library leaves them so."""
    text_config = config.get("text_config")
    quantisation = config.get("quantization_config") or (
        text_config.get("quantization_config") if isinstance(text_config, dict) else None
    )
    if not isinstance(quantisation, dict):
        return False
    if quantisation.get("quant_method") != "fp8":
        return True
    computes_in_fp8 = gpu_capability is not None and gpu_capability >= _FP8_CAPABILITY
    return computes_in_fp8 and not quantisation.get("dequantize")


def _header(shard: Path) -> dict[str, _Tensor]:
    """Returns the tensors of a file by name.

    The safetensors library does not tell how many bytes a tensor has in the file, which is needed
    for data types that are not known here. The format of the header:
    https://huggingface.co/docs/safetensors/index#format.
    """
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        name: _Tensor(
            dtype=entry["dtype"],
            elements=math.prod(entry["shape"]),
            stored_bytes=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }


def _quantised_layers(tensors: Mapping[str, _Tensor]) -> set[str]:
    """Returns the layers that hold quantised tensors; their scales stay as they are stored, too.

    A scale is a tensor of the layer, or has the name of the weight before its own
    (`q_proj.weight.absmax`). So a quantised weight counts as a layer.
    """
    quantised = {name for name, tensor in tensors.items() if tensor.dtype not in _UNQUANTISED}
    return quantised | {_layer(name) for name in quantised}


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _is_float(tensor: _Tensor) -> bool:
    return tensor.dtype.startswith(("F", "BF"))
