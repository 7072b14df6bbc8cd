"""Checkpoints whose weights are quantised, as the libraries of each method write them."""

import json
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import load_file, save_file
from torchao.quantization import Int8WeightOnlyConfig
from transformers import (
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    TorchAoConfig,
)

KEPT = ["model.visual", "lm_head"]
_BY_LIBRARY = {
    "bitsandbytes int8": lambda: BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT),
    "bitsandbytes nf4": lambda: BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=KEPT
    ),
    "torchao int8": lambda: TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=KEPT),
}
_SCHEMES = {
    "compressed-tensors int4": ("pack-quantized", {"num_bits": 4, "strategy": "group"}),
    "compressed-tensors int8": ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
    "compressed-tensors fp8": (
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "channel"},
    ),
}
QUANTISED = [*_BY_LIBRARY, *_SCHEMES]
_GROUP = 32


def quantise(folder: Path, how: str) -> None:
    """Quantises the language model's projections of a checkpoint in place."""
    if how in _BY_LIBRARY:
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.bfloat16, quantization_config=_BY_LIBRARY[how]()
        )
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder)
        return
    file, (format, arguments) = folder / "model.safetensors", _SCHEMES[how]
    weights = QuantizationArgs(
        **arguments, **({"group_size": _GROUP} if arguments["strategy"] == "group" else {})
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, format=format)
    tensors = {}
    for name, tensor in load_file(file).items():
        if name.endswith("_proj.weight") and "visual" not in name:
            layer = name.removesuffix(".weight")
            scale = _scale(tensor, weights)
            state = BaseCompressor.get_value_from_registry(format).compress(
                {"weight": tensor, "weight_scale": scale}, scheme
            )
            tensors |= {f"{layer}.{part}": value.contiguous() for part, value in state.items()}
        else:
            tensors[name] = tensor
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": weights.model_dump(mode="json")}
        },
        "ignore": ["lm_head", "re:.*visual.*"],
    }
    (folder / "config.json").write_text(json.dumps(config))


def _scale(weight: torch.Tensor, arguments: QuantizationArgs) -> torch.Tensor:
    """Of each row, or of each group of a row."""
    largest = 448.0 if arguments.type == "float" else 2.0 ** (arguments.num_bits - 1) - 1
    groups = weight.unflatten(1, (-1, _GROUP)) if arguments.strategy == "group" else weight[:, None]
    return groups.abs().amax(-1) / largest
