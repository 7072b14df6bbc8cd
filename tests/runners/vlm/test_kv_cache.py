import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runners.vlm.kv_cache import KvCache
from tests.support.models.text_vlm import TextVlm, encode

LAYERS, HEADS, SIZE = 2, 2, 3
Layers = list[tuple[Tensor, Tensor]]


def states(rows: int, columns: int) -> Layers:
    shape = (rows, HEADS, columns, SIZE)
    return [(torch.randn(shape), torch.randn(shape)) for _ in range(LAYERS)]


def step(cache: KvCache) -> tuple[Layers, Layers]:
    """What is written and what attention sees, of every layer."""
    new = states(len(cache.lengths), 1)
    return new, [cache.update(*pair, index) for index, pair in enumerate(new)]


class Naive:
    """The same rows as lists of tensors that are concatenated."""

    def __init__(self) -> None:
        self.rows: list[Layers] = []

    def append(self, new: Layers) -> None:
        for row, layers in enumerate(self.rows):
            self.rows[row] = [
                (torch.cat([k, nk[row : row + 1]], 2), torch.cat([v, nv[row : row + 1]], 2))
                for (k, v), (nk, nv) in zip(layers, new, strict=True)
            ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.lists(
        st.one_of(
            st.tuples(st.just("join"), st.integers(1, 9)),
            st.tuples(st.just("leave"), st.integers(0, 9)),
            st.tuples(st.just("step"), st.just(0)),
        ),
        max_size=25,
    ),
)
def test_attention_sees_what_concatenation_would_give(row_chunk, column_chunk, moves):
    cache, naive = KvCache(row_chunk, column_chunk), Naive()
    for move, number in moves:
        if move == "join":
            layers = states(1, number)
            cache.join(layers)
            naive.rows.append(layers)
        elif not naive.rows:
            continue
        elif move == "leave":
            row = number % len(naive.rows)
            cache.leave(row)
            naive.rows[row] = naive.rows[-1]
            naive.rows.pop()
        else:
            mask = cache.begin_step()
            new, seen = step(cache)
            cache.end_step()
            naive.append(new)
            for row, layers in enumerate(naive.rows):
                for (keys, values), (all_keys, all_values) in zip(layers, seen, strict=True):
                    length = keys.shape[2]
                    assert mask[row].sum() == length
                    assert mask[row, :length].all()
                    assert torch.equal(all_keys[row, :, :length], keys[0])
                    assert torch.equal(all_values[row, :, :length], values[0])
                    assert not all_keys[row, :, length:].any()
        assert cache.lengths == [layers[0][0].shape[2] for layers in naive.rows]


def test_a_step_moves_nothing_while_the_rows_fit_their_chunk():
    cache = KvCache(column_chunk=8)
    cache.join(states(1, 3))
    places = {cache.layers[0].keys.data_ptr()}
    for _ in range(5):
        cache.begin_step()
        step(cache)
        cache.end_step()
        places.add(cache.layers[0].keys.data_ptr())
    assert cache.width == 8
    assert len(places) == 1


def test_a_repeated_step_writes_the_same_columns_again():
    cache = KvCache()
    cache.join(states(1, 3))
    cache.begin_step()
    step(cache)
    cache.begin_step()
    new, seen = step(cache)
    assert seen[0][0].shape[2] == 4
    assert torch.equal(seen[0][0][:, :, 3:], new[0][0])


def test_it_holds_whole_chunks_of_what_the_live_rows_need():
    cache = KvCache(row_chunk=2, column_chunk=4)
    assert cache.held_bytes == 0
    for _ in range(5):
        cache.join(states(1, 3))
    assert cache.bytes_per_token == LAYERS * 2 * HEADS * SIZE * 4
    assert cache.held_bytes == cache.bytes_for(5, 3) == 6 * 4 * cache.bytes_per_token
    for _ in range(4):
        cache.leave(0)
    cache.join(states(1, 21))
    assert cache.held_bytes == cache.bytes_for(2, 21) == 2 * 24 * cache.bytes_per_token


def test_released_it_holds_nothing_and_still_knows_what_a_token_takes():
    cache = KvCache()
    cache.join(states(1, 3))
    per_token = cache.bytes_per_token
    cache.release()
    assert (cache.held_bytes, cache.lengths, cache.bytes_per_token) == (0, [], per_token)


def test_the_nan_of_a_row_that_left_reaches_no_other():
    cache = KvCache()
    cache.join([(torch.full((1, HEADS, 9, SIZE), torch.nan),) * 2 for _ in range(LAYERS)])
    cache.join(states(1, 9))
    cache.leave(0)
    cache.leave(0)
    cache.join(states(1, 2))
    cache.join(states(1, 9))
    cache.begin_step()
    _, seen = step(cache)
    assert not any(tensor.isnan().any() for pair in seen for tensor in pair)


@torch.inference_mode()
def test_the_library_takes_the_mask_in_two_or_four_dimensions():
    vlm, cache = TextVlm(), KvCache()
    prompts = [encode(range(10, 15)), encode(range(40, 60))]
    for encoded in prompts:
        cache.join(vlm.prefill(encoded).layers)
    tokens, positions = torch.tensor([3, 4]), torch.tensor(cache.lengths)
    wide = vlm.decode(tokens, positions, cache.begin_step(), cache)
    flat = vlm.model(
        tokens[:, None],
        attention_mask=cache.begin_step(),
        position_ids=positions[:, None],
        cache=cache,
    ).logits[:, -1]
    alone = [
        vlm.model(torch.cat([encoded.inputs["input_ids"], token[None, None]], 1)).logits[0, -1]
        for encoded, token in zip(prompts, tokens, strict=True)
    ]
    assert torch.allclose(wide, torch.stack(alone), atol=1e-4)
    assert torch.allclose(flat, wide, atol=1e-4)
