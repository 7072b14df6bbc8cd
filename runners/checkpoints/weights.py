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
from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from common.units import GIB
from runners.checkpoints.dtype import is_float32
from runners.checkpoints.footprint import loaded_bytes
from settings import Settings

logger = logging.getLogger(__name__)

_PATTERNS = ["*.json", "*.jinja", "*.txt", "*.safetensors"]
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
    folder = _folder(entry, settings)
    if folder is None:
        return _absent_message(entry) if is_offline_mode() else None
    reason = _why_incomplete(folder)
    can_be_repaired = not _is_own(folder, settings) and not is_offline_mode()
    return None if reason is None or can_be_repaired else _incomplete_message(entry, reason)


def memory_bytes(entry: Entry, settings: Settings) -> int:
    """Returns the bytes that the loaded model needs.

    If the weights are not on this machine, the size comes from the catalog.
    """
    on_gpu = devices.gpu_name() is not None
    bytes_per_number = 4 if is_float32(settings, on_gpu) else 2
    folder = _folder(entry, settings)
    if folder is None or _why_incomplete(folder):
        return int(entry.weights_gib * GIB / 2) * bytes_per_number
    return loaded_bytes(
        _shards(folder),
        _config(folder),
        bytes_per_number=bytes_per_number,
        gpu_capability=devices.gpu_capability(),
        # The CPU has no packed products in float16.
        packs_output=not on_gpu and settings.dtype != "float16",
    )


def fetch(entry: Entry, settings: Settings) -> Path:
    """Returns the folder of the complete weights, downloaded if they are not here. Blocks.

    Raises `Refusal` (UNAVAILABLE) if they are broken, or if they cannot be downloaded.
    """
    folder = _folder(entry, settings)
    found = _absent_message(entry)
    if folder is not None:
        reason = _why_incomplete(folder)
        if reason is None:
            return folder
        found = _incomplete_message(entry, reason)
        if _is_own(folder, settings):
            raise Refusal(ErrorCode.UNAVAILABLE, found)
    logger.info("Downloading %s, about %.1f GiB", entry.repository, entry.weights_gib)
    try:
        folder = Path(
            snapshot_download(
                _repository(entry),
                revision=entry.revision,
                allow_patterns=_PATTERNS,
                tqdm_class=LoggedProgress,
            )
        )
    except Exception as error:  # the hub's errors, the network's, the disk's
        logger.warning("%s could not be downloaded: %r", entry.repository, error)
        raise Refusal(ErrorCode.UNAVAILABLE, found) from error
    if reason := _why_incomplete(folder):
        raise Refusal(ErrorCode.UNAVAILABLE, _incomplete_message(entry, reason))
    logger.info("Downloaded %s", entry.repository)
    return folder


def remedy(entry: Entry) -> str:
    """Returns the sentence that says where to put the weights."""
    return f"Put the files of {entry.repository} into CHATVLM_WEIGHTS/{entry.id}."


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


def _folder(entry: Entry, settings: Settings) -> Path | None:
    if settings.weights is not None and (settings.weights / entry.id).is_dir():
        return settings.weights / entry.id
    for revision in (entry.revision, None):  # a cache with another than the pinned one will do
        config = try_to_load_from_cache(_repository(entry), "config.json", revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    return None


def _repository(entry: Entry) -> str:
    assert entry.repository is not None, "a model without a repository has no weights to look for"
    return entry.repository


def _is_own(folder: Path, settings: Settings) -> bool:
    """Returns whether it is in `CHATVLM_WEIGHTS`, and not in the hub's cache.

    The hub can repair its cache.
    """
    return folder.parent == settings.weights


def _why_incomplete(folder: Path) -> str | None:
    """Returns what is wrong with a folder of weights, by its files' names and headers, or None."""
    for names in _REQUIRED_FILES:
        if not any((folder / name).is_file() for name in names):
            return f"{' or '.join(names)} is missing"
    try:
        _config(folder)["model_type"]
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


def _config(folder: Path) -> dict[str, Any]:
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
    return (
        f"The weights of {entry.name} are not here, and {entry.repository} cannot be reached. "
        f"Allow access to the Hugging Face hub, or put the model's files into "
        f"CHATVLM_WEIGHTS/{entry.id}."
    )
