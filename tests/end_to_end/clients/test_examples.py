"""The examples of the README, as they stand in it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.pages import ENGLISH, RUSSIAN
from tests.support.server import ROOT, Server

README = (ROOT / "README.md").read_text("utf-8")


def examples(section: str, language: str) -> list[str]:
    text = re.split(r"^## ", README.partition(f"\n## {section}\n")[2], maxsplit=1, flags=re.M)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def run(command: list[str], code: str, server: Server) -> str:
    """What it prints, run where the README lies; only the port may be another."""
    code = code.replace("localhost:8000", f"localhost:{server.port}")
    done = subprocess.run([*command, code], cwd=ROOT, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def curl(section: str, server: Server) -> list[dict[str, Any]]:
    return [json.loads(run(["bash", "-c"], code, server)) for code in examples(section, "bash")]


def python(section: str, server: Server) -> list[str]:
    return [run([sys.executable, "-c"], code, server) for code in examples(section, "python")]


def test_a_page_is_read(reader: Server) -> None:
    [answer] = curl("Read a page", reader)
    [shown] = map(json.loads, examples("Read a page", "json"))
    assert answer | {"processing_time": 0} == shown | {"processing_time": 0}
    assert python("Read a page", reader) == ["\n".join(RUSSIAN) + "\n"]


def test_a_page_is_asked_about(reader: Server) -> None:
    [answer] = curl("Ask about it", reader)
    [shown] = map(json.loads, examples("Ask about it", "json"))
    assert answer | {"processing_time": 0} == shown | {"processing_time": 0}


def test_a_document_is_read_and_asked_about(reader: Server) -> None:
    read, asked = curl("Read a document", reader)
    assert json.dumps(read["text"]) in examples("Read a document", "json")[0]
    assert read["text"] == "\f".join(["\n".join(ENGLISH[:2]), "\n".join(ENGLISH[2:4])])
    assert asked["response"] == ENGLISH[4]


def test_several_files_are_read(reader: Server) -> None:
    [answer] = curl("Several files", reader)
    image, document = answer["results"]
    assert image["text"] == "\n".join(RUSSIAN)
    assert len(document["pages"]) == 3


def test_json_is_sent(reader: Server) -> None:
    [answer] = curl("Send JSON", reader)
    assert (answer["text"], answer["language"]) == ("\n".join(RUSSIAN), "Russian")


def test_the_shell_reads_many_files_and_asks(reader: Server, tmp_path: Path) -> None:
    for path in ROOT.iterdir():  # a clone that may be written to
        (tmp_path / path.name).symlink_to(path)
    [code] = examples("From the shell", "bash")
    done = subprocess.run(
        ["bash", "-ec", code],
        cwd=tmp_path,
        env=os.environ | {"CHATVLM_URL": f"http://localhost:{reader.port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, f"{RUSSIAN[4]}\n"), done.stderr
    assert (tmp_path / "texts/page_ru.png.txt").read_text() == "\n".join(RUSSIAN) + "\n"
    assert len((tmp_path / "texts/minutes.pdf.txt").read_text().split("\f")) == 3


def test_python_reads_and_asks(reader: Server) -> None:
    text = "\n".join(RUSSIAN)
    assert python("From Python", reader) == [f"{text}\n1 success\n2 success\n{RUSSIAN[4]}"]


def test_openais_client_is_used(reader: Server) -> None:
    assert python("Use OpenAI's client", reader) == [f"{ENGLISH[4]}\n"]
