"""Finds the weights of a model, in `CHATVLM_WEIGHTS` or the hub's cache, and downloads them.

Imports no torch.
"""

import json
import logging
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import is_offline_mode, snapshot_download, try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from tqdm import tqdm  # type: ignore[import-untyped]

from common import devices
from common.catalog import Entry, is_built_in
from common.failures import ErrorCode, Refusal
from common.units import GIB
from runners.checkpoints.dtype import is_float32
from runners.checkpoints.footprint import loaded_bytes
from runners.checkpoints.quantisation import why_not_loadable
from settings import Settings

logger = logging.getLogger(__name__)

PATTERNS = ["*.json", "*.jinja", "*.txt", "*.safetensors"]
_INDEX = "model.safetensors.index.json"
_LOG_INTERVAL = 10.0
"""Seconds between two lines of a download's progress."""
_REQUIRED_FILES = (
    ("config.json",),
    ("tokenizer.json", "vocab.json"),
    ("preprocessor_config.json", "processor_config.json"),
    ("model.safetensors", _INDEX),
)
"""A complete folder has at least one file of each group."""


def why_unavailable(entry: Entry, settings: Settings) -> str | None:
    """Returns why the weights cannot be loaded, in one or two sentences; None if they can.

    It looks at this machine only: weights that may be downloaded count as available.
    """
    if find_spec("torch") is None:
        return f"{entry.name} needs PyTorch, which this installation of the service leaves out."
    folder = find_folder(entry, settings)
    if folder is None:
        return _absent_message(entry) if _is_out_of_reach(entry) else None
    reason = why_incomplete(folder)
    if reason is None:
        return _why_not_loadable(entry, settings, folder)
    can_be_repaired = _own_folder(entry, settings) is None and not is_offline_mode()
    return None if can_be_repaired else _incomplete_message(entry, reason)


def memory_bytes(entry: Entry, settings: Settings) -> int:
    """Returns the bytes that the loaded model needs.

    If the weights are not on this machine, the size comes from the catalog.
    """
    on_gpu = devices.gpu_name() is not None
    bytes_per_number = 4 if is_float32(settings, on_gpu) else 2
    folder = find_folder(entry, settings)
    if folder is None or why_incomplete(folder):
        return int(entry.weights_gib * GIB / 2) * bytes_per_number
    return loaded_bytes(
        _shards(folder),
        config_of(folder),
        bytes_per_number=bytes_per_number,
        gpu_capability=devices.gpu_capability(),
        # The CPU has no packed products in float16.
        packs_output=not on_gpu and settings.dtype != "float16",
        quantize=settings.quantize,
    )


def fetch(entry: Entry, settings: Settings) -> Path:
    """Returns the folder of the complete weights, downloaded if they are not here. Blocks.

    Raises `Refusal` (UNAVAILABLE) if they are broken, if they cannot be downloaded, or if they are
    quantised and a package that their layers need is not installed.
    """
    folder = find_folder(entry, settings)
    found = _absent_message(entry)
    if folder is not None:
        reason = why_incomplete(folder)
        if reason is None:
            return _checked(entry, settings, folder)
        found = _incomplete_message(entry, reason)
        if _own_folder(entry, settings) is not None:
            raise Refusal(ErrorCode.UNAVAILABLE, found)
    if entry.repository is None:
        raise Refusal(ErrorCode.UNAVAILABLE, found)
    size = f", about {entry.weights_gib:.1f} GiB" if entry.weights_gib else ""
    logger.info("Downloading %s%s", entry.repository, size)
    try:
        folder = Path(
            snapshot_download(
                entry.repository,
                revision=entry.revision,
                allow_patterns=PATTERNS,
                tqdm_class=LoggedProgress,
            )
        )
    except Exception as error:  # the hub's errors, the network's, the disk's
        logger.warning("%s could not be downloaded: %r", entry.repository, error)
        raise Refusal(ErrorCode.UNAVAILABLE, found) from error
    if reason := why_incomplete(folder):
        raise Refusal(ErrorCode.UNAVAILABLE, _incomplete_message(entry, reason))
    logger.info("Downloaded %s", entry.repository)
    return _checked(entry, settings, folder)


