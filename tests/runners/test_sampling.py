import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TopPLogitsWarper

from runners.sampling import (
    GREEDY,
    LONGEST_PERIOD,
    Detokeniser,
    Repetition,
    Sampling,
    StopTexts,
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


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_a_token_is_drawn_from_the_nucleus_that_the_library_keeps(top_p):
    logits = 3 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    kept = TopPLogitsWarper(top_p)(None, logits[None] / 1.5)[0].softmax(-1)
    rows = [Sampling(1.5, torch.Generator().manual_seed(seed), top_p) for seed in range(3000)]
    share = next_tokens(logits.expand(len(rows), -1), rows).bincount(minlength=40) / len(rows)
    assert not share[kept == 0].any()
    assert torch.allclose(share, kept, atol=0.03)


def test_a_nucleus_changes_nothing_for_the_neighbours():
    logits = torch.randn(3, 50)
    rows = [GREEDY, seeded(1.0, 3), Sampling(1.0, torch.Generator().manual_seed(0), 0.01)]
    alone = next_tokens(logits[1:2], [seeded(1.0, 3)])
    greedy, drawn, nucleus = next_tokens(logits, rows)
    assert (greedy, drawn, nucleus) == (logits[0].argmax(), alone[0], logits[2].argmax())


def test_the_logits_are_left_as_they_were():
    logits = torch.randn(2, 9)
    before = logits.clone()
    next_tokens(logits, [seeded(1.0, 0), Sampling(1.0, None, 0.5)])
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


def stopped(pieces: list[str], stops: list[str]) -> str:
    """What is shown of the pieces."""
    stop = StopTexts(stops)
    shown = ""
    for piece in pieces:
        shown += stop.add(piece)
        if stop.met:
            return shown
    return shown + stop.rest()


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.text("ab", max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_a_text_ends_before_the_first_stop_text_that_is_whole(pieces, stops):
    whole_text = "".join(pieces)
    ends = [whole_text.find(stop) for stop in stops if stop in whole_text]
    shown = stopped(list(whole_text), stops)
    if not ends:
        assert shown == stopped(pieces, stops) == whole_text
    else:
        assert whole_text.startswith(shown)
        assert any(whole_text[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 99])
def test_a_stop_text_is_found_however_the_text_is_cut(size):
    text = "one two<stop>three"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert stopped(pieces, ["<stop>", "four"]) == "one two"


def test_what_may_begin_a_stop_text_is_shown_once_it_does_not():
    stop = StopTexts(["<stop>"])
    assert [stop.add(piece) for piece in ("a<", "st", "<s", "tay")] == ["a", "", "<st", "<stay"]
    assert (stop.rest(), stop.met) == ("", False)


def test_without_stop_texts_nothing_is_held_back():
    stop = StopTexts([])
    assert (stop.add("any"), stop.rest(), stop.met) == ("any", "", False)
