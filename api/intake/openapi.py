"""OpenAPI of what FastAPI cannot derive: requests that are read by hand, and their errors."""

from typing import Any

from pydantic import BaseModel

from api.intake.json_bodies import JSON

MAX_QUERY_LENGTH = 1_000
"""Characters of one text. Percent-encoded, five such texts still fit the 64 KiB that the server
takes for a URL."""
_FILE = {"type": "string", "format": "binary"}
_FILE_IN_JSON = {
    "image": {"type": "string", "description": "The file in base64, or as a data: URL"},
    "url": {"type": "string", "description": "Its https address, where the operator allows it"},
}


def one_file_request(parameters: type[BaseModel]) -> dict[str, Any]:
    """A request with one file, as a multipart form, as the body itself or in JSON, and
    `parameters`."""
    properties = _properties(parameters)
    json_schema = {
        "type": "object",
        "properties": {**_FILE_IN_JSON, **properties},
        "oneOf": [{"required": [name]} for name in _FILE_IN_JSON],
    }
    content = {
        **_multipart("file", _FILE, properties),
        JSON: {"schema": json_schema},
        **{kind: {"schema": _FILE} for kind in ("image/*", "application/pdf")},
    }
    return _request(properties, content)


def several_files_request(parameters: type[BaseModel]) -> dict[str, Any]:
    """A request with several files, as a multipart form, and `parameters`."""
    properties = _properties(parameters)
    files = {
        "type": "array",
        "items": _FILE,
        "minItems": 1,
        "description": "At most as many as CHATVLM_MAX_FILES says",
    }
    return _request(properties, _multipart("files", files, properties))


def json_request(body: type[BaseModel]) -> dict[str, Any]:
    """A request with a JSON body."""
    schema = body.model_json_schema()
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _without_defs(schema)}}}}


def without_validation_errors(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without FastAPI's answer to wrong parameters: they get 400 and a sentence.

    schema: is changed.
    """
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    return schema


def _properties(parameters: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = parameters.model_json_schema(mode="validation")["properties"]
    return properties


def _multipart(field: str, files: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "properties": {field: files, **properties}, "required": [field]}
    return {"multipart/form-data": {"schema": form}}


def _request(properties: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": f"{schema.get('description', '')} (form field or query parameter)",
                "schema": _query_schema(schema),
            }
            for name, schema in properties.items()
        ],
        "requestBody": {"required": True, "content": content},
    }


def _query_schema(schema: dict[str, Any]) -> dict[str, Any]:
    schema = {key: part for key, part in schema.items() if key != "description"}
    if schema.get("type") == "string" and "enum" not in schema:
        schema["maxLength"] = min(schema.get("maxLength", MAX_QUERY_LENGTH), MAX_QUERY_LENGTH)
    if "anyOf" in schema:
        schema["anyOf"] = [_query_schema(part) for part in schema["anyOf"]]
    return schema


def _without_defs(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema whose `$defs` stand where they are used: `openapi_extra` has no place for them.

    Recursive definitions are not supported.
    """
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        match part:
            case {"$ref": str(name)}:
                return inline(definitions[name.rpartition("/")[2]])
            case dict():
                return {k: inline(value) for k, value in part.items() if k != "discriminator"}
            case list():
                return [inline(value) for value in part]
        return part

    inlined: dict[str, Any] = inline(schema)
    return inlined
