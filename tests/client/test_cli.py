"""The command line: exit codes, what goes to stdout, and sentences instead of tracebacks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from chatvlm_client.cli import main

from tests.support.fakes.service import OCR, async_client, client, fields, refusal

MODEL = {"id": "[bold]", "name": "Qwen", "params": "2B", "state": "unavailable", "reason": "[why]"}
MODELS = {"available": [MODEL], "loaded": [], "default": "[bold]"}


class Run:
    """One command: its exit code and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], words: Sequence[object]) -> None:
        try:
            self.code = main([str(word) for word in words])
        except SystemExit as exit:
            self.code = int(exit.code or 0)
        self.out, self.err = capsys.readouterr()
        assert "Traceback" not in self.out + self.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setenv("COLUMNS", "200")

    def run(service: Callable[[httpx.Request], httpx.Response], *words: object) -> Run:
        monkeypatch.setattr("chatvlm_client.cli.ChatVLMClient", lambda url: client(service))
        monkeypatch.setattr(
            "chatvlm_client.cli.AsyncChatVLMClient", lambda url: async_client(service)
        )
        return Run(capsys, words)

    return run


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    scans = [tmp_path / f"{name}.png" for name in "abc"]
    for scan in scans:
        scan.write_bytes(b"page")
    return scans


def reads(request: httpx.Request) -> httpx.Response:
    """All but b.png."""
    name = fields(request)["file"]
    if name == "b.png":
        return refusal("The image is [broken].", 400)
    return httpx.Response(200, json={**OCR, "text": f"Текст {name}"})


def nobody(request: httpx.Request) -> httpx.Response:
    raise AssertionError("it was asked")


def test_texts_are_printed_in_order_and_the_table_to_stderr(run, scans: list[Path]) -> None:
    done = run(reads, "ocr", scans[2], scans[0])
    assert (done.code, done.out) == (0, "Текст c.png\nТекст a.png\n")
    assert "2 read" in done.err


def test_the_exit_code_is_1_if_a_file_failed_and_the_table_says_why(run, scans: list[Path]) -> None:
    out = scans[0].parent / "texts"
    done = run(reads, "ocr", *scans, "--out", out)
    assert (done.code, done.out) == (1, "")
    assert "The image is [broken]." in done.err
    assert "1 failed" in done.err
    again = run(reads, "ocr", *scans, "--out", out)
    assert "2 skipped" in again.err


def test_json_is_one_line_per_file_and_nothing_else(run, scans: list[Path]) -> None:
    done = run(reads, "ocr", *scans, "--json")
    lines = {line["file"]: line for line in map(json.loads, done.out.splitlines())}
    assert (done.code, done.err) == (1, "")
    assert lines[str(scans[0])]["answer"]["text"] == "Текст a.png"
    assert lines[str(scans[1])] == {
        "file": str(scans[1]),
        "status": "failed",
        "error": "The image is [broken].",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["ocr"],
        ["ocr", "missing.png"],
        ["ocr", __file__, "--parallel", "0"],
        ["ocr", __file__, "--pages", "../1"],
        ["models", "--url", "localhost:8000"],
        ["read"],
    ],
)
def test_the_exit_code_is_2_for_wrong_usage(run, words: list[str]) -> None:
    done = run(nobody, *words)
    assert (done.code, done.out) == (2, "")
    assert "error: " in done.err


def test_the_exit_code_is_130_after_an_interruption(run, scans: list[Path]) -> None:
    def interrupted(request: httpx.Request) -> httpx.Response:
        if fields(request)["file"] == "b.png":
            raise KeyboardInterrupt
        return reads(request)

    out = scans[0].parent / "texts"
    done = run(interrupted, "ocr", *scans, "--parallel", 1, "--out", out)
    assert done.code == 130
    assert "1 read, 2 left" in done.err
    assert [path.name for path in out.iterdir()] == ["a.png.txt"]


@pytest.mark.parametrize(
    "words", [["models"], ["load", "qwen"], ["unload", "qwen"], ["chat", __file__, "Why?"]]
)
def test_an_error_of_the_service_is_printed_and_the_exit_code_is_1(run, words: list[str]) -> None:
    def refuses(request: httpx.Request) -> httpx.Response:
        return refusal("There is no such model.", 404)

    done = run(refuses, *words)
    assert (done.code, done.out, done.err) == (1, "", "There is no such model.\n")
    done = run(refuses, *words, "--json")
    assert (done.code, json.loads(done.out)) == (1, {"error": "There is no such model."})


def test_a_question_about_a_missing_file_fails(run) -> None:
    done = run(nobody, "chat", "missing.png", "Why?")
    assert (done.code, done.err) == (1, "No such file or directory: 'missing.png'.\n")


def test_the_table_of_models_shows_markup_as_text(run) -> None:
    def lists(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=MODELS)

    done = run(lists, "models")
    assert "[bold]" in done.out
    assert "default; [why]" in done.out
    assert json.loads(run(lists, "models", "--json").out) == MODELS


def test_text_layers_are_asked_for_with_an_option(run, scans: list[Path]) -> None:
    def notes(request: httpx.Request) -> httpx.Response:
        sent.append(fields(request).get("text_layer"))
        return reads(request)

    sent: list[object] = []
    assert run(notes, "ocr", scans[0], "--text-layer", "auto").code == 0
    assert run(notes, "ocr", scans[0]).code == 0
    assert sent == ["auto", None]
    assert run(nobody, "ocr", scans[0], "--text-layer", "always").code == 2
