"""Lists the models that the service offers, to which `CHATVLM_CATALOG` adds others."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """What is known of one model without loading it."""

    id: str
    name: str
    params: str
    family: str | None
    """Name of the family's module in `runners/families/`; None for the embedded reader."""
    repository: str | None = None
    """The model's repository on the Hugging Face hub; None for the embedded reader, whose models
    come with packages, and for a model that is only in a folder."""
    weights_gib: float = 0.0
    """Size of the weights in bfloat16, GiB; 0 if nobody has said it."""
    options: frozenset[str] = frozenset()
    """The fields of `messages.Options` that the family understands."""
    max_images: int = 1
    """Largest number of images in one conversation."""
    converses: bool = False
    """Whether it follows a conversation of several turns; else it takes one question about one
    image."""
    revision: str | None = None
    """The commit, tag or branch of the repository; None for its main branch."""
    folder: Path | None = None
    """The folder that holds the weights, if an entry of `CHATVLM_CATALOG` names one."""
    max_pixels: int | None = None
    """Largest number of pixels of an image that it reads, if it is less than the settings allow."""

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded reader, which is not a vision-language model.

        The reader is small and loads itself with its first page: the gateway neither loads it nor
        unloads others for it.
        """
        return self.family is None


def _qwen(id: str, name: str, params: str, repository: str, weights_gib: float) -> Entry:
    return Entry(
        id, name, params, "qwen_vl", repository, weights_gib, max_images=20, converses=True
    )


# The REST API guide fixes the ids: `qwen_vl_2b` is Qwen2-VL, and `qwen3_vl_2b` is Qwen3-VL.
CATALOG: dict[str, Entry] = {
    entry.id: entry
    for entry in (
        Entry(
            "got_ocr",
            "GOT-OCR 2.0",
            "580M",
            "got_ocr",
            "stepfun-ai/GOT-OCR-2.0-hf",
            1.2,
            frozenset({"box", "color", "formatted"}),
        ),
        _qwen("qwen_vl_2b", "Qwen2-VL 2B", "2B", "Qwen/Qwen2-VL-2B-Instruct", 4.2),
        _qwen("qwen_vl_7b", "Qwen2-VL 7B", "7B", "Qwen/Qwen2-VL-7B-Instruct", 15.5),
        _qwen("qwen3_vl_2b", "Qwen3-VL 2B", "2B", "Qwen/Qwen3-VL-2B-Instruct", 4.0),
        _qwen("qwen3_vl_4b", "Qwen3-VL 4B", "4B", "Qwen/Qwen3-VL-4B-Instruct", 8.3),
        _qwen("qwen3_vl_8b", "Qwen3-VL 8B", "8B", "Qwen/Qwen3-VL-8B-Instruct", 16.4),
        Entry(
            "dots_ocr",
            "dots.ocr",
            "1.7B",
            "dots_ocr",
            "rednote-hilab/dots.ocr",
            5.7,
            frozenset({"mode"}),
        ),
        Entry(
            "reader",
            "Embedded reader of English and Russian (PP-OCRv6, Tesseract)",
            "8M",
            family=None,
            options=frozenset({"mode"}),
            max_images=20,
            converses=True,
        ),
    )
}

_OLDER_IDS = {"tesseract": "reader"}
"""Ids that a model had before, which go on working, with the id that it has now."""


def current_id(model: str) -> str:
    """The id of a model, of which an older id or the repository's name on the hub may be given.

    An unknown name is returned as it is.
    """
    if model in CATALOG:
        return model
    repositories = {entry.repository: entry.id for entry in reversed(CATALOG.values())}
    return _OLDER_IDS.get(model) or repositories.get(model, model)


_BUILT_IN = frozenset(CATALOG)


def add_models(entries: Iterable[Entry]) -> None:
    """Add the models of a catalog file to `CATALOG`, in place of those that were added before."""
    for model in CATALOG.keys() - _BUILT_IN:
        del CATALOG[model]
    CATALOG.update({entry.id: entry for entry in entries})


def is_built_in(model: str) -> bool:
    """Whether an id belongs to the service, so that no other model can have it."""
    return model in _BUILT_IN or model in _OLDER_IDS


DEFAULT_ON_GPU = "qwen3_vl_2b"
"""The default model where there is a GPU, as the REST API guide has it."""
DEFAULT_ON_CPU = "reader"
"""The default model where there is no GPU: the embedded reader."""
