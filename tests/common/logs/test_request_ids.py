import pytest

from common.logs import request_ids


@pytest.mark.parametrize("sent", ["a", "6f1c-2b", "trace:1/2", "x" * 128])
def test_a_usable_id_is_kept(sent):
    assert request_ids.accept(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "two words", "line\nbreak", "имя", "x" * 129])
def test_another_one_is_replaced_by_a_new_id(sent):
    first, second = request_ids.accept(sent), request_ids.accept(sent)
    assert first != second
    assert request_ids.accept(first) == first
