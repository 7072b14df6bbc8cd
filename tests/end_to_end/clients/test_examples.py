"""Every example of README.md and docs/clients.md, run as it stands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.markdown import examples, sections
from tests.support.pages import ENGLISH, RUSSIAN
from tests.support.server import ROOT, Server

README = "README.md"
CLIENTS = "docs/clients.md"
SECTIONS = {document: sections(document) for document in (README, CLIENTS)}
NOT_RUN_HERE = {(README, "Start"), (README, "Run an image")}
"""Sections whose commands start a service; CI runs them."""
OCR_SECTION, CHAT_SECTION = (README, "Read a page"), (README, "Ask about a page")
SHELLS = [(README, "Use a client"), (CLIENTS, "The command `chatvlm`")]
JSON_BODIES = [(README, "Use a client"), (CLIENTS, "JSON")]
PYTHON = {
    (README, "Use a client"): ["\n".join(RUSSIAN) + "\n", f"{ENGLISH[4]}\n"],
    (CLIENTS, "Python"): [
        "\n".join([*RUSSIAN, "1 success", "2 success", RUSSIAN[4]]),
        "\n".join(RUSSIAN) + "\n",
        "\n".join(RUSSIAN) + "\n",
    ],
    (CLIENTS, "OpenAI's client"): [
        RUSSIAN[4],
        "customer='Harbour board' total=1234.5 tax=None\n",
    ],
}
"""What the Python examples of each section print."""
CURL = {
    OCR_SECTION,
    CHAT_SECTION,
    (CLIENTS, "Routes"),
    (CLIENTS, "Documents"),
    (CLIENTS, "Data from documents"),
    (CLIENTS, "Several files"),
    (CLIENTS, "Streaming"),
    (CLIENTS, "Where the text stands"),
}
"""Sections whose shell examples are calls of curl."""

Section = tuple[str, str]


def blocks(section: Section, language: str) -> list[str]:
    document, heading = section
    return [code for kind, code in examples(SECTIONS[document][heading]) if kind == language]


def run(command: list[str], code: str, server: Server, cwd: Path = ROOT) -> str:
    """What an example prints; only the port and the folder may be others."""
    done = subprocess.run(
        [*command, code.replace("localhost:8000", f"localhost:{server.port}")],
        cwd=cwd,
        env=os.environ | {"CHATVLM_URL": f"http://localhost:{server.port}"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def shell(code: str, server: Server, cwd: Path = ROOT) -> str:
    return run(["bash", "-ec"], code, server, cwd)


def curl(section: Section, server: Server) -> list[Any]:
    return [json.loads(shell(code, server)) for code in blocks(section, "bash")]


def test_every_example_is_run() -> None:
    of_language = {
        "bash": {*CURL, *SHELLS, *JSON_BODIES, *NOT_RUN_HERE},
        "python": set(PYTHON),
    }
    for language, covered in of_language.items():
        assert covered == {
            (document, heading)
            for document, parts in SECTIONS.items()
            for heading in parts
            if blocks((document, heading), language)
        }


@pytest.mark.parametrize("section", [OCR_SECTION, CHAT_SECTION])
def test_an_answer_is_the_one_that_is_shown(section: Section, reader: Server) -> None:
    [answer] = curl(section, reader)
    [shown] = map(json.loads, blocks(section, "json"))
    for line in answer["lines"]:
        assert " ".join(word["text"] for word in line.pop("words")) == line["text"]
    assert answer | {"processing_time": 0} == shown | {"processing_time": 0}
    assert list(answer) == list(shown)


def test_a_page_is_the_body(reader: Server) -> None:
    [answer] = curl((CLIENTS, "Routes"), reader)
    assert answer["text"].splitlines()[0] == ENGLISH[0]


def test_a_preview_is_turned(reader: Server) -> None:
    [preview] = curl((CLIENTS, "Where the text stands"), reader)
    assert preview["image_size"] == [260, 796]


def test_a_document_is_read_and_asked_about(reader: Server) -> None:
    section = (CLIENTS, "Documents")
    read, written, taken, asked = curl(section, reader)
    assert json.dumps(read["text"]) in blocks(section, "json")[0]
    assert read["text"] == "\f".join(["\n".join(ENGLISH[:2]), "\n".join(ENGLISH[2:4])])
    # In Markdown a backslash keeps the end of a line.
    assert written["text"].replace("\\\n", "\n").startswith(read["text"])
    assert [page["source"] for page in taken["pages"]] == ["text_layer"] * 3
    assert asked["response"] == ENGLISH[4]


def test_data_are_extracted(reader: Server) -> None:
    section = (CLIENTS, "Data from documents")
    named, typed = curl(section, reader)
    assert named["data"] == {"date": "12.03.2024", "total": "1,234.50", "tax": None}
    [shown] = blocks(section, "json")
    for field in ("data", "valid", "pages"):
        assert json.dumps({field: typed[field]})[1:-1] in shown


def test_several_files_are_read(reader: Server) -> None:
    [answer] = curl((CLIENTS, "Several files"), reader)
    image, document = answer["results"]
    assert image["text"] == "\n".join(RUSSIAN)
    assert len(document["pages"]) == 3


def test_an_answer_is_streamed(reader: Server) -> None:
    [code] = blocks((CLIENTS, "Streaming"), "bash")
    *pieces, answer = shell(code, reader).strip().split("\n\n")
    texts = [json.loads(piece.removeprefix("event: piece\ndata: "))["text"] for piece in pieces]
    assert json.loads(answer.removeprefix("event: answer\ndata: "))["response"] == "".join(texts)
    assert texts == [RUSSIAN[4]]


@pytest.mark.parametrize("section", JSON_BODIES)
def test_json_is_sent(section: Section, reader: Server) -> None:
    answer = json.loads(shell(blocks(section, "bash")[-1], reader))
    assert (answer["text"], answer["language"]) == ("\n".join(RUSSIAN), "Russian")


@pytest.mark.parametrize("section", SHELLS)
def test_the_command_reads_many_files_and_asks(
    section: Section, reader: Server, tmp_path: Path
) -> None:
    for path in ROOT.iterdir():  # a clone in which a folder may be made
        (tmp_path / path.name).symlink_to(path)
    assert shell(blocks(section, "bash")[0], reader, tmp_path) == f"{RUSSIAN[4]}\n"
    assert (tmp_path / "texts/page_ru.png.txt").read_text() == "\n".join(RUSSIAN) + "\n"
    assert len((tmp_path / "texts/minutes.pdf.txt").read_text().split("\f")) == 3


@pytest.mark.parametrize("section", PYTHON)
def test_python_examples_print_what_they_should(section: Section, reader: Server) -> None:
    printed = [run([sys.executable, "-c"], code, reader) for code in blocks(section, "python")]
    assert printed == PYTHON[section]
