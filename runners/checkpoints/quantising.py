"""What the transformers library is told about quantised weights, and about those to quantise."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, CompressedTensorsConfig

from runners.checkpoints.quantisation import (
    DECODED,
    DECODER_PROJECTION,
    method_of,
    quantisation_of,
)
from settings import Settings

_ALL_BUT_PROJECTIONS = rf"(?!.*{DECODER_PROJECTION}).*"
"""Matches the names of all modules that stay as they are."""
_IN_FLOAT16 = {"awq", "gptq"}
"""Methods whose kernels for GPUs compute in float16."""


def computing_dtype(config: Mapping[str, Any], dtype: torch.dtype, on_gpu: bool) -> torch.dtype:
    """The data type that a model computes in, where the kernels of its method leave no choice.

    config: what the checkpoint's `config.json` holds. dtype: that of an unquantised model.
    """
    quantisation = quantisation_of(config)
    if on_gpu and quantisation is not None and method_of(quantisation) in _IN_FLOAT16:
        return torch.float16
    return dtype


def quantisation_arguments(
    config: Mapping[str, Any], settings: Settings, dtype: torch.dtype
) -> dict[str, Any]:
    """Further arguments of `from_pretrained`. A checkpoint that is quantised stays as it is.

    config: what the checkpoint's `config.json` holds. dtype: that the model computes in.
    """
    # It would log a line at every product of a model in bfloat16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    quantisation = quantisation_of(config)
    if quantisation is not None:
        if method_of(quantisation) in DECODED:
            return {"quantization_config": CompressedTensorsConfig(dequantize=True)}
        return {}
    match settings.quantize:
        case "int8":
            how = BitsAndBytesConfig(
                load_in_8bit=True, llm_int8_skip_modules=[_ALL_BUT_PROJECTIONS]
            )
        case "int4":
            how = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=dtype,
                llm_int8_skip_modules=[_ALL_BUT_PROJECTIONS],
            )
        case None:
            return {}
    return {"quantization_config": how}


def convert_plain_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Converts the numbers of all modules that hold nothing quantised.

    The library leaves those of a quantised checkpoint in the data type in which they are stored.
    """
    for module in model.modules():
        parameters = list(module.parameters(recurse=False))
        if all(_is_plain(parameter) for parameter in parameters):
            for parameter in parameters:
                parameter.data = parameter.data.to(dtype)


def _is_plain(parameter: nn.Parameter) -> bool:
    """Whether it is an ordinary tensor of numbers of 16 bits or more."""
    ordinary = type(parameter) is nn.Parameter and type(parameter.data) is torch.Tensor
    return ordinary and parameter.is_floating_point() and parameter.itemsize > 1


def stored_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The ordinary tensors in which the numbers of a tensor, quantised or not, are stored."""
    if hasattr(tensor, "__tensor_flatten__"):  # torchao's
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from stored_parts(getattr(tensor, name))
        return
    yield tensor
    # bitsandbytes keeps the scales of a weight beside it: of 4 bits, and of 8 bits.
    scales = [getattr(getattr(tensor, "quant_state", None), "absmax", None)]
    scales.append(getattr(tensor, "SCB", None))
    yield from (scale for scale in scales if scale is not None)
