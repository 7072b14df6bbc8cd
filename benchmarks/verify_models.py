"""Accuracy, speed and memory of a vision-language model with its real weights, on this machine.

    make verify-models MODEL=qwen3_vl_2b [SAMPLES=DIR]

loads the model as the service does, from CHATVLM_WEIGHTS or the hub, and downloads the weights if
they are missing. All CHATVLM_* settings apply, but nothing is kept for reuse. Then it reads
rendered pages and those of DIR, one by one and all at once. `benchmarks/support/samples.py`
describes the files of DIR; whole texts are read as English.
"""

import argparse
import asyncio
import logging
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jiwer
import torch

from benchmarks.support.samples import collapsed, hits, phrases, truths
from common.catalog import CATALOG, Entry, current_id
from common.deadline import Deadline
from common.failures import Refusal
from common.messages import Answer, Request, single_turn
from common.units import MIB
from runners.vlm.engine import VlmEngine
from settings import Settings, settings
from tests.support.pages import ENGLISH, RUSSIAN, encode, render

LANGUAGES = {"en": ENGLISH, "ru": RUSSIAN}
TIME_LIMIT = 3600.0
"""Seconds a page: a large model on a CPU is slow."""


@dataclass(frozen=True)
class Page:
    name: str
    image: bytes
    truth: str | list[str]
    """The whole text, or phrases that it contains; white space collapsed."""
    language: str | None

    def request(self, max_tokens: int = 2048) -> Request:
        return Request(
            task="ocr",
            turns=single_turn([self.image]),
            language=self.language,
            max_tokens=max_tokens,
        )

    def score(self, text: str) -> str:
        text = collapsed(text)
        if isinstance(self.truth, str):
            return f"{jiwer.cer(self.truth, text):.2%} of characters wrong"
        return f"{hits(self.truth, text)} of {len(self.truth)} phrases"


def main() -> None:
    settings()  # adds the models of CHATVLM_CATALOG
    models = [entry.id for entry in CATALOG.values() if not entry.is_embedded]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=models, type=current_id)
    parser.add_argument("--samples", type=Path, metavar="DIR", help="pages of your own")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("runners").setLevel(logging.INFO)  # a download's progress
    if arguments.samples and not (arguments.samples / "phrases.json").is_file():
        parser.error('DIR needs a file phrases.json: see docs/models.md, "Measure a model"')
    pages = [*rendered(), *(sampled(arguments.samples) if arguments.samples else ())]
    try:
        asyncio.run(verify(CATALOG[arguments.model], pages))
    except Refusal as refusal:
        raise SystemExit(refusal.failure.detail) from None


def rendered() -> Iterator[Page]:
    for language, lines in LANGUAGES.items():
        truth = collapsed("\n".join(lines))
        for name, rotation, noise in (("clean", 0, 0), ("tilted", 3, 0), ("noisy", 0, 40)):
            page = render(lines, font="DejaVuSerif", rotation=rotation, noise=noise)
            yield Page(f"{language}, {name}", encode(page), truth, language)


def sampled(samples: Path) -> Iterator[Page]:
    for path, wanted in phrases(samples).items():
        yield Page(path.name, path.read_bytes(), wanted, None)
    for path, truth in truths(samples).items():
        yield Page(path.name, path.read_bytes(), truth, "en")


async def verify(entry: Entry, pages: list[Page]) -> None:
    """Prints the figures. Raises `Refusal` where the model cannot be loaded or cannot answer."""
    engine = VlmEngine(entry, Settings(reuse_mib=0))
    try:
        began = time.perf_counter()
        await engine.load()
        status = await engine.status()
        loading = time.perf_counter() - began
        print(f"{entry.name} on {status.device} in {status.dtype}, loaded in {loading:.1f} s\n")
        await engine.answer(
            pages[0].request(max_tokens=1), Deadline(TIME_LIMIT)
        )  # the first run is slower
        await one_by_one(engine, pages)
        await all_at_once(engine, pages)
        held = (await engine.status()).memory_bytes or 0
        print(f"Memory: {held / MIB:.0f} MiB when idle, {peak_bytes() / MIB:.0f} MiB at the peak")
    finally:
        await engine.close()


async def one_by_one(engine: VlmEngine, pages: list[Page]) -> None:
    print("| page | reading | tokens | first text, s | tokens/s after it |\n|---|---|---|---|---|")
    for page in pages:
        began = time.perf_counter()
        parts = [
            (time.perf_counter(), part)
            async for part in engine.stream(page.request(), Deadline(TIME_LIMIT))
        ]
        (first, _), (ended, answer) = parts[0], parts[-1]
        assert isinstance(answer, Answer), "a stream ends with its answer"
        tokens = tokens_of(answer)
        rate = (tokens - 1) / (ended - first) if ended > first else 0.0
        score = page.score(answer.text)
        print(f"| {page.name} | {score} | {tokens} | {first - began:.2f} | {rate:.1f} |")


async def all_at_once(engine: VlmEngine, pages: list[Page]) -> None:
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(engine.answer(page.request(), Deadline(TIME_LIMIT)) for page in pages)
    )
    seconds = time.perf_counter() - began
    rate = sum(map(tokens_of, answers)) / seconds
    print(f"\nAll {len(pages)} at once: {rate:.1f} tokens/s, {len(pages) / seconds:.2f} pages/s")


def tokens_of(answer: Answer) -> int:
    assert answer.usage is not None, "every answer of a vision-language model has its usage"
    return answer.usage.completion_tokens


def peak_bytes() -> int:
    """On GPUs, of what was allocated; on the CPU, of the whole process."""
    if torch.cuda.is_available():
        return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
