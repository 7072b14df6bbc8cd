import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.sampling import (
    GREEDY,
    LONGEST_PERIOD,
    Detokeniser,
    Repetition,
    Sampling,
    next_tokens,
    whole,
)


def seeded(temperature: float, seed: int) -> Sampling:
    return Sampling(temperature, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_greedy_row_takes_the_argmax_beside_any_neighbour(dtype):
    logits = torch.randn(4, 50).to(dtype)
    best = logits.argmax(-1)
    assert torch.equal(next_tokens(logits, [GREEDY] * 4), best)
    mixed = next_tokens(logits, [GREEDY, seeded(2.0, 0), GREEDY, seeded(2.0, 1)])
    assert torch.equal(mixed[::2], best[::2])


def test_a_seeded_row_draws_the_same_whoever_its_neighbours_are():
    logits = torch.randn(3, 50)
    alone = [next_tokens(logits[1:2], [seeded(1.0, seed)]).item() for seed in range(20)]
    among = [
        next_tokens(logits, [seeded(0.5, 99), seeded(1.0, seed), GREEDY])[1].item()
        for seed in range(20)
    ]
    assert alone == among
    assert len(set(alone)) > 1


def test_tokens_are_drawn_as_often_as_softmax_says():
    logits, temperature, draws = torch.tensor([0.0, 1.0, 2.0, -1.0]), 1.5, 20_000
    generator = torch.Generator().manual_seed(0)
    rows = [Sampling(temperature, generator)] * draws
    drawn = next_tokens(logits.expand(draws, -1), rows)
    share = drawn.bincount(minlength=4) / draws
    assert torch.allclose(share, (logits / temperature).softmax(-1), atol=0.01)


def test_the_logits_are_left_as_they_were():
    logits = torch.randn(2, 9)
    before = logits.clone()
    next_tokens(logits, [seeded(1.0, 0)] * 2)
    assert torch.equal(logits, before)


def watch(tokens: list[int]) -> tuple[int, int | None]:
    """How many tokens were taken, and how many of them a loop leaves."""
    repetition = Repetition(len(tokens))
    for taken, token in enumerate(tokens, start=1):
        kept = repetition.add(token)
        if kept is not None:
            return taken, kept
    return len(tokens), None


@pytest.mark.parametrize("period", [1, 2, 3, 7, 40, 200, LONGEST_PERIOD])
def test_a_loop_is_cut_to_one_period(period):
    start, loop = list(range(1000, 1050)), list(range(period))
    taken, kept = watch(start + loop * (2000 // period))
    assert kept == len(start) + period
    assert taken <= len(start) + max(512, 3 * period) + period


def test_a_loop_that_repeats_a_token_within_itself_is_cut_to_its_own_period():
    assert watch([5, 5, 6, 6, 5, 7] * 200)[1] == 6


@pytest.mark.parametrize(
    "page",
    [
        pytest.param([token for line in range(60) for token in (line, *[9] * 60)], id="leaders"),
        pytest.param([1, 2] * 100, id="a row of a hundred empty cells"),
        pytest.param(([1, 2] * 12 + [3]) * 20, id="twenty equal rows of a table"),
        pytest.param(
            [t for row in range(90) for t in (1, 2, 1, 2, 100 + row, 3)], id="numbered rows"
        ),
        pytest.param(list(range(200)) * 2, id="a paragraph twice"),
    ],
)
def test_what_a_page_repeats_is_no_loop(page):
    assert watch(page) == (len(page), None)


def utf8(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=40))
def test_pieces_are_whole_characters_and_make_up_the_text(text):
    text = whole(text)
    detokeniser = Detokeniser(utf8)
    pieces = [detokeniser.add(byte) for byte in text.encode()]
    assert "".join(pieces) == text
    assert all(len(piece) <= 1 for piece in pieces)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=60))
def test_pieces_make_up_the_text_of_any_bytes(data):
    detokeniser = Detokeniser(utf8)
    assert "".join(map(detokeniser.add, data)) == whole(utf8(list(data)))


def test_a_character_that_the_end_cuts_is_left_out():
    detokeniser = Detokeniser(utf8)
    assert "".join(map(detokeniser.add, "Жук".encode()[:-1])) == "Жу"
    assert whole(utf8(list("Жук".encode()[:-1]))) == "Жу"


def test_only_the_unfinished_character_is_decoded_again():
    lengths: list[int] = []

    def text(tokens):
        lengths.append(len(tokens))
        return utf8(tokens)

    detokeniser = Detokeniser(text)
    for byte in ("Съешь ещё этих мягких французских булок 😀" * 20).encode():
        detokeniser.add(byte)
    assert max(lengths) == 4
