"""The schemes that `benchmarks.batching` and `benchmarks.serving` run in this process."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers import ProcessorMixin, Qwen3VLForConditionalGeneration

from benchmarks.support.random_qwen import Asked
from common.deadline import Deadline
from runners.families.qwen_vl import QwenVl
from runners.metrics import Metrics
from runners.scheduling.row import GREEDY, Row, Sampling
from runners.torch_threads import in_own_thread
from runners.vlm.batcher import Batcher
from runners.vlm.interface import Encoded, ModelRequest, ModelTurn, Task, Vlm
from runners.vlm.request_images import ImageMemory
from settings import Settings

ROUNDS = 2
TOKEN_GAP: float = Settings.model_fields["token_gap_ms"].default / 1000
"""Seconds; the service's own default."""


@dataclass(frozen=True)
class Measured:
    seconds: float
    """Until the last answer."""
    mean_wait: float
    """From a request's arrival to its answer, seconds."""
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


Scheme = Callable[[Sequence[Asked], Sequence[float]], Measured]
"""Requests and the seconds after which each arrives, ascending."""


def compare(
    title: str,
    requests: Sequence[Asked],
    arrivals: Sequence[float],
    schemes: dict[str, Scheme],
    rounds: int = ROUNDS,
) -> dict[str, Measured]:
    """Prints each scheme's figures, and the last scheme's as ratios to each of them.

    Of several rounds in turn the fastest counts, as what else a machine does only slows it.
    """
    runs: dict[str, list[Measured]] = {name: [] for name in schemes}
    for _ in range(rounds):
        for name, scheme in schemes.items():
            runs[name].append(in_own_thread(partial(scheme, requests, arrivals)))
    fastest = {name: max(figures, key=lambda run: run.rate) for name, figures in runs.items()}
    best = list(schemes)[-1]
    ours = fastest[best]
    print(
        f"\n{title}\n\n| | tokens/s | s to an answer | {best}: tokens/s | s to an answer |\n"
        "|---|---|---|---|---|"
    )
    for name, run in fastest.items():
        faster, wait = ours.rate / run.rate, ours.mean_wait / run.mean_wait
        figures = f"{run.rate:.1f} | {run.mean_wait:.2f} | x{faster:.2f} | x{wait:.2f}"
        print(f"| {name} | {figures} |", flush=True)
    return fastest


def generating(
    model: Qwen3VLForConditionalGeneration, processor: ProcessorMixin, batch: int
) -> Scheme:
    """The library's `generate` on up to `batch` requests that are there."""

    def run(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        start, waits, done = time.monotonic(), [], 0
        while done < len(requests):
            while time.monotonic() - start < arrivals[done]:
                time.sleep(0.001)
            now = time.monotonic() - start
            end = done + 1
            while end < len(requests) and end - done < batch and arrivals[end] <= now:
                end += 1
            generate(model, processor, requests[done:end])
            now = time.monotonic() - start
            waits += [now - arrival for arrival in arrivals[done:end]]
            done = end
        tokens = sum(asked.new_tokens for asked in requests)
        return Measured(time.monotonic() - start, sum(waits) / len(waits), tokens)

    return run


@torch.inference_mode()
def generate(
    model: Qwen3VLForConditionalGeneration, processor: ProcessorMixin, requests: Sequence[Asked]
) -> list[list[int]]:
    """The new tokens of each; the batch goes on until the longest is done."""
    turns = [
        [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": asked.image},
                    {"type": "text", "text": asked.prompt},
                ],
            }
        ]
        for asked in requests
    ]
    inputs = processor.apply_chat_template(
        turns,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    inputs = inputs.to(model.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    longest = max(asked.new_tokens for asked in requests)
    made = model.generate(**inputs, max_new_tokens=longest)[:, inputs["input_ids"].shape[1] :]
    return [row[: asked.new_tokens] for row, asked in zip(made.tolist(), requests, strict=True)]


def batching(vlm: QwenVl) -> Scheme:
    """This project's batcher, as the service runs it."""

    def run(requests: Sequence[Asked], arrivals: Sequence[float]) -> Measured:
        batcher = make_batcher(vlm)
        batcher.start()
        waits: list[float] = []
        rows: list[Row] = []

        def note(due: float, _: object) -> None:
            waits.append(time.monotonic() - due)

        start = time.monotonic()
        for asked, arrival in zip(requests, arrivals, strict=True):
            while time.monotonic() - start < arrival:
                time.sleep(0.001)
            row = make_row(encode(vlm, asked), asked.new_tokens)
            row.future.add_done_callback(partial(note, start + arrival))
            batcher.submit(row)
            rows.append(row)
        tokens = sum(len(row.future.result().tokens) for row in rows)
        seconds = time.monotonic() - start
        batcher.close()
        vlm.forget()  # what is kept for reuse is kept within one run
        return Measured(seconds, sum(waits) / len(waits), tokens)

    return run


def make_batcher(
    vlm: Vlm,
    token_gap: float = TOKEN_GAP,
    kv_budget: int = 2**40,
    after_tokens: Callable[[], object] = lambda: None,
) -> Batcher:
    """A batcher that admits every request of a benchmark unless `kv_budget` is smaller, in bytes.

    token_gap: seconds, see `PrefillBudget`. after_tokens: see `Batcher`.
    """
    return Batcher(
        vlm,
        Metrics("benchmark"),
        lambda held: kv_budget,
        step_target=60.0,
        token_gap=token_gap,
        after_tokens=after_tokens,
    )


def encode(vlm: QwenVl, asked: Asked) -> Encoded:
    turn = ModelTurn("user", (ImageMemory().image(asked.png), asked.prompt))
    return vlm.encode(ModelRequest(Task("chat"), (turn,), asked.new_tokens))


def make_row(encoded: Encoded, new_tokens: int, sampling: Sampling = GREEDY) -> Row:
    return Row(encoded, new_tokens, Deadline(math.inf), sampling)
