"""Defines every setting of the service, read from the environment as `CHATVLM_<NAME>`."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    SecretStr,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from common.catalog import CATALOG, Entry, add_models, current_id
from common.catalog_file import read_catalog
from common.units import MIB

_PREFIX = "CHATVLM_"
_PIXELS = 1_003_520
"""Most pixels of an image on a CPU, which is slow at more, and of models without a number."""
_NOT_OURS = {"URL", "IMAGE", "ADDRESS", "WEIGHTS_DIR"}
"""Variables with the prefix that the client and deploy/compose.yaml read, not the service."""


def _by_commas(value: Any) -> Any:
    """Split `a, b,` into ["a", "b"]; return anything but a string as it is."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _by_model(value: Any) -> Any:
    """Turn `got_ocr=0,qwen3_vl_8b=1` into a dict; return anything but a string as it is."""
    if not isinstance(value, str):
        return value
    pairs = {}
    for part in _by_commas(value):
        model, equals, setting = part.partition("=")
        if not equals:
            raise ValueError(f"'{part}' is not of the form model=value")
        pairs[model.strip()] = setting.strip()
    return pairs


def _with_its_models(path: Path) -> Path:
    """Adds the models of a catalog file to the catalog. Raises `ValueError` if one is wrong."""
    add_models(read_catalog(path))
    return path


def _known_model(model: str) -> str:
    """The current id of the model."""
    if current_id(model) not in CATALOG:
        raise ValueError(f"unknown model '{model}'; known: {', '.join(CATALOG)}")
    return current_id(model)


def _by_plus(value: Any) -> Any:
    """Split `a+b` into ["a", "b"]; return anything but a string as it is."""
    return value.split("+") if isinstance(value, str) else value


def _address(url: str) -> str:
    found = re.fullmatch(r"http://(?:[\w.-]+|\[[\da-fA-F:]+\]):(\d+)", url)
    if not found or not 0 < int(found[1]) < 2**16:
        shown = re.sub(r"//[^@/]*@", "//…@", url)  # a password is not for the log
        raise ValueError(f"'{shown}' is not of the form http://host:3000")
    return url


def _upstream_url(url: str) -> str:
    found = re.fullmatch(r"https?://(?:[\w.-]+|\[[\da-fA-F:]+\])(?::(\d+))?(/[\w./~-]*)?", url)
    if not found or not 0 < int(found[1] or 80) < 2**16:
        shown = re.sub(r"//[^@/]*@", "//…@", url)  # a password is not for the log
        raise ValueError(f"'{shown}' is not of the form http://host:8000/v1")
    return url.rstrip("/")


def _conversing_model(model: str) -> str:
    """The id of a model that servers of OpenAI's protocol can be asked for."""
    if CATALOG[model].is_embedded or not CATALOG[model].converses:
        able = [entry.id for entry in CATALOG.values() if entry.converses and not entry.is_embedded]
        raise ValueError(
            f"'{model}' is no model that such servers have; those that may be are {', '.join(able)}"
        )
    return model


def _keys_by_model(value: Any) -> Any:
    """Turn `qwen3_vl_8b=KEY` into a dict, as `_by_model` does. The messages name no key."""
    if not isinstance(value, str):
        return value
    keys = {}
    for part in _by_commas(value):
        model, _, key = part.partition("=")
        if current_id(model.strip()) not in CATALOG or not re.fullmatch(r"[\x21-\x7e]+", key):
            raise ValueError("a part is not of the form model=key with a known model")
        keys[model.strip()] = key
    return keys


def _origin(origin: str) -> str:
    if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
        raise ValueError(f"'{origin}' is not of the form https://host or https://host:port")
    return origin


def _root_path(path: str) -> str:
    if path.strip("/") and not re.fullmatch(r"(/[\w.~-]+)+/?", path):
        raise ValueError(f"'{path}' is not of the form /path")
    return path.rstrip("/")


ModelId = Annotated[str, AfterValidator(_known_model)]
ConversingModel = Annotated[ModelId, AfterValidator(_conversing_model)]
Gpus = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), BeforeValidator(_by_plus)]
Urls = Annotated[
    tuple[Annotated[str, AfterValidator(_address)], ...],
    Field(min_length=1),
    BeforeValidator(_by_plus),
]


