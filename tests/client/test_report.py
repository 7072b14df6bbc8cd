"""What the commands print: lines of JSON, and tables."""

import json
from pathlib import Path

from chatvlm_client import Models, Ocr
from chatvlm_client.bulk import Job, Outcome
from chatvlm_client.report import as_fields, as_json, model_table, summary_table
from rich.console import Console
from rich.table import Table

from tests.support.fakes.service import OCR, page

JOB = Job(Path("scan.png"))


def printed(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_json_has_only_the_fields_that_the_service_sent() -> None:
    assert json.loads(as_json(Ocr.model_validate(OCR))) == OCR


def test_json_keeps_letters_of_every_script() -> None:
    assert as_json({"text": "Протокол"}) == '{"text": "Протокол"}'


def test_a_line_of_json_leaves_out_what_the_outcome_does_not_have() -> None:
    failed = Outcome(JOB, "failed", error="The image is broken.")
    assert as_fields(failed) == {
        "file": "scan.png",
        "status": "failed",
        "error": "The image is broken.",
    }
    read = Outcome(
        Job(JOB.source, Path("out/scan.png.txt")), "read", answer=Ocr.model_validate(OCR)
    )
    assert as_fields(read) == {
        "file": "scan.png",
        "status": "read",
        "output": "out/scan.png.txt",
        "answer": OCR,
    }


def test_the_summary_adds_up_pages_and_results() -> None:
    document = Ocr.model_validate({**OCR, "pages": [page(1, "one"), page(2, None), page(3, "two")]})
    warned = Ocr.model_validate({**OCR, "warning": "Blank."})
    outcomes = [
        Outcome(JOB, "read", 1.5, document),
        Outcome(JOB, "read", 1.0, warned),
        Outcome(JOB, "failed", error="It is [broken]."),
    ]
    text = printed(summary_table(outcomes, total=5))
    assert "2 read, 1 failed, 2 left" in text
    assert "read: Blank." in text
    assert "It is [broken]." in text
    last = [cell.strip() for cell in text.splitlines()[-2].split("│")]
    assert last[2:4] == ["3", "2.5"]


def test_the_models_are_listed_with_their_memory_and_reasons() -> None:
    loaded = {
        "id": "got_ocr",
        "name": "GOT-OCR 2.0",
        "params": "580M",
        "state": "loaded",
        "device": "cpu",
        "memory_bytes": 3 * 2**29,
    }
    unavailable = {**loaded, "id": "dots_ocr", "state": "unavailable", "reason": "No [weights]."}
    unavailable["memory_bytes"] = None
    answer = Models.model_validate(
        {"available": [loaded, unavailable], "loaded": ["got_ocr"], "default": "got_ocr"}
    )
    text = printed(model_table(answer))
    assert "default; 1.5 GiB on cpu" in text
    assert "No [weights]." in text
