"""Computes how much memory the tensors of a checkpoint take once they are loaded. No torch.

It follows what the transformers library does when it loads them: floating-point numbers are
converted to the data type that the model computes in, except in quantised layers. All else stays as
it is stored.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runners.checkpoints.quantisation import (
    DECODED,
    DECODER_PROJECTION,
    bits_of,
    method_of,
    quantisation_of,
    stays_quantised,
)

_UNQUANTISED = {"F64", "F32", "F16", "BF16"}
"""The data types, as safetensors names them, that no quantised weight is stored in."""
_BLOCK = 64
"""Numbers that share a scale where bitsandbytes quantises to 4 bits."""
_PACKED = "weight_packed"
_DECODED_WITH = ("_scale", "_zero_point", "_shape", "_g_idx")
"""Ends of the names of what compressed-tensors stores beside a weight to decode it."""


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the header of its file describes it."""

    dtype: str
    rows: int
    elements: int
    stored_bytes: int


def loaded_bytes(
    shards: Iterable[Path],
    config: Mapping[str, Any],
    *,
    bytes_per_number: int,
    gpu_capability: tuple[int, int] | None,
    packs_output: bool,
    quantize: Literal["int8", "int4"] | None = None,
) -> int:
    """Returns the bytes that a checkpoint's tensors take in the loaded model.

    shards: its safetensors files. config: what its `config.json` holds.
    bytes_per_number: of the data type that the model computes in.
    gpu_capability: CUDA's compute capability; None on the CPU.
    packs_output: whether the output projection is packed. One that is the embedding is then in
        memory twice, as packed weights cannot be looked up.
    quantize: what `CHATVLM_QUANTIZE` makes of the decoder's weights, unless they are quantised.
    """
    tensors = {name: tensor for shard in shards for name, tensor in _header(shard).items()}
    quantisation = quantisation_of(config)
    if quantisation is not None and method_of(quantisation) in DECODED:
        tensors = _decoded(tensors, bits_of(quantisation))
    quantised = _quantised_layers(tensors) if stays_quantised(config, gpu_capability) else set()
    sizes = {
        name: tensor.elements * bytes_per_number
        if _is_float(tensor) and _layer(name) not in quantised
        else tensor.stored_bytes
        for name, tensor in tensors.items()
    }
    if quantize is not None and quantisation is None:
        sizes |= {
            name: _quantised_bytes(tensor, quantize)
            for name, tensor in tensors.items()
            if re.search(rf"{DECODER_PROJECTION}\.weight$", name)
        }
    total = sum(sizes.values())
    if packs_output and not any(name.endswith("lm_head.weight") for name in sizes):
        total += sum(size for name, size in sizes.items() if name.endswith("embed_tokens.weight"))
    return total


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
            rows=entry["shape"][0] if entry["shape"] else 1,
            elements=math.prod(entry["shape"]),
            stored_bytes=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }


def _quantised_bytes(tensor: _Tensor, quantize: Literal["int8", "int4"]) -> int:
    """Bytes of a weight that bitsandbytes quantises, with its scales in float32."""
    if quantize == "int8":
        return tensor.elements + 4 * tensor.rows
    return tensor.elements // 2 + 4 * -(-tensor.elements // _BLOCK)


def _decoded(tensors: Mapping[str, _Tensor], bits: int) -> dict[str, _Tensor]:
    """The tensors as compressed-tensors decodes them. bits: of each number of a packed weight."""
    decoded = {}
    for name, tensor in tensors.items():
        end = name.rpartition(".")[2]
        if end == _PACKED:
            count = tensor.stored_bytes * 8 // bits
            decoded[f"{_layer(name)}.weight"] = replace(tensor, dtype="BF16", elements=count)
        elif end == "weight":
            decoded[name] = replace(tensor, dtype="BF16")
        elif not end.endswith(_DECODED_WITH):
            decoded[name] = tensor
    return decoded


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
