"""This project's engine beside vLLM's CPU build, in process and over HTTP.

    python -m benchmarks.vllm [--dtype bfloat16]

answers the same requests to the same random checkpoint on both sides in turn, with the same number
of threads, never at the same time. It needs `make peers`. Of the rounds the fastest counts, for
each batch of requests by itself.

- tokens/s: 16 requests with images, all there at the start, each with its own number of new tokens;
- 16 prefills: the seconds of 16 requests of one token;
- a step of 16 rows, or of 1 row: the difference between requests of `FEW` and of `MANY` tokens,
  divided by the number of tokens between them;
- asked again: tokens/s of eight questions about an image of which another question was answered
  before, with the caches of both sides on. They are off for the other figures.
"""

import argparse
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import torch

from benchmarks.support.random_qwen import Asked, make_requests, make_weights
from benchmarks.support.sides import (
    Batch,
    PeerMissing,
    Run,
    Setup,
    Side,
    ours_in_process,
    ours_over_http,
    require_vllm,
    vllm_in_process,
    vllm_over_http,
)
from runners.torch_threads import in_own_thread
from tests.support.models.prompts import page

FEW, MANY = 48, 112
QUESTIONS = 8
QUESTION_TOKENS = 32


@dataclass(frozen=True)
class Figures:
    """What a side is measured by, in the order of the table's rows."""

    rate: float
    """Tokens a second."""
    prefills: float
    """Seconds of 16 prefills."""
    step_of_16: float
    """Milliseconds."""
    step_of_1: float
    """Milliseconds."""
    rate_again: float
    """Tokens a second where an image is asked again."""


ROWS = (
    ("tokens/s", ".1f"),
    ("16 prefills, s", ".2f"),
    ("a step of 16 rows, ms", ".1f"),
    ("a step of 1 row, ms", ".1f"),
    ("asked again, tokens/s", ".1f"),
)
"""Name and format of each figure."""


def with_tokens(requests: Batch, new_tokens: int) -> list[Asked]:
    return [replace(asked, new_tokens=new_tokens) for asked in requests]


def plain_batches(requests: Batch) -> list[Batch]:
    """What is answered with the caches off: a warm-up, then what `figures` reads."""
    return [
        with_tokens(requests, FEW),  # the first run of a shape is slower
        requests,
        with_tokens(requests, 1),
        with_tokens(requests, FEW),
        with_tokens(requests, MANY),
        with_tokens(requests[:1], FEW),
        with_tokens(requests[:1], MANY),
    ]


def again_batches(requests: Batch) -> list[Batch]:
    """What is answered with the caches on: a warm-up, the first question, then the others."""
    question = replace(requests[0], image=page(640, 640), new_tokens=QUESTION_TOKENS)
    first = replace(question, prompt="What is this?")
    others = [replace(question, prompt=f"Question {number}?") for number in range(QUESTIONS)]
    return [with_tokens(requests, QUESTION_TOKENS), [first], others]


def figures(requests: Batch, plain: Sequence[float], again: Sequence[float]) -> Figures:
    """plain, again: seconds of each of `plain_batches` and of `again_batches`."""
    _, own, one, few, many, few_alone, many_alone = plain
    return Figures(
        rate=sum(asked.new_tokens for asked in requests) / own,
        prefills=one,
        step_of_16=(many - few) / (MANY - FEW) * 1e3,
        step_of_1=(many_alone - few_alone) / (MANY - FEW) * 1e3,
        rate_again=QUESTIONS * QUESTION_TOKENS / again[-1],
    )


def fastest(rounds: Sequence[Sequence[Run]]) -> list[float]:
    """The least seconds of each batch, as what else a machine does only slows it."""
    return [min(run.seconds for run in runs) for runs in zip(*rounds, strict=True)]


def table(title: str, ours: Figures, vllm: Figures) -> str:
    lines = [title, "", "| | ours | vLLM | ours / vLLM |", "|---|---|---|---|"]
    for (name, form), our, its in zip(ROWS, astuple(ours), astuple(vllm), strict=True):
        lines.append(f"| {name} | {our:{form}} | {its:{form}} | x{our / its:.2f} |")
    return "\n".join(lines)


def compare(title: str, ours: Side, vllm: Side, requests: Batch, rounds: int) -> None:
    """Prints a table. Raises `RuntimeError` if the sides' prompts differ in length."""
    sides = (ours, vllm)
    plain: list[list[list[Run]]] = [[], []]
    again: list[list[list[Run]]] = [[], []]
    for _ in range(rounds):
        for number, side in enumerate(sides):
            plain[number].append(side(plain_batches(requests), False))
            again[number].append(side(again_batches(requests), True))
        check_prompts(plain[0][-1] + again[0][-1], plain[1][-1] + again[1][-1])
    our, its = (
        figures(requests, fastest(plain[number]), fastest(again[number])) for number in (0, 1)
    )
    print(f"\n{table(title, our, its)}", flush=True)


def check_prompts(ours: Sequence[Run], vllm: Sequence[Run]) -> None:
    """Raises `RuntimeError` if an image became another number of tokens on the other side."""
    for our, its in zip(ours, vllm, strict=True):
        if our.prompt_tokens != its.prompt_tokens:
            raise RuntimeError(f"Prompts have {our.prompt_tokens} and {its.prompt_tokens} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    try:
        require_vllm()
    except PeerMissing as missing:
        raise SystemExit(str(missing)) from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its servers end with it
    torch.set_num_threads(arguments.threads)
    requests = make_requests(16, (16, 128), (100, 640))
    print(f"{arguments.dtype}, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        in_own_thread(lambda: make_weights(Path(folder)))
        setup = Setup(Path(folder), arguments.dtype, arguments.threads)
        for title, ours, vllm in (
            ("In process", ours_in_process(setup), vllm_in_process(setup)),
            ("Over HTTP", ours_over_http(setup), vllm_over_http(setup)),
        ):
            compare(title, ours, vllm, requests, arguments.rounds)


if __name__ == "__main__":
    main()
