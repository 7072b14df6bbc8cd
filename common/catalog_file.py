"""Reads the file that `CHATVLM_CATALOG` names: further models of the known families."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.catalog import CATALOG, Entry, SamplingParameters, is_built_in

Name = Annotated[str, Field(min_length=1, max_length=100)]
_BYTES_OF_A_PARAMETER = 2
_PARAMETERS = {"M": 10**6, "B": 10**9}


class ListedSampling(BaseModel):
    """The field `sampling` of a table. Its fields are those of `SamplingParameters`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    min_tokens: int | None = Field(None, ge=0)


class ListedModel(BaseModel):
    """One `[[models]]` table of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # A pod's name, which "-runner" and Kubernetes' own parts are in, has at most 63 characters.
    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,38}[a-z0-9]$")
    name: Name | None = None
    family: str
    repository: str | None = Field(None, pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    folder: Name | None = None
    revision: Name | None = None
    params: str | None = Field(None, pattern=r"^\d+(\.\d+)?[MB]$")
    weights_gib: float | None = Field(None, gt=0, strict=False, allow_inf_nan=False)
    max_images: int | None = Field(None, gt=0)
    max_pixels: int | None = Field(None, ge=3136)
    reading_tokens: int | None = Field(None, gt=0)
    sampling: ListedSampling | None = None


def read_catalog(path: Path) -> list[Entry]:
    """The entries of the file.

    Raises `ValueError` with a sentence that names the place and says what to write there.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not TOML: {error}") from error
    models = tables.pop("models", None)
    if tables or not isinstance(models, list) or not all(isinstance(m, dict) for m in models):
        raise ValueError(f"'{path}' has to consist of [[models]] tables, one for each model")
    entries: dict[str, Entry] = {}
    for number, table in enumerate(models, 1):
        place = f"'{path}', {_name(table, number)}"
        entry = _entry(table, path.parent, place)
        if entry.id in entries or is_built_in(entry.id):
            raise ValueError(f"{place}: there is another model with this id; choose another id")
        entries[entry.id] = entry
    return list(entries.values())


def _name(table: dict[str, Any], number: int) -> str:
    return f"model '{table['id']}'" if "id" in table else f"model {number}"


def _entry(table: dict[str, Any], beside: Path, place: str) -> Entry:
    """beside: the folder that a relative folder is in."""
    try:
        model = ListedModel.model_validate(table)
    except ValidationError as error:
        raise ValueError(f"{place}: {_problem(error)}") from error
    if model.repository is None and model.folder is None:
        raise ValueError(f"{place}: it needs a repository of the hub or a folder")
    if model.revision is not None and model.repository is None:
        raise ValueError(f"{place}: a revision needs the repository that it is of")
    relative = _of_family(model.family, place)
    if model.max_images is not None and model.max_images > 1 and not relative.converses:
        raise ValueError(f"{place}: models of the family '{model.family}' take one image")
    return replace(
        relative,
        id=model.id,
        name=model.name or model.repository or model.id,
        params=model.params or "unknown",
        repository=model.repository,
        weights_gib=model.weights_gib or _gib_of(model.params),
        max_images=model.max_images or relative.max_images,
        revision=model.revision,
        folder=None if model.folder is None else beside / model.folder,
        max_pixels=model.max_pixels or relative.max_pixels,
        reading_tokens=model.reading_tokens or relative.reading_tokens,
        sampling=relative.sampling
        if model.sampling is None
        else SamplingParameters(**model.sampling.model_dump()),
    )


def _problem(error: ValidationError) -> str:
    """What is wrong with the first wrong field of a table."""
    wrong = error.errors()[0]
    field = ".".join(str(part) for part in wrong["loc"])
    if wrong["type"] == "missing":
        return f"'{field}' is missing"
    if wrong["type"] == "extra_forbidden":
        table = ListedModel if len(wrong["loc"]) == 1 else ListedSampling
        return f"'{field}' is not a field; the fields are {', '.join(table.model_fields)}"
    return f"'{field}': {wrong['msg']}, got '{wrong['input']}'"


def _of_family(family: str, place: str) -> Entry:
    """The first model of the service that is of this family."""
    known = {entry.family: entry for entry in reversed(CATALOG.values()) if entry.family}
    if family not in known:
        listed = ", ".join(sorted(filter(None, known)))
        raise ValueError(f"{place}: unknown family '{family}'; known: {listed}")
    return known[family]


def _gib_of(params: str | None) -> float:
    """The size of so many parameters in bfloat16; 0 if the number is not known."""
    if params is None:
        return 0.0
    count = float(params[:-1]) * _PARAMETERS[params[-1]]
    return round(count * _BYTES_OF_A_PARAMETER / 2**30, 1)
