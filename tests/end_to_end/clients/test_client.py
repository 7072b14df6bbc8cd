"""The client with a real server, and in an environment where nothing else is installed."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from chatvlm_client import AsyncChatVLMClient, Chat, ChatVLMClient, ChatVLMError, PageError, Piece
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.files.documents import pdf
from tests.support.pages import ENGLISH, LONG_PAGE, encode, render
from tests.support.server import RAMBLING, ROOT, SAYS, Server
from tests.support.watching import busy, until

COMMAND = Path(sys.executable).with_name("chatvlm")
PAGE = encode(render(ENGLISH))
TEXT = "\n".join(ENGLISH)


def needed(requirements: list[str]) -> set[str]:
    """The installed distributions that these requirements need, with those that they need."""
    found: set[str] = set()
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found |= {
            canonicalize_name(requirement.name),
            *needed(distribution(requirement.name).requires or []),
        }
    return found


@pytest.fixture(scope="module")
def fresh_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the client, its declared dependencies and nothing else.

    The dependencies are those installed here, so that no network is needed.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    project = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
    for name in needed(project["dependencies"]):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (packages / top).symlink_to(distribution(name).locate_file(top))
    pip = [sys.executable, "-m", "pip", "--quiet"]
    alone = ["--no-index", "--no-deps"]
    build = ["wheel", *alone, "--no-build-isolation", "--wheel-dir", folder, ROOT / "client"]
    subprocess.run([*pip, *build], check=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    into = ["--python", folder / "bin/python"]
    subprocess.run([*pip, *into, "install", *alone, wheel], check=True, timeout=120)
    return folder / "bin"


def run(*words: object, cwd: Path = ROOT, server: Server) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | {"CHATVLM_URL": f"http://127.0.0.1:{server.port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def client(server: Server) -> ChatVLMClient:
    return ChatVLMClient(f"http://127.0.0.1:{server.port}")


@pytest.mark.parametrize("command", [["chatvlm"], ["python", "-m", "chatvlm_client"]])
def test_it_needs_neither_torch_nor_bentoml(
    command: list[str], fresh_environment: Path, reader: Server, tmp_path: Path
) -> None:
    (tmp_path / "page.png").write_bytes(PAGE)
    for name in ("torch", "bentoml"):
        importing = [fresh_environment / "python", "-c", f"import {name}"]
        assert subprocess.run(importing, stderr=subprocess.DEVNULL).returncode == 1
    program, *words = command
    read = run(fresh_environment / program, *words, "ocr", "page.png", cwd=tmp_path, server=reader)
    assert read == f"{TEXT}\n"


def test_the_environment_of_the_service_has_the_command(reader: Server) -> None:
    models = json.loads(run(COMMAND, "models", "--json", server=reader))
    assert models["default"] == "reader"


def test_a_broken_page_of_a_document_is_an_error_of_that_page(reader: Server) -> None:
    answer = client(reader).read(pdf(ENGLISH, None))
    assert answer.text == f"{TEXT}\f"
    assert answer.pages is not None
    assert isinstance(answer.pages[1], PageError)


def test_a_batch_is_answered_in_order(reader: Server) -> None:
    batch = client(reader).batch([PAGE, b"no image"], language="English")
    assert [item.status for item in batch.results] == ["success", "error"]


def test_an_upload_refused_while_it_arrives_has_the_services_sentence(reader: Server) -> None:
    with pytest.raises(ChatVLMError, match=r"^The (file|request) .* 10 MB\.$") as raised:
        client(reader).ocr(bytes(30 * 2**20))
    assert raised.value.status == 413


def test_a_model_is_loaded_and_unloaded(reader: Server) -> None:
    assert client(reader).load("reader").message == "Model reader loaded"
    assert client(reader).unload("reader").message == "Model reader unloaded"
    with pytest.raises(ChatVLMError, match=r"^Model 'reader' is not loaded\.$"):
        client(reader).unload("reader")


async def test_the_async_client_reads_asks_and_streams(reader: Server) -> None:
    async with AsyncChatVLMClient(f"http://127.0.0.1:{reader.port}") as awaited:
        assert (await awaited.health())["status"] == "healthy"
        assert await awaited.ocr(PAGE) == TEXT
        assert await awaited.chat(PAGE, "When is the next meeting?") == ENGLISH[4]
        events = [event async for event in awaited.stream(PAGE, "Read the text")]
        assert "".join(event.text for event in events if isinstance(event, Piece)) == TEXT


def test_a_models_answer_streams_piece_by_piece(fleet: Server) -> None:
    *pieces, answer = client(fleet).stream(PAGE, "What is it?", model="qwen3_vl_2b", temperature=0)
    assert len(pieces) > 1
    assert isinstance(answer, Chat)
    assert answer.response == SAYS["qwen3_vl_2b"]


def test_a_closed_stream_frees_its_row(fleet: Server) -> None:
    stream = client(fleet).stream(PAGE, "Go on", model=RAMBLING, temperature=0, max_tokens=4096)
    assert isinstance(next(stream), Piece)
    until(lambda: busy(fleet, RAMBLING) == 1)
    stream.close()
    until(lambda: busy(fleet, RAMBLING) == 0)


def test_an_interrupted_run_keeps_the_texts_that_are_done(reader: Server, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PAGE)
    (tmp_path / "b.png").write_bytes(LONG_PAGE)
    texts = tmp_path / "texts"
    with subprocess.Popen(
        [COMMAND, "ocr", tmp_path, "--out", texts],
        cwd=ROOT,
        env=os.environ | {"CHATVLM_URL": f"http://127.0.0.1:{reader.port}"},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        until(lambda: (texts / "a.png.txt").exists())
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    assert running.returncode == 130
    assert re.search(r"1 read, 1 left", said)
    assert "Traceback" not in said
    assert [path.name for path in texts.iterdir()] == ["a.png.txt"]
    until(lambda: busy(reader, "reader") == 0)
