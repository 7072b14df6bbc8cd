"""Loads a model and its processor from the files of a checkpoint."""

import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from runners import torch_errors, torch_threads
from runners.checkpoints import weights
from runners.checkpoints.dtype import is_float32
from runners.checkpoints.quantisation import quantisation_of
from runners.checkpoints.quantising import (
    computing_dtype,
    convert_plain_parameters,
    quantisation_arguments,
)
from settings import Settings

logger = logging.getLogger(__name__)

_SWITCH_INTERVAL = 0.001
"""Seconds after which Python's threads take turns while a model runs on a GPU."""

Classes = Mapping[str, tuple[type[PreTrainedModel], type[ProcessorMixin]]]
"""The classes of the model and the processor, by the `model_type` of the checkpoint's config."""


def _no_fault(processor: ProcessorMixin) -> str | None:
    return None


def load_checkpoint(
    entry: Entry,
    settings: Settings,
    classes: Classes,
    exact: bool = False,
    fault_of: Callable[[ProcessorMixin], str | None] = _no_fault,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Fetches the weights of an entry if they are not here, and loads them for inference. Blocks.

    exact: refuse not only weights that lack tensors of the model, but also those with more.
    fault_of: says what is wrong with the files of the processor; None if nothing is.

    Raises `Refusal`: UNAVAILABLE if the weights or the device are not there, or if the weights do
    not fit the model; OUT_OF_MEMORY if the device is too small.
    """
    torch_threads.use_all_cores()
    _turn_cudnn_attention_off()
    device_map = _device_map_arguments(entry, settings)
    folder = weights.fetch(entry, settings)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    kind = config["model_type"]
    on_gpu = bool(device_map)
    dtype = computing_dtype(config, _dtype(settings, on_gpu), on_gpu)
    if kind not in classes:
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"The weights found for {entry.name} are of another model ('{kind}'). "
            f"{weights.remedy(entry)}",
        )
    model_class, processor_class = classes[kind]
    try:
        processor = processor_class.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if fault := fault_of(processor):
            raise Refusal(
                ErrorCode.UNAVAILABLE,
                f"The files of {entry.name} do not fit: {fault}. {weights.remedy(entry)}",
            )
        model, report = model_class.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **device_map,
            **quantisation_arguments(config, settings, dtype),
        )
        if settings.quantize is not None or quantisation_of(config) is not None:
            convert_plain_parameters(model, dtype)
        model.eval().requires_grad_(False)
    except Refusal:
        raise
    except Exception as error:  # the library raises nearly anything on files that do not fit
        if torch_errors.is_out_of_memory(error):
            raise Refusal(
                ErrorCode.OUT_OF_MEMORY,
                f"The device has too little free memory to load {entry.name}.",
            ) from error
        logger.exception("Loading %s failed", entry.id)
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"The weights of {entry.name} could not be loaded: they are damaged or of another "
            f"version. {weights.remedy(entry)}",
        ) from error
    unfit = {"missing": report["missing_keys"]}
    if exact:
        unfit["unexpected"] = report["unexpected_keys"]
    if any(unfit.values()):
        logger.error("Tensors of %s: %s", entry.id, unfit)
        listed = "; ".join(f"{what}: {_first(keys)}" for what, keys in unfit.items() if keys)
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"The weights of {entry.name} do not fit the model ({listed}). {weights.remedy(entry)}",
        )
    _shorten_switch_interval(model.device)
    return model, processor


def _turn_cudnn_attention_off() -> None:
    """Makes GPUs use PyTorch's other kernels for attention.

    cuDNN builds a plan for every shape that it meets, and at every decode step the keys are one
    column longer: each step would cost a plan, which takes longer than the step. PyTorch prefers
    cuDNN on an H100 and later.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def _shorten_switch_interval(device: torch.device) -> None:
    """Gives the decode loop of a model on a GPU the interpreter sooner.

    The loop launches over a thousand kernels a step from Python. When it comes back from a launch
    while another thread (an encoder, the event loop) runs Python code, it waits for that thread's
    switch interval, by default five milliseconds, which is longer than a fast step. On a CPU the
    computation itself takes the time, and more switches would only cost some.
    """
    if device.type == "cuda":
        sys.setswitchinterval(_SWITCH_INTERVAL)


def _first(keys: Collection[str], count: int = 5) -> str:
    listed = ", ".join(sorted(keys)[:count])
    return listed if len(keys) <= count else f"{listed} and {len(keys) - count} more"


def _device_map_arguments(entry: Entry, settings: Settings) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` that place the model on GPUs; none for the CPU.

    Raises `Refusal` (UNAVAILABLE) if a GPU is not there.
    """
    gpus = settings.gpus_of(entry.id)
    count = torch.cuda.device_count()
    if max(gpus) >= count:
        if entry.id not in settings.devices:
            return {}
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"CHATVLM_DEVICES places {entry.name} on GPU {max(gpus)}, but this machine has "
            f"{count or 'none'}; GPUs count from 0.",
        )
    if len(gpus) == 1:
        return {"device_map": {"": gpus[0]}}
    free = {gpu: torch.cuda.mem_get_info(gpu)[0] for gpu in gpus}
    return {"device_map": "auto", "max_memory": free}


def _dtype(settings: Settings, on_gpu: bool) -> torch.dtype:
    if is_float32(settings, on_gpu):
        return torch.float32
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    if on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
