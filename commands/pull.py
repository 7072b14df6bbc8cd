"""Fetches the weights of a model from the Hugging Face hub, and compares them with the hub's."""

import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from common.catalog import Entry
from common.failures import ErrorCode, Refusal
from runners.checkpoints.weights import PATTERNS, why_incomplete


def pull(entry: Entry, to: Path | None) -> Path:
    """Fetches what is missing or differs, with progress bars. Returns the folder of the weights.

    to: the folder of a folder per model id; None for the hub's cache.

    Raises `Refusal` (UNAVAILABLE) if they cannot be fetched, or differ from the hub's afterwards.
    """
    assert entry.repository is not None, "a model without a repository cannot be fetched"
    own = None if to is None else to / entry.id
    print(f"{entry.name}: fetching {entry.repository}", flush=True)
    try:
        folder = _fetched(entry, own, PATTERNS)
        if wrong := _differing(entry, own):
            print(f"{entry.name}: fetching {', '.join(wrong)} again", flush=True)
            folder = _fetched(entry, own, wrong, again=True)
            wrong = _differing(entry, own)
    except Exception as error:  # the hub's errors, the network's, the disk's
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"{entry.repository} could not be fetched ({type(error).__name__}: "
            f"{_first_line(error)}). Check the network, the free space and the name.",
        ) from error
    if wrong:
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"{', '.join(wrong)} of {entry.repository} still "
            f"{'differs' if len(wrong) == 1 else 'differ'} from the hub's: try again, or check the "
            "disk.",
        )
    if reason := why_incomplete(folder):
        raise Refusal(
            ErrorCode.UNAVAILABLE,
            f"{entry.repository} does not hold what the service loads: {reason}.",
        )
    print(f"{entry.name}: whole, in {folder}", flush=True)
    return folder


def _fetched(entry: Entry, own: Path | None, patterns: list[str], again: bool = False) -> Path:
    assert entry.repository is not None
    return Path(
        snapshot_download(
            entry.repository,
            revision=entry.revision,
            local_dir=own,
            allow_patterns=patterns,
            force_download=again,
        )
    )


def _differing(entry: Entry, own: Path | None) -> list[str]:
    """The files that are missing, or that have another checksum than the hub's."""
    assert entry.repository is not None
    found = HfApi().verify_repo_checksums(entry.repository, revision=entry.revision, local_dir=own)
    missing = [name for name in found.missing_paths if _is_wanted(name)]
    return sorted({*missing, *(one["path"] for one in found.mismatches)})


def _is_wanted(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in PATTERNS)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
