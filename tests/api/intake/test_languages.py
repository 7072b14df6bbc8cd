from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.intake.languages import language_code
from common.failures import ErrorCode, Refusal


@pytest.mark.parametrize(
    ("code", "spellings"),
    [
        ("ru", ["Russian", "russian", "ru", "RU", "rus", "Русский", "русский", "ru-RU", "ru_RU"]),
        ("en", ["English", "en", "eng", "EN", "английский", "en-GB"]),
        ("de", ["German", "Deutsch", "de", "deu", "ger", "немецкий"]),
        ("fr", ["French", "Français", "fr", "fra", "fre"]),
        ("zh", ["Chinese", "中文", "zh", "chi", "chi_sim", "Chinese (Simplified)"]),
        ("uk", ["Ukrainian", "українська", "ukr"]),
    ],
)
def test_every_common_spelling_is_known(code, spellings):
    assert {spelling: language_code(spelling) for spelling in spellings} == dict.fromkeys(
        spellings, code
    )


@pytest.mark.parametrize(
    ("hint", "code"),
    [("rus+eng", "ru"), ("eng+rus", "en"), ("en, ru", "en"), (" ru ", "ru")],
)
def test_of_several_languages_the_first_counts(hint, code):
    assert language_code(hint) == code


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        ("Elvish", "Elvish"),
        ("zzz", "zzz"),
        ("und", "und"),
        ("rus+zzz", "zzz"),
        ("rus+", ""),
        ("\0", "\0"),
        ("x" * 100, "x" * 40),
    ],
)
def test_an_unknown_language_is_named(hint, named):
    with pytest.raises(Refusal) as caught:
        language_code(hint)
    assert caught.value.code == ErrorCode.BAD_PARAMETER
    assert caught.value.failure.detail == (
        f"Unknown language '{named}': send a name or an ISO 639 code, such as 'Russian' or 'ru'."
    )


@given(st.text(max_size=100) | st.text("abcdefx-_+,", max_size=12))
@example("a-")
@example("i-default")
@example("zh-cmn-hans-CN-x-a-b")
def test_whatever_is_hinted_is_a_code_or_a_refusal(hint):
    with suppress(Refusal):
        assert language_code(hint)
