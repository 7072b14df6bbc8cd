"""Output of the commands: tables for people, JSON for programs."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from chatvlm_client.answers import Models
from chatvlm_client.bulk import Outcome

STYLES = {"read": "green", "skipped": "dim", "failed": "red"}
GIB = 2**30


def as_json(value: BaseModel | dict[str, Any]) -> str:
    """One line of JSON; fields that an answer does not have are left out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    return json.dumps(value, ensure_ascii=False)


def as_fields(outcome: Outcome) -> dict[str, Any]:
    """The fields of one line of `chatvlm ocr --json`."""
    fields = {
        "file": str(outcome.job.source),
        "status": outcome.status,
        "output": outcome.job.output and str(outcome.job.output),
        "error": outcome.error,
        "answer": outcome.answer and outcome.answer.model_dump(mode="json", exclude_unset=True),
    }
    return {name: value for name, value in fields.items() if value is not None}


def progress_bar(console: Console, *, shown: bool) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
        transient=True,
        redirect_stdout=False,  # the texts go there
        redirect_stderr=False,
    )


def summary_table(outcomes: Sequence[Outcome], total: int) -> Table:
    """Table of outcomes. total: files asked for, more than the outcomes after an interruption."""
    table = Table("file", show_footer=True)
    counts = Counter(outcome.status for outcome in outcomes)
    left = total - len(outcomes)
    parts = [f"{number} {status}" for status, number in counts.items()]
    pages = sum(map(_pages, outcomes))
    seconds = sum(outcome.seconds for outcome in outcomes)
    table.add_column("pages", str(pages), justify="right")
    table.add_column("seconds", f"{seconds:.1f}", justify="right")
    table.add_column("result", ", ".join([*parts, f"{left} left"] if left else parts))
    for outcome in outcomes:
        table.add_row(
            Text(str(outcome.job.source)),
            str(_pages(outcome) or ""),
            f"{outcome.seconds:.1f}",
            Text(_result(outcome), STYLES[outcome.status]),
        )
    return table


def model_table(answer: Models) -> Table:
    table = Table("id", "name", "params", "state", "note")
    for model in answer.available:
        notes = ["default"] if model.id == answer.default else []
        if model.memory_bytes:
            notes.append(f"{model.memory_bytes / GIB:.1f} GiB on {model.device}")
        if model.reason:
            notes.append(model.reason)
        cells = (model.id, model.name, model.params, model.state, "; ".join(notes))
        table.add_row(*map(Text, cells))
    return table


def _pages(outcome: Outcome) -> int:
    if outcome.answer is None:
        return 0
    pages = outcome.answer.pages
    return 1 if pages is None else sum(page.status == "success" for page in pages)


def _result(outcome: Outcome) -> str:
    if outcome.error:
        return outcome.error
    warning = outcome.answer and outcome.answer.warning
    return f"{outcome.status}: {warning}" if warning else outcome.status
