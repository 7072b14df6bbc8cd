"""Every setting of the service, read from the environment as `CHATVLM_<NAME>`."""

import os
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 2**20


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CHATVLM_", extra="ignore", frozen=True)

    # What a request may bring
    max_file_mib: float = Field(10, gt=0, description="Largest file, MiB")
    max_files: int = Field(10, gt=0, description="Most files of one batch")
    max_image_pixels: int = Field(80_000_000, gt=0, description="Most pixels of one image")
    request_timeout: float = Field(30, gt=0, description="Longest request, seconds")
    max_requests: int = Field(
        64, gt=0, description="Requests that the gateway holds at once; more are refused"
    )

    # Which models there are
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Ids of the models whose runners are started, by commas; empty: all"
    )
    default_model: str | None = Field(None, description="Id of the model asked when none is named")

    # The vision-language runners
    queue_size: int = Field(64, gt=0, description="Requests that may wait in one runner")
    weights: Path | None = Field(
        None, description="Folder with a folder of weights per model id; empty: the hub's cache"
    )

    # The embedded reader
    tessdata: Path | None = Field(
        None, description="Folder with eng, rus and osd .traineddata; empty: where Debian puts it"
    )
    reader_processes: int = Field(
        os.cpu_count() or 1, gt=0, description="Processes of the embedded reader"
    )

    @property
    def max_file_bytes(self) -> int:
        return int(self.max_file_mib * MIB)


@cache
def settings() -> Settings:
    return Settings()
