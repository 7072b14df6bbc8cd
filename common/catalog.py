"""Lists the models that the service offers, to which `CHATVLM_CATALOG` adds others."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHAT_TEMPERATURE = 0.7
"""The temperature of a conversation if neither its request nor the model's authors name one."""


@dataclass(frozen=True)
class SamplingParameters:
    """How tokens are chosen, as far as somebody says it; None is not said."""

    temperature: float | None = None
    """0 is greedy."""
    top_p: float | None = None
    """Tokens are drawn from the likeliest ones that together have this probability."""
    top_k: int | None = None
    """Tokens are drawn from this many of the likeliest ones; 0: from all."""
    min_p: float | None = None
    """Tokens are drawn from those that have this share of the likeliest one's probability."""
    repetition_penalty: float | None = None
    """Scores of tokens that the prompt or the answer has are divided by it; 1: none."""
    frequency_penalty: float | None = None
    """It is taken from a token's score for each time that the answer has the token."""
    presence_penalty: float | None = None
    """It is taken from the scores of all tokens that the answer has."""
    min_tokens: int | None = None
    """The answer does not stop before it has so many tokens."""


UNSAID = SamplingParameters()


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
    """The commit, tag or branch of the repository that is downloaded; None for its main branch."""
    folder: Path | None = None
    """The folder that holds the weights, if an entry of `CHATVLM_CATALOG` names one."""
    max_pixels: int | None = None
    """Most pixels of an image with which its authors have documents read."""
    visual_token_side: int = 28
    """Side of the square of pixels that becomes a visual token, in an image as the model sees it.
    For models that take images as Qwen's do."""
    fewest_visual_tokens: int = 4
    """Visual tokens to which a smaller image is enlarged."""
    reading_tokens: int = 2048
    """Most tokens of an answer of /ocr, for each page, if the request does not say it."""
    sampling: SamplingParameters = UNSAID
    """How its authors have the tokens of a conversation chosen, if its generation config does not
    say it."""

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded reader, which is not a vision-language model.

        The reader is small and loads itself with its first page: the gateway neither loads it nor
        unloads others for it.
        """
        return self.family is None


_QWEN = frozenset({"prompt"})


def _qwen2(size: str, weights_gib: float, revision: str) -> Entry:
    return Entry(
        f"qwen_vl_{size.lower()}",
        f"Qwen2-VL {size}",
        size,
        "qwen_vl",
        f"Qwen/Qwen2-VL-{size}-Instruct",
        weights_gib,
        _QWEN,
        max_images=20,
        converses=True,
        revision=revision,
        max_pixels=2048 * 28**2,  # Qwen's examples read documents in up to 2048 tokens
    )


def _qwen3(size: str, weights_gib: float, revision: str) -> Entry:
    return Entry(
        f"qwen3_vl_{size.lower()}",
        f"Qwen3-VL {size}",
        size,
        "qwen_vl",
        f"Qwen/Qwen3-VL-{size}-Instruct",
        weights_gib,
        _QWEN,
        max_images=20,
        converses=True,
        revision=revision,
        max_pixels=4608 * 32**2,  # Qwen's example of document parsing
        visual_token_side=32,
        fewest_visual_tokens=64,
        reading_tokens=16_384,
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
            revision="d3017ef2c2c1395888c8d635c5e0508bcb0ac78d",
            reading_tokens=4096,
            sampling=SamplingParameters(temperature=0.0),
        ),
        _qwen2("2B", 4.2, "895c3a49bc3fa70a340399125c650a463535e71c"),
        _qwen2("7B", 15.5, "eed13092ef92e448dd6875b2a00151bd3f7db0ac"),
        _qwen3("2B", 4.0, "89644892e4d85e24eaac8bacfd4f463576704203"),
        _qwen3("4B", 8.3, "ebb281ec70b05090aa6165b016eac8ec08e71b17"),
        _qwen3("8B", 16.4, "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b"),
        Entry(
            "dots_ocr",
            "dots.ocr",
            "1.7B",
            "dots_ocr",
            "rednote-hilab/dots.ocr",
            5.7,
            frozenset({"mode", "prompt"}),
            converses=True,
            revision="c0111ce6bc07803dbc267932ffef0ae3a51dc951",
            max_pixels=11_289_600,
            reading_tokens=16_384,
            sampling=SamplingParameters(temperature=0.1, top_p=0.9),
        ),
        Entry(
            "reader",
            "Embedded reader of English and Russian (PP-OCRv6, Tesseract)",
            "8M",
            family=None,
            options=frozenset({"formatted", "mode"}),
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
