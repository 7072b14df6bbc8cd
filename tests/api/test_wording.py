from api.wording import counted


def test_a_noun_agrees_with_its_number():
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "one file", "2 files"]
