"""Tells how a checkpoint is quantised, and which packages its layers need. Imports no torch."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from common.catalog import Entry
from settings import Settings

_FP8_CAPABILITY = (8, 9)
"""The first GPUs for which the library leaves weights in FP8; for others it converts them."""
_BITSANDBYTES_FLAGS = ("load_in_8bit", "load_in_4bit")
"""What older configs of bitsandbytes have instead of the name of the method."""
PACKAGES: dict[str, tuple[str, ...]] = {
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "fp8": ("kernels",),
    "gptq": ("optimum", "gptqmodel"),
    "torchao": ("torchao",),
}
"""The packages that each method needs, by the name that a config has for the method."""
DECODER_PROJECTION = r"\blayers\.\d+\.(?:self_attn|mlp)\.(?:q|k|v|o|gate|up|down)_proj\b"
"""Matches the names of the weights that `CHATVLM_QUANTIZE` quantises. The blocks of a vision tower
have other names."""
QUANTISES = "bitsandbytes"
"""The method of `CHATVLM_QUANTIZE`."""
DECODED = {"compressed-tensors"}
"""Methods whose weights are decoded while they are loaded, on every device: the library has no
layers that compute with them."""


def quantisation_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `quantization_config` of a checkpoint, from what its `config.json` holds."""
    text_config = config.get("text_config")
    found = config.get("quantization_config") or (
        text_config.get("quantization_config") if isinstance(text_config, dict) else None
    )
    return found if isinstance(found, dict) else None


def method_of(quantisation: Mapping[str, Any]) -> str:
    """The name of the method, such as "awq"."""
    if any(quantisation.get(flag) for flag in _BITSANDBYTES_FLAGS):
        return "bitsandbytes"
    return str(quantisation.get("quant_method"))


def stays_quantised(config: Mapping[str, Any], gpu_capability: tuple[int, int] | None) -> bool:
    """Whether the checkpoint has quantised weights, and the library leaves them so."""
    quantisation = quantisation_of(config)
    if quantisation is None or quantisation.get("dequantize"):
        return False
    method = method_of(quantisation)
    if method != "fp8":
        return method not in DECODED
    return gpu_capability is not None and gpu_capability >= _FP8_CAPABILITY


def why_not_loadable(
    entry: Entry,
    config: Mapping[str, Any],
    settings: Settings,
    gpu_capability: tuple[int, int] | None,
) -> str | None:
    """Why quantised layers cannot run here, in a sentence; None if they can, or if there are none.

    config: what the checkpoint's `config.json` holds.
    """
    quantisation = quantisation_of(config)
    if quantisation is None:
        if settings.quantize is None:
            return None
        return _missing_packages(f"CHATVLM_QUANTIZE={settings.quantize}", QUANTISES)
    method = method_of(quantisation)
    if method not in PACKAGES:
        return (
            f"The weights of {entry.name} are quantised with the method '{method}', which is not "
            f"supported; supported are {', '.join(sorted(PACKAGES))}."
        )
    if method == "fp8" and not stays_quantised(config, gpu_capability):
        return None  # they are converted
    return _missing_packages(f"The weights of {entry.name} are quantised ({method}), which", method)


def bits_of(quantisation: Mapping[str, Any]) -> int:
    """Bits of a packed weight of compressed-tensors."""
    groups = quantisation.get("config_groups") or {}
    return next((int(group["weights"]["num_bits"]) for group in groups.values()), 8)


def _missing_packages(what: str, method: str) -> str | None:
    """A sentence that names the packages of a method that are not installed; None if all are.

    what: the beginning of the sentence.
    """
    missing = [name for name in PACKAGES[method] if find_spec(name.replace("-", "_")) is None]
    if not missing:
        return None
    listed = " and ".join(f"'{name}'" for name in missing)
    packages = "the package" if len(missing) == 1 else "the packages"
    return f"{what} needs {packages} {listed}: pip install {' '.join(missing)}."
