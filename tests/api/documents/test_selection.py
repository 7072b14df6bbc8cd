import time

import pytest

from api.documents.selection import select_pages
from common.failures import ErrorCode, Refusal


@pytest.mark.parametrize(
    ("ranges", "pages"),
    [
        (None, [1, 2, 3, 4, 5]),
        (((2, 2),), [2]),
        (((1, 3), (5, 5)), [1, 2, 3, 5]),
        (((4, 5), (1, 1), (4, 4)), [1, 4, 5]),
    ],
)
def test_pages_are_chosen_each_once_and_in_their_order(ranges, pages):
    assert select_pages(ranges, 5, 50) == pages


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        (((1, 6),), "There is no page 6: the document has 5 pages."),
        (((10**30, 10**30),), f"There is no page {10**30}: the document has 5 pages."),
        (
            None,
            "A request takes at most 3 pages, and the document has 5: choose some with "
            "'pages', as in pages=1-3.",
        ),
    ],
)
def test_pages_that_are_not_there_or_too_many_are_refused(ranges, sentence):
    with pytest.raises(Refusal) as caught:
        select_pages(ranges, 5, 3)
    assert (caught.value.code, caught.value.failure.detail) == (
        ErrorCode.BAD_PARAMETER,
        sentence,
    )


def test_a_document_of_one_page_is_named_in_the_singular():
    with pytest.raises(Refusal, match=r"There is no page 2: the document has one page\."):
        select_pages([(2, 2)], 1, 50)


def test_a_choice_among_a_billion_pages_takes_no_time():
    began = time.perf_counter()
    with pytest.raises(Refusal):
        select_pages(None, 10**9, 50)
    assert time.perf_counter() - began < 0.1
