"""The examples of the users' guide, as they stand in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.guide import ANSWERS, CURL, PYTHON
from tests.support.pages import RUSSIAN, encode, render
from tests.support.server import SAYS, Server

MODEL = "qwen3_vl_2b"
TEXT = SAYS[MODEL]
PICTURES = ("document.jpg", "image.jpg", "doc1.jpg", "doc2.jpg", "doc3.jpg", "diagram.png")
MAYBE_NULL = {"gpu_name", "language"}
"""Strings in the guide; null where there is no GPU, and where no hint is given."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user stands who types the examples."""
    folder = tmp_path_factory.mktemp("user")
    for name in PICTURES:
        format = "PNG" if name.endswith(".png") else "JPEG"
        (folder / name).write_bytes(encode(render(RUSSIAN), format))
    return folder


def run(command: list[str], code: str, server: Server, folder: Path) -> str:
    """What the example prints; only the port may be another than in the guide."""
    code = code.replace("localhost:8000", f"localhost:{server.port}")
    done = subprocess.run([*command, code], cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def curl(section: str, server: Server, folder: Path) -> Any:
    return json.loads(run(["sh", "-c"], CURL[section], server, folder))


def python(section: str, server: Server, folder: Path, then: str = "") -> list[str]:
    """The lines printed."""
    code = f"{PYTHON[section]}\n{then}"
    return run([sys.executable, "-X", "utf8", "-c"], code, server, folder).splitlines()


def has_fields_of(answer: Any, documented: Any) -> bool:
    """Every field of the guide's answer is there, with a value of its type."""
    match documented:
        case dict():
            return all(
                name in answer
                and (
                    has_fields_of(answer[name], value)
                    or (name in MAYBE_NULL and answer[name] is None)
                )
                for name, value in documented.items()
            )
        case list():
            return isinstance(answer, list) and all(
                has_fields_of(item, documented[0]) for item in answer
            )
        case _:
            return type(answer) is type(documented)


def test_every_example_of_the_guide_is_run_here() -> None:
    assert set(CURL) == {
        "GET /",
        "GET /health",
        "GET /models",
        "POST /ocr",
        "POST /chat",
        "POST /batch/ocr",
        "DELETE /models/{model_name}",
    }
    assert set(PYTHON) == {
        "POST /ocr",
        "POST /chat",
        "POST /batch/ocr",
        "Асинхронный клиент (aiohttp)",
        "Класс-обёртка",
    }


def test_the_root_answers_to_the_letter(fleet: Server, folder: Path) -> None:
    assert curl("GET /", fleet, folder) == ANSWERS["GET /"]


def test_the_models_are_listed_in_order_by_their_names_and_sizes(
    fleet: Server, folder: Path
) -> None:
    answer = curl("GET /models", fleet, folder)
    documented = ANSWERS["GET /models"]["available"]
    listed = [{name: model[name] for name in documented[0]} for model in answer["available"]]
    assert listed[: len(documented)] == documented
    assert [model["id"] for model in listed[len(documented) :]] == ["reader"]
    assert isinstance(answer["loaded"], list)


@pytest.mark.parametrize("section", [s for s in CURL if s in ANSWERS and s != "GET /models"])
def test_curl_is_answered_with_the_fields_of_the_guide(
    section: str, fleet: Server, folder: Path
) -> None:
    if section.startswith("DELETE"):
        curl("POST /ocr", fleet, folder)  # which loads the model
    answer = curl(section, fleet, folder)
    assert has_fields_of(answer, ANSWERS[section])


def test_what_the_model_says_is_in_every_answer(fleet: Server, folder: Path) -> None:
    assert curl("POST /ocr", fleet, folder)["text"] == TEXT
    answer = curl("POST /chat", fleet, folder)
    assert (answer["response"], answer["prompt"]) == (TEXT, "Что изображено на картинке?")
    batch = curl("POST /batch/ocr", fleet, folder)
    assert [item["text"] for item in batch["results"]] == [TEXT] * 3
    assert (batch["total"], batch["successful"], batch["failed"]) == (3, 3, 0)


def test_after_the_guides_delete_the_model_is_gone(fleet: Server, folder: Path) -> None:
    curl("POST /ocr", fleet, folder)
    assert MODEL in curl("GET /health", fleet, folder)["loaded_models"]
    assert (
        curl("DELETE /models/{model_name}", fleet, folder) == ANSWERS["DELETE /models/{model_name}"]
    )
    assert MODEL not in curl("GET /models", fleet, folder)["loaded"]


def test_an_unknown_model_gives_the_guides_error(fleet: Server, folder: Path) -> None:
    unknown = CURL["POST /ocr"].replace(MODEL, "invalid_model")
    answer = json.loads(run(["sh", "-c"], unknown, fleet, folder))
    assert answer == ANSWERS["Обработка ошибок"] | {"code": "unknown_model"}


def test_python_reads_a_page(fleet: Server, folder: Path) -> None:
    assert python("POST /ocr", fleet, folder) == [TEXT]


def test_python_asks_about_a_page(fleet: Server, folder: Path) -> None:
    assert python("POST /chat", fleet, folder) == [TEXT]


def test_python_reads_a_batch(fleet: Server, folder: Path) -> None:
    assert python("POST /batch/ocr", fleet, folder) == [
        "Обработано: 3/3",
        *(f"doc{number}.jpg: {TEXT}..." for number in (1, 2, 3)),
    ]


def test_the_aiohttp_client_reads_a_page(fleet: Server, folder: Path) -> None:
    assert python("Асинхронный клиент (aiohttp)", fleet, folder, "print(text)") == [TEXT]


def test_the_client_class_does_all_it_can(fleet: Server, folder: Path) -> None:
    then = "print(text); print(answer); print(client.health()['status'])"
    assert python("Класс-обёртка", fleet, folder, then) == [TEXT, TEXT, "healthy"]
