"""Says what of the service runs on this machine, and what is to be mended first."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count, takewhile

from common import devices
from common.catalog import CATALOG, Entry
from common.failures import Refusal
from common.units import GIB
from runners.checkpoints import weights
from runners.checkpoints.dtype import is_float32
from runners.checkpoints.shape import kv_page_bytes
from runners.reader.tessdata import find_tessdata
from runners.scheduling.kv_space import KV_SHARE
from settings import Settings, doubtful_settings, unknown_variables


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    about: str
    text: str
    mend: str | None = None
    """What is wrong and what to do, in a sentence; None if nothing is."""
    is_here: bool = True

    @property
    def mark(self) -> str:
        if self.mend is not None:
            return "MEND"
        return "ok" if self.is_here else "-"


def doctor(settings: Settings, environment: Iterable[str]) -> int:
    """Prints the report. Returns 0, or 1 if something is to be mended.

    environment: the names of all variables.
    """
    findings = [
        *_settings(settings, environment),
        *_gpus(),
        _cpu(settings),
        *(_model(entry, settings) for entry in _served(settings)),
        _tesseract(settings),
    ]
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        print(f"{finding.mark:4} {finding.about:{width}} {finding.text}")
    problems = [finding.mend for finding in findings if finding.mend is not None]
    if not problems:
        print("\nNothing to mend.")
        return 0
    print(f"\nMend first: {problems[0]}")
    return 1


def _settings(settings: Settings, environment: Iterable[str]) -> list[Finding]:
    wrong = [*unknown_variables(environment), *doubtful_settings(settings)]
    if not wrong:
        return [Finding("settings", "each is known and makes sense")]
    return [Finding("settings", sentence, mend=sentence) for sentence in wrong]


def _gpus() -> list[Finding]:
    if devices.gpu_name() is None:
        return [Finding("GPU", "none: vision-language models run on the CPU")]
    found = takewhile(lambda one: one is not None, (devices.gpu_memory([n]) for n in count()))
    memory = ", ".join(_memory(one) for one in found if one is not None)
    major, minor = devices.gpu_capability() or (0, 0)
    text = (
        f"{devices.gpu_name()}, capability {major}.{minor}, driver {devices.driver_version()}, "
        f"{memory}"
    )
    return [Finding("GPU", text, mend=_why_not_used())]


def _why_not_used() -> str | None:
    """Why PyTorch cannot use the GPU that the driver tells of; None if it can."""
    if find_spec("torch") is None:
        return None  # an installation for the embedded reader, which needs no GPU
    import torch  # takes seconds, and is needed on machines with a GPU only

    if torch.cuda.is_available():
        return None
    return (
        f"PyTorch {torch.__version__} cannot use the GPU: install a build for CUDA, or a driver "
        "that is new enough for it."
    )


def _cpu(settings: Settings) -> Finding:
    number = "float32" if is_float32(settings, on_gpu=False) else "16 bits"
    return Finding("CPU", f"{_memory(devices.cpu_memory())}, models compute in {number}")


def _served(settings: Settings) -> list[Entry]:
    """The vision-language models whose runners are started here."""
    here = [model for model in settings.models or CATALOG if model not in settings.remote]
    return [CATALOG[model] for model in here if not CATALOG[model].is_embedded]


def _model(entry: Entry, settings: Settings) -> Finding:
    folder = weights.find_folder(entry, settings)
    reason = weights.why_unavailable(entry, settings)
    if folder is None:
        wanted = entry.id in {*settings.models, *settings.preload, settings.default_model}
        text = "not here" if reason else f"not here; fetch them: chatvlm-server pull {entry.id}"
        mend = reason if wanted else None
        return Finding(entry.id, f"weights {text}", mend=mend, is_here=False)
    if reason is not None:
        return Finding(entry.id, "weights cannot be loaded", mend=reason)
    if broken := weights.why_incomplete(folder):  # but the hub can be reached
        mend = f"{entry.name}: {broken}. Run chatvlm-server pull {entry.id}."
        return Finding(entry.id, "weights incomplete", mend=mend)
    needed = weights.memory_bytes(entry, settings)
    _, memory = devices.placement(settings.gpus_of(entry.id))
    size = f"weights whole, {needed / GIB:.1f} GiB"
    if needed > memory.total:
        mend = (
            f"{entry.name} needs {needed / GIB:.1f} GiB of memory, its device has "
            f"{memory.total / GIB:.1f} GiB: set CHATVLM_QUANTIZE, or leave it out of "
            "CHATVLM_MODELS."
        )
        return Finding(entry.id, f"{size}: does not fit", mend=mend)
    if needed > memory.free:
        return Finding(entry.id, f"{size}: fits once other memory of its device is free")
    pages = _pages(entry, settings, memory.free - needed)
    return Finding(entry.id, f"{size}, {pages} pages at once")


def _pages(entry: Entry, settings: Settings, free: int) -> int:
    """How many pages with long answers the KV cache holds if so much memory is free."""
    folder = weights.find_folder(entry, settings)
    assert folder is not None
    on_gpu = devices.gpu_name() is not None
    page = kv_page_bytes(
        weights.config_of(folder),
        settings.max_pixels_of(entry, on_gpu),
        4 if is_float32(settings, on_gpu) else 2,
    )
    if settings.kv_budget_gib is not None:
        return int(settings.kv_budget_gib * GIB) // page
    return int(free * KV_SHARE) // page


def _tesseract(settings: Settings) -> Finding:
    try:
        return Finding("Tesseract", f"data in {find_tessdata(settings.tessdata)}")
    except Refusal as refusal:
        return Finding("Tesseract", "data missing", mend=refusal.failure.detail)


def _memory(memory: devices.Memory) -> str:
    return f"{memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
