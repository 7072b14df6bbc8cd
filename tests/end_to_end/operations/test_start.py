"""The start of a real `bentoml serve` beside others on its machine."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import ENGLISH, encode, render
from tests.support.server import ROOT, Server

PAGE = encode(render(ENGLISH[:1]))
TEXT = ENGLISH[0]


def read(server: Server) -> str:
    answer = server.client.post("/ocr", files={"file": PAGE})
    assert answer.status_code == 200, answer.text
    return answer.json()["text"]


def counted(server: Server) -> bool:
    """Whether the metrics tell of pages that were read."""
    return "chatvlm_model_bytes{" in server.client.get("/metrics").text


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short path, as the sockets in it need."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        yield Path(folder)


def test_two_servers_with_one_home_do_not_disturb_each_other(tmp_path: Path) -> None:
    with Server(models="reader", reader_processes=1, home=tmp_path) as first:
        assert read(first) == TEXT
        with Server(models="reader", reader_processes=1, home=tmp_path) as second:
            assert counted(first)
            assert not counted(second)
            assert (read(first), read(second)) == (TEXT, TEXT)
            assert second.client.delete("/models/reader").status_code == 200
            assert first.client.get("/health").json()["loaded_models"] == ["reader"]
        assert counted(first)
        assert read(first) == TEXT


@pytest.mark.parametrize("options", [True, False], ids=["by options", "by the environment"])
def test_a_port_in_use_ends_the_start_with_one_sentence(
    reader: Server, temporary: Path, options: bool
) -> None:
    command = [sys.executable, "-m", "bentoml", "serve", "service:service"]
    given = ["--host", reader.host, "--port", str(reader.port)]
    run = subprocess.run(
        command + given if options else command,
        cwd=ROOT,
        env=reader.environment
        | {
            "TMPDIR": str(temporary),
            "BENTOML_HOST": reader.host,
            "BENTOML_PORT": str(reader.port),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stdout + run.stderr == (
        f"Error: Port {reader.port} of {reader.host} is in use by another program: stop it, "
        "or choose another port with --port.\n"
    )
    assert list(temporary.iterdir()) == []
    assert read(reader) == TEXT


def test_a_misspelt_setting_is_named_once_however_many_processes_there_are() -> None:
    with Server(models="reader", reader_processes=2, queue_sise=1) as server:
        warning = "CHATVLM_QUEUE_SISE is not a setting and has no effect; the nearest setting is "
        assert server.new_log().count(f"{warning}CHATVLM_QUEUE_SIZE.") == 1