class Settings(BaseSettings):
    """All settings. Raises pydantic's `ValidationError` if a variable's value makes no sense."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Before all settings that name models
    catalog: Annotated[Path, AfterValidator(_with_its_models)] | None = Field(
        None,
        description="File with further models of the known families, a `[[models]]` table each",
    )

    # What a request may bring
    max_file_mib: float = Field(10, gt=0, description="Largest file, MiB")
    max_files: int = Field(
        10,
        gt=0,
        description="Largest number of files of one batch; a conversation may hold as many bytes",
    )
    max_image_pixels: int = Field(
        80_000_000,
        gt=0,
        le=10_000_000_000,
        description="Largest number of pixels of one image, and of all images of one question",
    )
    max_pages: int = Field(
        50, gt=0, description="Largest number of pages that are read of one document"
    )
    pdf_dpi: float = Field(
        200,
        ge=36,
        le=1200,
        description="Resolution at which a page of a PDF is drawn, dots an inch",
    )
    allow_urls: bool = Field(
        False, description="Whether images may be given as a URL, which the service then fetches"
    )
    request_timeout: float = Field(
        30, gt=0, le=86_400, description="Longest time that a request may take, seconds"
    )
    max_requests: int = Field(
        64,
        gt=0,
        description="Largest number of requests that the gateway holds at once; more are refused",
    )
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_by_commas)
    ] = Field(
        (),
        description="Origins of web pages that may use the service from a browser, by commas, as "
        "`https://app.example.com`; `*`: any; empty: none",
    )
    root_path: Annotated[str, AfterValidator(_root_path)] = Field(
        "", description="Path under which a proxy publishes the service, as `/ocr-service`"
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="How the log is written: `text`, or `json`, one object a line"
    )

    # Which models there are
    models: Annotated[tuple[ModelId, ...], NoDecode, BeforeValidator(_by_commas)] = Field(
        (), description="Ids of the models whose runners are started, by commas; empty: all"
    )
    remote: Annotated[dict[ModelId, Urls], NoDecode, BeforeValidator(_by_model)] = Field(
        {},
        description="Addresses of the runners that are started elsewhere, by model, as "
        "`qwen3_vl_2b=http://host:3000,dots_ocr=http://one:3000+http://two:3000`",
    )
    upstream: Annotated[
        dict[ConversingModel, Annotated[str, AfterValidator(_upstream_url)]],
        NoDecode,
        BeforeValidator(_by_model),
    ] = Field(
        {},
        description="Addresses of servers of OpenAI's protocol that hold a model, such as vLLM, as "
        "`qwen3_vl_8b=http://host:8000/v1`; the model's runner asks them and loads nothing",
    )
    upstream_names: Annotated[dict[ModelId, str], NoDecode, BeforeValidator(_by_model)] = Field(
        {},
        description="Names under which those servers serve the models, as `qwen3_vl_8b=my-qwen`; "
        "empty: the repository's, its last part, or the id",
    )
    upstream_keys: Annotated[
        dict[ModelId, SecretStr], NoDecode, BeforeValidator(_keys_by_model)
    ] = Field({}, description="API keys that those servers ask for, as `qwen3_vl_8b=KEY`")
    default_model: ModelId | None = Field(
        None,
        description="Id of the model of a request that names none; by default `qwen3_vl_2b` where "
        "there is a GPU, else `reader`, else the first that is served",
    )
    preload: Annotated[tuple[ModelId, ...], NoDecode, BeforeValidator(_by_commas)] = Field(
        (), description="Ids of the models that are loaded at start, by commas"
    )
    max_loaded: int | None = Field(
        None,
        gt=0,
        description="Largest number of vision-language models in the memory of one host at once; "
        "empty: as many as fit",
    )

    # The runners
    queue_size: int = Field(
        64,
        gt=0,
        description="Largest number of requests that wait in one runner, of pages in the embedded "
        "reader's; more are refused",
    )

    # The vision-language runners
    weights: Path | None = Field(
        None,
        description="Folder with a folder of weights per model id; empty: the hub's cache",
    )
    devices: Annotated[dict[ModelId, Gpus], NoDecode, BeforeValidator(_by_model)] = Field(
        {},
        description="Numbers of the GPUs that a model runs on, as `got_ocr=0,qwen3_vl_8b=0+1`; by "
        "default GPU 0, or the CPU where there is none",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Data type of a model's weights; auto: bfloat16 where the device is fast at "
        "it, else float16 on a GPU and float32 on a CPU",
    )
    quantize: Literal["int8", "int4"] | None = Field(
        None,
        description="To how many bits the weights of a language model are quantised while they are "
        "loaded; empty: none. Weights that are quantised already stay as they are",
    )
    max_pixels: int | None = Field(
        None,
        ge=3136,
        description="Largest number of pixels of an image that a model reads; larger images are "
        "shrunk; empty: as many as the model's authors have documents read in, on a CPU at most "
        "1003520",
    )
    max_pixels_by_model: Annotated[
        dict[ModelId, Annotated[int, Field(ge=3136)]],
        NoDecode,
        BeforeValidator(_by_model),
    ] = Field(
        {},
        description="Largest number of pixels for single models, as `qwen3_vl_8b=2000000`, in "
        "place of the one of `CHATVLM_MAX_PIXELS` and of their authors",
    )
    reuse_mib: float = Field(
        512,
        ge=0,
        description="Memory per model that keeps images ready for further questions, MiB; 0: none",
    )
    kv_budget_gib: float | None = Field(
        None, ge=0, description="Largest KV cache of a model, GiB; empty: 60 % of the free memory"
    )
    step_target_ms: float = Field(
        250,
        gt=0,
        description="New requests join the batch only while a decode step takes at most this long, "
        "milliseconds, or at most four times as long as the model's fastest step",
    )
    token_gap_ms: float = Field(
        100,
        gt=0,
        description="While requests in the batch wait for their next token, new prompts are "
        "computed in slices of at most this long, milliseconds, or of two decode steps if that is "
        "longer",
    )
    unload_timeout: float = Field(
        30,
        ge=0,
        description="How long an unload waits for the requests that use the model, seconds",
    )
    keep_alive: float | None = Field(
        None,
        gt=0,
        description="Idle seconds after which a vision-language model is unloaded; empty: never",
    )

    # The embedded reader
    tessdata: Path | None = Field(
        None, description="Folder with rus.traineddata; empty: the usual folders"
    )
    recognisers: Path | None = Field(
        None,
        description="Folder with PP-OCR's recognisers of further scripts: a .onnx file with "
        "`cyrillic` or `eslav` in its name reads Cyrillic instead of Tesseract",
    )
    reader_processes: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        gt=0,
        le=1024,
        description="Processes of the embedded reader; by default one per CPU core",
    )

    @property
    def max_file_bytes(self) -> int:
        return int(self.max_file_mib * MIB)

    @property
    def reuse_bytes(self) -> int:
        return int(self.reuse_mib * MIB)

    def gpus_of(self, model: str) -> tuple[int, ...]:
        """Numbers of the GPUs that this model runs on. It runs on the CPU where there is none."""
        return self.devices.get(model, (0,))

    def max_pixels_of(self, entry: Entry, on_gpu: bool) -> int:
        """Largest number of pixels of an image that this model reads on its device."""
        if entry.id in self.max_pixels_by_model:
            return self.max_pixels_by_model[entry.id]
        authors = entry.max_pixels or _PIXELS
        return min(authors, self.max_pixels or (authors if on_gpu else _PIXELS))


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    Ends the process, with a sentence for each variable whose value makes no sense.
    """
    try:
        return Settings()
    except ValidationError as error:
        sentences: dict[str, str] = {}
        for wrong in error.errors():
            variable = f"{_PREFIX}{str(wrong['loc'][0]).upper()}"
            sentences.setdefault(variable, f"{variable}: {_problem(wrong)}.")
        if catalog := sentences.get(f"{_PREFIX}CATALOG"):  # the models in it would seem unknown
            raise SystemExit(catalog) from None
        raise SystemExit("\n".join(sentences.values())) from None


