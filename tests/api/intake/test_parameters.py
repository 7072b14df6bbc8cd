from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from api.intake.parameters import ChatParameters, OcrParameters, parse
from common.failures import ErrorCode, Refusal
from common.messages import Options


def refusal(params, query="", fields=()) -> str:
    with pytest.raises(Refusal) as caught:
        parse(params, QueryParams(query), fields)
    assert caught.value.code == ErrorCode.BAD_PARAMETER
    return caught.value.failure.detail


def test_without_parameters_the_defaults_of_the_contract_hold():
    asked = parse(ChatParameters, QueryParams())
    assert (asked.prompt, asked.temperature, asked.max_tokens) == ("Describe this image", None, 512)
    assert asked.model is None
    assert asked.stream is False
    assert parse(OcrParameters, QueryParams()).language is None


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("model=got_ocr&language=ru", []),
        ("", [("model", "got_ocr"), ("language", "ru")]),
        ("model=got_ocr", [("language", "ru")]),
        ("model=got_ocr&model=got_ocr", [("model", "got_ocr"), ("language", "ru")]),
        ("model=&model=got_ocr&language=", [("language", "ru"), ("model", "")]),
        ("model=got_ocr&unknown=1&unknown=2", [("language", "ru")]),
    ],
)
def test_form_and_query_say_the_same(query, fields):
    asked = parse(OcrParameters, QueryParams(query), fields)
    assert (asked.model, asked.language) == ("got_ocr", "ru")


@pytest.mark.parametrize("second", ["False", "0", "no", "FALSE"])
def test_the_same_value_may_be_written_differently(second):
    asked = parse(OcrParameters, QueryParams("formatted=false"), [("formatted", second)])
    assert asked.formatted is False
    detail = "Parameter 'formatted' is given twice with different values."
    assert refusal(OcrParameters, "formatted=true", [("formatted", second)]) == detail


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("model=got_ocr&model=got_ocr", [("model", "got_ocr"), ("model", "dots_ocr")]),
        ("model=got_ocr&model=dots_ocr", []),
        ("model=got_ocr", [("model", "dots_ocr")]),
        ("", [("model", "got_ocr"), ("model", "dots_ocr")]),
    ],
)
def test_two_different_values_are_refused(query, fields):
    detail = "Parameter 'model' is given twice with different values."
    assert refusal(OcrParameters, query, fields) == detail


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", ["0", "0.0", "1", "1.0", "0.35"]),
        ("max_tokens", ["1", "4096", "512"]),
        ("prompt", ["x" * 20_000, "Что это?"]),
        ("model", ["x" * 100]),
        ("stream", ["true", "false", "1", "0"]),
    ],
)
def test_values_up_to_their_bounds_are_taken(name, values):
    for value in values:
        asked = getattr(parse(ChatParameters, QueryParams(), [(name, value)]), name)
        assert asked == type(asked)({"true": 1, "false": 0}.get(value, _number(value)))


def _number(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", ["-0.1", "1.01", "nan", "NaN", "inf", "-inf", "warm", "0,7"]),
        ("max_tokens", ["0", "4097", "-1", "1.5", "1e3", "many", "9" * 5000]),
        ("prompt", ["x" * 20_001]),
        ("model", ["x" * 101]),
        ("stream", ["perhaps"]),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name, values):
    for value in values:
        detail = refusal(ChatParameters, fields=[(name, value)])
        assert detail.startswith(f"Parameter '{name}': ")
        assert value[:100] in detail
        assert len(detail) < 300


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", Options()),
        ("formatted=false&mode=ocr", Options()),
        ("box=1,2,30,40", Options(box=(1, 2, 30, 40))),
        ("box=1, 2, 30, 40", Options(box=(1, 2, 30, 40))),
        (
            "color=red&formatted=true&mode=layout",
            Options(color="red", formatted=True, mode="layout"),
        ),
        ("prompt=Only the total", Options(prompt="Only the total")),
    ],
)
def test_only_options_that_change_something_are_asked_for(query, options):
    asked = parse(OcrParameters, QueryParams(query)).options
    assert asked == options
    assert asked.model_fields_set == options.model_fields_set


@pytest.mark.parametrize(
    ("pages", "ranges"),
    [
        ("7", ((7, 7),)),
        ("1-3,7", ((1, 3), (7, 7))),
        (" 2 - 4 , 1 ", ((2, 4), (1, 1))),
    ],
)
def test_pages_are_numbers_and_ranges(pages, ranges):
    assert parse(OcrParameters, QueryParams({"pages": pages})).pages == ranges
    assert parse(ChatParameters, QueryParams({"pages": pages})).pages == ranges


@pytest.mark.parametrize("pages", ["0", "3-1", "-3", "2-", "one", "1,,2", "1.5", "9" * 5000, ","])
def test_pages_that_are_none_are_told_what_they_are(pages):
    assert refusal(OcrParameters, fields=[("pages", pages)]).startswith(
        "Parameter 'pages': needs numbers and ranges of pages from 1, such as 1-3,7, got '"
    )


@pytest.mark.parametrize(
    "box", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "0,0,0,1", "0,5,1,4", "-1,0,1,1", "1.5,0,2,2", ","]
)
def test_a_box_that_is_none_is_told_what_one_is(box):
    assert refusal(OcrParameters, f"box={box}") == (
        f"Parameter 'box': needs x0,y0,x1,y1 with 0 <= x0 < x1 and 0 <= y0 < y1, got '{box}'."
    )


@pytest.mark.parametrize("query", ["color=pink", "mode=fast", "formatted=maybe"])
def test_an_option_out_of_its_values_is_refused(query):
    assert refusal(OcrParameters, query).startswith(f"Parameter '{query.split('=')[0]}': ")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*OcrParameters.model_fields, *ChatParameters.model_fields]), st.text()
        )
    )
)
def test_whatever_is_given_is_taken_or_refused(fields):
    for params in (OcrParameters, ChatParameters):
        with suppress(Refusal):
            assert isinstance(parse(params, QueryParams(), fields), params)


@pytest.mark.parametrize("value", ["0", "32769", "many", "1.5"])
def test_the_length_of_a_reading_has_bounds_of_its_own(value):
    detail = refusal(OcrParameters, fields=[("max_tokens", value)])
    assert detail.startswith("Parameter 'max_tokens': ")
    assert parse(OcrParameters, QueryParams("max_tokens=32768")).max_tokens == 32_768


def test_a_prompt_of_a_reading_is_not_longer_than_one_of_a_question():
    assert refusal(OcrParameters, fields=[("prompt", "a" * 20_001)]).startswith(
        "Parameter 'prompt': "
    )
