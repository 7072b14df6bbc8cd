import pytest

from api.intake.parameters import ChatParameters, OcrParameters
from api.intake.unknown_parameters import unknown_parameters
from tests.support.fakes.runner import picture


@pytest.mark.parametrize("names", [[], ["model"], [*OcrParameters.model_fields] * 2])
def test_known_parameters_are_no_reason_to_warn(names):
    assert unknown_parameters(OcrParameters, names) is None


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["langage"], "'langage' (did you mean 'language'?)"),
        (["Language", "model"], "'Language' (did you mean 'language'?)"),
        (["xyzzy", "xyzzy", "qwerty"], "'xyzzy', 'qwerty'"),
        (["x" * 60], "'" + "x" * 50 + "…'"),
        ([f"{digit}" for digit in range(9)], "'0', '1', '2', '3', '4' and 4 more"),
    ],
)
def test_unknown_parameters_are_named_once_with_the_name_that_was_meant(names, told):
    assert unknown_parameters(OcrParameters, names) == (
        f"Parameters that this route does not have were passed over: {told}."
    )


def test_what_is_known_depends_on_the_route():
    assert unknown_parameters(ChatParameters, ["prompt"]) is None
    assert unknown_parameters(ChatParameters, ["mode"]) is not None


@pytest.mark.parametrize("route", ["/ocr", "/chat", "/preview"])
@pytest.mark.parametrize("sent", [{"params": {"langage": "ru"}}, {"data": {"langage": "ru"}}])
async def test_the_answer_names_the_parameters_that_its_route_does_not_have(client, route, sent):
    response = await client.post(route, files={"file": picture()}, **sent)
    assert response.status_code == 200
    assert "'langage'" in response.json()["warning"]


async def test_a_batch_is_warned_once(client):
    response = await client.post(
        "/batch/ocr", files=[("files", picture())] * 2, data={"langage": "ru"}
    )
    assert "'language'" in response.json()["warning"]
    assert all("warning" not in item for item in response.json()["results"])


async def test_without_them_there_is_no_warning(client):
    response = await client.post("/ocr", files={"file": picture()}, params={"language": "ru"})
    assert "warning" not in response.json()
