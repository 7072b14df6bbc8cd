"""Many files: where their texts go, what is done already, and what becomes of failures."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from chatvlm_client.bulk import Job, Outcome, UsageError, plan_jobs, read_all

from tests.support.fakes.service import OCR, async_client, document, fields, page, refusal


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for name in ("a.pdf", "a.png", "2024/a.pdf", "notes.md"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "texts"


async def outcomes(
    jobs: list[Job], service: Callable[[httpx.Request], httpx.Response], **more: bool
) -> dict[str, Outcome]:
    ended: list[Outcome] = []
    async with async_client(service) as client:
        await read_all(client, jobs, {}, ended.append, parallel=2, **more)
    return {outcome.job.source.name: outcome for outcome in ended}


def says(text: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(200, json={**OCR, "text": text})


def test_texts_keep_the_subfolders_and_suffixes_of_a_folder(scans: Path, out: Path) -> None:
    assert {str(job.output) for job in plan_jobs([scans], out)} == {
        f"{out}/{name}.txt" for name in ("a.pdf", "a.png", "2024/a.pdf")
    }


def test_selected_pages_have_a_text_file_of_their_own(scans: Path, out: Path) -> None:
    [job] = plan_jobs([scans / "a.pdf"], out, "1-3")
    assert job.output == out / "a.pdf.1-3.txt"


def test_a_file_given_twice_is_read_once(scans: Path, out: Path) -> None:
    assert len(plan_jobs([scans / "a.pdf", scans / "a.pdf"], out)) == 1


def test_two_files_with_one_output_are_refused(scans: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="would both be written"):
        plan_jobs([scans / "a.pdf", scans / "2024" / "a.pdf"], out)


@pytest.mark.parametrize("name", ["b.pdf", "empty"])
def test_a_missing_path_is_refused_before_anything_is_read(name: str, scans: Path) -> None:
    (scans / "empty").mkdir()
    with pytest.raises(UsageError, match=rf"There is no .*{name}'\.$"):
        plan_jobs([scans / "a.pdf", scans / name], None)


async def test_a_second_run_reads_only_files_that_have_changed(scans: Path, out: Path) -> None:
    jobs = plan_jobs([scans], out)
    await outcomes(jobs, says("first"))
    later = (scans / "a.png").stat().st_mtime + 10
    os.utime(scans / "a.png", (later, later))
    second = await outcomes(jobs, says("second"))
    assert {second["a.pdf"].status, second["a.png"].status} == {"skipped", "read"}
    assert (out / "a.png.txt").read_text() == "second\n"
    assert (out / "a.pdf.txt").read_text() == "first\n"
    assert (await outcomes(jobs, says("third"), force=True))["a.pdf"].status == "read"


async def test_a_failed_file_does_not_affect_the_others(scans: Path, out: Path) -> None:
    def service(request: httpx.Request) -> httpx.Response:
        if fields(request)["file"] == "a.png":
            return refusal("The image is broken.", 400)
        return httpx.Response(200, json=OCR)

    ended = await outcomes(plan_jobs([scans / "a.pdf", scans / "a.png"], out), service)
    assert (ended["a.png"].status, ended["a.png"].error) == ("failed", "The image is broken.")
    assert ended["a.pdf"].status == "read"
    assert os.listdir(out) == ["a.pdf.txt"]


async def test_failed_pages_are_requested_again(scans: Path, out: Path) -> None:
    asked = []

    def service(request: httpx.Request) -> httpx.Response:
        asked.append(fields(request).get("pages"))
        if asked[-1] is None:
            return document(page(1, "one"), page(2, None), page(3, None))
        return document(page(2, "two"), page(3, "three"))

    await outcomes(plan_jobs([scans / "a.pdf"], out), service)
    assert asked == [None, "2,3"]
    assert (out / "a.pdf.txt").read_text() == "one\ftwo\fthree\n"


async def test_an_incomplete_text_goes_to_another_file(scans: Path, out: Path) -> None:
    def service(request: httpx.Request) -> httpx.Response:
        if "pages" in fields(request):
            return refusal("Page 2 is broken.", 400)
        return document(page(1, "one"), page(2, None))

    jobs = plan_jobs([scans / "a.pdf"], out)
    ended = await outcomes(jobs, service)
    assert (ended["a.pdf"].status, ended["a.pdf"].error) == (
        "failed",
        "Without page 2: Page 2 is broken.",
    )
    assert os.listdir(out) == ["a.pdf.incomplete.txt"]
    await outcomes(jobs, says("all of it"))
    assert os.listdir(out) == ["a.pdf.txt"]


async def test_an_output_folder_that_cannot_be_made_fails_before_the_request(scans: Path) -> None:
    out = scans / "a.png"  # a file

    def service(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it was asked")

    ended = await outcomes(plan_jobs([scans / "a.pdf"], out), service)
    assert ended["a.pdf"].error == f"File exists: '{out}'."


async def test_a_text_is_written_completely_or_not_at_all(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chatvlm_client.bulk.os.fsync", full)
    ended = await outcomes(plan_jobs([scans / "a.pdf"], out), says("text"))
    assert ended["a.pdf"].error == f"No space left on device: '{out / 'a.pdf.txt'}'."
    assert os.listdir(out) == []
