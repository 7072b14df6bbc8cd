from pydantic import BaseModel, Field

from api.intake.openapi import (
    MAX_QUERY_LENGTH,
    json_request,
    one_file_request,
    several_files_request,
)

FILE = {"type": "string", "format": "binary"}


class Parameters(BaseModel):
    text: str = Field("", max_length=20_000, description="What is asked")


class Inner(BaseModel):
    number: int


class Outer(BaseModel):
    inner: Inner


def test_one_file_comes_in_a_form_or_in_json_with_its_parameters():
    content = one_file_request(Parameters)["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]
    assert form["properties"]["file"] == FILE
    assert form["required"] == ["file"]
    json = content["application/json"]["schema"]
    assert set(json["properties"]) == {"image", "url", "text"}
    assert json["oneOf"] == [{"required": ["image"]}, {"required": ["url"]}]


def test_several_files_come_in_a_form_only():
    content = several_files_request(Parameters)["requestBody"]["content"]
    assert set(content) == {"multipart/form-data"}
    form = content["multipart/form-data"]["schema"]
    assert (form["properties"]["files"]["type"], form["properties"]["files"]["items"]) == (
        "array",
        FILE,
    )
    assert form["required"] == ["files"]


def test_a_parameter_may_come_in_the_query_but_no_longer_than_a_url_holds():
    described = one_file_request(Parameters)
    [parameter] = described["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("text", "query", False)
    assert parameter["description"] == "What is asked (form field or query parameter)"
    assert parameter["schema"]["maxLength"] == MAX_QUERY_LENGTH
    form = described["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["text"]["maxLength"] == 20_000


def test_the_schema_of_a_json_body_has_its_definitions_where_they_are_used():
    schema = json_request(Outer)["requestBody"]["content"]["application/json"]["schema"]
    assert "$defs" not in schema
    assert schema["properties"]["inner"]["properties"]["number"]["type"] == "integer"