def remedy(entry: Entry) -> str:
    """Returns the sentence that says where to put the weights."""
    files = f"the files of {entry.repository}" if entry.repository else "the model's files"
    return f"Put {files} into {_place(entry)}."


class LoggedProgress(tqdm):
    """Logs the progress of a download, as a service has no terminal for a progress bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("name", None)  # the hub's own class takes it
        self._next_line = 0.0
        super().__init__(*args, **kwargs)

    def display(self, *_: object, **__: object) -> None:
        if self.unit == "B" and self.n and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LOG_INTERVAL
            logger.info("Downloaded %.2f of %.2f GiB", self.n / GIB, (self.total or 0) / GIB)


def find_folder(entry: Entry, settings: Settings) -> Path | None:
    """Returns the folder on this machine that holds the weights, whole or not; None if none.

    In the hub's cache, another revision than the pinned one of a built-in model will do, but not
    another than the one that a catalog file names.
    """
    own = _own_folder(entry, settings)
    if own is not None or entry.repository is None:
        return own
    for revision in (entry.revision, None) if is_built_in(entry.id) else (entry.revision,):
        config = try_to_load_from_cache(entry.repository, "config.json", revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    return None


def _own_folder(entry: Entry, settings: Settings) -> Path | None:
    """Returns the folder that the operator has filled, in contrast to the hub's cache.

    The hub can repair its cache.
    """
    folders = [entry.folder, settings.weights / entry.id if settings.weights else None]
    return next((folder for folder in folders if folder is not None and folder.is_dir()), None)


def why_incomplete(folder: Path) -> str | None:
    """Returns what is wrong with a folder of weights, by its files' names and headers, or None."""
    for names in _REQUIRED_FILES:
        if not any((folder / name).is_file() for name in names):
            return f"{' or '.join(names)} is missing"
    try:
        config_of(folder)["model_type"]
        shards = _shards(folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "its config or index is not the JSON it should be"
    for shard in shards:
        try:
            with safe_open(shard, framework="np"):
                pass
        except FileNotFoundError:
            return f"{shard.name} is missing"
        except (OSError, SafetensorError):
            return f"{shard.name} is cut off or damaged"
    return None


def _checked(entry: Entry, settings: Settings, folder: Path) -> Path:
    """Returns a complete folder. Raises `Refusal` if its layers cannot run here."""
    if reason := _why_not_loadable(entry, settings, folder):
        raise Refusal(ErrorCode.UNAVAILABLE, reason)
    return folder


def _why_not_loadable(entry: Entry, settings: Settings, folder: Path) -> str | None:
    return why_not_loadable(entry, config_of(folder), settings, devices.gpu_capability())


def config_of(folder: Path) -> dict[str, Any]:
    """What the `config.json` of a complete folder holds."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return config


def _shards(folder: Path) -> list[Path]:
    """Returns the files that the loader reads: the one file, or those that the index names."""
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    index = json.loads((folder / _INDEX).read_text("utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]


def _incomplete_message(entry: Entry, reason: str) -> str:
    return f"The weights of {entry.name} are incomplete: {reason}. {remedy(entry)}"


def _absent_message(entry: Entry) -> str:
    if entry.repository is None:
        return f"The weights of {entry.name} are not here. {remedy(entry)}"
    return (
        f"The weights of {entry.name} are not here, and {entry.repository} cannot be reached. "
        f"Allow access to the Hugging Face hub, or put the model's files into {_place(entry)}."
    )


def _is_out_of_reach(entry: Entry) -> bool:
    return entry.repository is None or is_offline_mode()


def _place(entry: Entry) -> str:
    """Where an operator puts the weights, without a path of this machine."""
    if entry.folder is not None:
        return "the folder that CHATVLM_CATALOG names for it"
    return f"CHATVLM_WEIGHTS/{entry.id}"
