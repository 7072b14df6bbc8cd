import pytest

from common.units import MIB
from tests.support.fakes.runner import picture

PDF_OR_IMAGE = ["image/png", "image/x-something", "application/octet-stream", "application/pdf", ""]


@pytest.mark.parametrize("content_type", PDF_OR_IMAGE)
@pytest.mark.parametrize("route", ["/ocr", "/chat", "/preview"])
async def test_a_body_may_be_the_file_and_the_query_has_the_parameters(client, route, content_type):
    response = await client.post(
        route,
        content=picture(5, 2),
        headers={"Content-Type": content_type},
        params={"model": "reader"} if route != "/preview" else {},
    )
    assert response.status_code == 200
    assert response.json().get("image_size", [5, 2]) == [5, 2]


async def test_a_batch_may_be_one_body(client):
    response = await client.post(
        "/batch/ocr", content=picture(5, 2), headers={"Content-Type": "image/png"}
    )
    [item] = response.json()["results"]
    assert (item["filename"], item["image_size"]) == ("files", [5, 2])


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"data": {"model": "reader"}},
        {"content": b"", "headers": {"Content-Type": "image/png"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
async def test_a_request_without_a_file_is_told_where_to_send_it(client, sent):
    response = await client.post("/ocr", **sent)
    assert (response.status_code, response.json()) == (
        400,
        {
            "detail": "The request has no file: send one as multipart/form-data in the field "
            "'file'.",
            "code": "bad_parameter",
        },
    )


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/html", "application/zip", "video/mp4"]
)
@pytest.mark.parametrize("route", ["/ocr", "/batch/ocr", "/chat", "/preview"])
async def test_a_content_type_that_no_route_takes_is_415(client, route, content_type):
    response = await client.post(
        route, content=picture(), headers={"Content-Type": f"{content_type}; charset=utf-8"}
    )
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_type")
    assert f"'{content_type}'" in response.json()["detail"]


async def test_a_body_over_the_limit_of_a_file_is_refused(serve):
    client = serve(max_file_mib=1)
    response = await client.post(
        "/ocr", content=bytes(MIB + 1), headers={"Content-Type": "image/png"}
    )
    assert (response.status_code, response.json()["detail"]) == (
        413,
        "The file is larger than 1 MB.",
    )
