"""Every setting of the service, read from the environment as `CHATVLM_<NAME>`."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from common.catalog import CATALOG

MIB = 2**20


def _split(value: Any) -> Any:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _by_model(value: Any) -> Any:
    """`got_ocr=0,qwen3_vl_8b=1` to a dict; a part without `=` is left for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    pairs = (part.partition("=") for part in _split(value))
    return {model.strip(): setting.strip() for model, _, setting in pairs}


def _known(model: str) -> str:
    if model not in CATALOG:
        raise ValueError(f"unknown model '{model}'; known: {', '.join(CATALOG)}")
    return model


def _parts(value: Any) -> Any:
    return value.split("+") if isinstance(value, str) else value


def _address(url: str) -> str:
    found = re.fullmatch(r"http://(?:[\w.-]+|\[[\da-fA-F:]+\]):(\d+)", url)
    if not found or not 0 < int(found[1]) < 2**16:
        raise ValueError(f"'{url}' is not of the form http://host:3000")
    return url


ModelId = Annotated[str, AfterValidator(_known)]
Gpus = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), BeforeValidator(_parts)]
Urls = Annotated[
    tuple[Annotated[str, AfterValidator(_address)], ...],
    Field(min_length=1),
    BeforeValidator(_parts),
]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CHATVLM_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # What a request may bring
    max_file_mib: float = Field(10, gt=0, description="Largest file, MiB")
    max_files: int = Field(10, gt=0, description="Most files of one batch or conversation")
    max_image_pixels: int = Field(
        80_000_000, gt=0, description="Most pixels of one image, and of all of a question"
    )
    max_pages: int = Field(50, gt=0, description="Most pages of one document")
    pdf_dpi: float = Field(
        200,
        ge=36,
        le=1200,
        description="Resolution at which a page of a PDF is drawn, dots an inch",
    )
    allow_urls: bool = Field(
        False, description="Whether images may be given as a URL, which the service then fetches"
    )
    request_timeout: float = Field(30, gt=0, description="Longest request, seconds")
    max_requests: int = Field(
        64, gt=0, description="Requests that the gateway holds at once; more are refused"
    )

    # Which models there are
    models: Annotated[tuple[ModelId, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Ids of the models whose runners are started, by commas; empty: all"
    )
    remote: Annotated[dict[ModelId, Urls], NoDecode, BeforeValidator(_by_model)] = Field(
        {},
        description="Where the runners of a model are that are not started here, as "
        "`qwen3_vl_2b=http://host:3000,dots_ocr=http://one:3000+http://two:3000`",
    )
    default_model: ModelId | None = Field(
        None,
        description="Id of the model asked when none is named; by default `qwen3_vl_2b` where "
        "there is a GPU, else `tesseract`, else the first that is served",
    )
    preload: Annotated[tuple[ModelId, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Ids of the models that are loaded at start, by commas"
    )
    max_loaded: int | None = Field(
        None,
        gt=0,
        description="Vision-language models in the memory of one host at once; empty: what fits",
    )

    # The vision-language runners
    queue_size: int = Field(64, gt=0, description="Requests that may wait in one runner")
    weights: Path | None = Field(
        None, description="Folder with a folder of weights per model id; empty: the hub's cache"
    )
    devices: Annotated[dict[ModelId, Gpus], NoDecode, BeforeValidator(_by_model)] = Field(
        {},
        description="Numbers of the GPUs of a model, as `got_ocr=0,qwen3_vl_8b=0+1`; by default "
        "GPU 0, or the CPU where there is none",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device is fast at it"
    )
    max_pixels: int = Field(
        1_003_520, ge=3136, description="Pixels that an image is shrunk to before a model reads it"
    )
    max_pixels_by_model: Annotated[
        dict[ModelId, Annotated[int, Field(ge=3136)]],
        NoDecode,
        BeforeValidator(_by_model),
    ] = Field({}, description="Instead of max_pixels, as `qwen3_vl_8b=2000000`")
    reuse_mib: float = Field(
        512, ge=0, description="Kept per model for more questions on an image, MiB; 0 keeps nothing"
    )
    kv_budget_gib: float | None = Field(
        None, ge=0, description="Largest KV cache of a model, GiB; empty: 60 % of what is free"
    )
    step_target_ms: float = Field(
        250,
        gt=0,
        description="A request joins while a step of the others takes less, or less than four "
        "times a lone one's, milliseconds",
    )
    unload_timeout: float = Field(
        30, ge=0, description="How long an unload waits for requests in flight, seconds"
    )
    keep_alive: float | None = Field(
        None, gt=0, description="Idle seconds after which a model is unloaded; empty: never"
    )

    # The embedded reader
    tessdata: Path | None = Field(
        None, description="Folder with eng, rus and osd .traineddata; empty: where Debian puts it"
    )
    reader_processes: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        gt=0,
        description="Processes of the embedded reader; by default one per CPU core",
    )
    state: Path | None = Field(
        None, description="Folder that those processes share; empty: beside BentoML's metrics"
    )

    @property
    def max_file_bytes(self) -> int:
        return int(self.max_file_mib * MIB)

    @property
    def reuse_bytes(self) -> int:
        return int(self.reuse_mib * MIB)

    def max_pixels_of(self, model: str) -> int:
        return self.max_pixels_by_model.get(model, self.max_pixels)


@cache
def settings() -> Settings:
    """Ends the process with a sentence for each variable whose value cannot be."""
    try:
        return Settings()
    except ValidationError as error:
        sentences = [
            f"CHATVLM_{str(wrong['loc'][0]).upper()}: "
            f"{wrong['msg'].removeprefix('Value error, ')}, got '{wrong['input']}'."
            for wrong in error.errors()
        ]
        raise SystemExit("\n".join(sentences)) from None