def _problem(wrong: ErrorDetails) -> str:
    """What is wrong with a value. The messages of this file name the value themselves."""
    message = wrong["msg"]
    if wrong["type"] == "value_error":
        return message.removeprefix("Value error, ")
    return f"{message}, got '{wrong['input']}'"


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none.

    environment: the names of all variables.
    """
    known = [name.upper() for name in Settings.model_fields]
    sentences = []
    for variable in sorted(environment):
        name = variable.upper().removeprefix(_PREFIX)
        if variable.upper().startswith(_PREFIX) and name not in {*known, *_NOT_OURS}:
            (nearest,) = get_close_matches(name, known, n=1, cutoff=0)
            sentences.append(
                f"{variable} is not a setting and has no effect; "
                f"the nearest setting is {_PREFIX}{nearest}."
            )
    return sentences


def doubtful_settings(settings: Settings) -> list[str]:
    """A sentence for each setting that is allowed but can hardly be meant."""
    sentences = []
    if settings.weights and not settings.weights.is_dir():
        sentences.append(
            "The folder that CHATVLM_WEIGHTS names does not exist: models are loaded from the "
            "Hugging Face hub and its cache only."
        )
    if settings.tessdata and not settings.tessdata.is_dir():
        sentences.append(
            "The folder that CHATVLM_TESSDATA names does not exist: the embedded reader cannot "
            "read."
        )
    if settings.recognisers and not settings.recognisers.is_dir():
        sentences.append(
            "The folder that CHATVLM_RECOGNISERS names does not exist: Cyrillic is read with "
            "Tesseract."
        )
    sentences += [
        f"CHATVLM_UPSTREAM names '{model}', whose runner CHATVLM_REMOTE has elsewhere: set it "
        "where the runner is started."
        for model in settings.upstream
        if model in settings.remote
    ]
    sentences += [
        f"CHATVLM_{name} names '{model}', which has no server in CHATVLM_UPSTREAM."
        for name, named in (
            ("UPSTREAM_NAMES", settings.upstream_names),
            ("UPSTREAM_KEYS", settings.upstream_keys),
        )
        for model in named
        if model not in settings.upstream
    ]
    here = set(settings.models or CATALOG) - set(settings.remote)
    if settings.default_model and settings.default_model not in here | set(settings.remote):
        sentences.append(
            f"CHATVLM_DEFAULT_MODEL names '{settings.default_model}', which CHATVLM_MODELS leaves "
            "out: requests that name no model fail."
        )
    sentences += [
        f"CHATVLM_PRELOAD names '{model}', whose runner is not started here: it is not preloaded."
        for model in settings.preload
        if model not in here
    ]
    return sentences
