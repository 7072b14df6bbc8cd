from hypothesis import given
from hypothesis import strategies as st

from runners.held_text import Stripped


@given(st.lists(st.text(" \n\tab", max_size=4), max_size=12))
def test_white_space_at_both_ends_is_left_out_of_any_pieces(pieces):
    stripped = Stripped()
    shown = ""
    for count, piece in enumerate(pieces, start=1):
        shown += stripped.add(piece)
        assert shown == "".join(pieces[:count]).strip()
