import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from api.middleware.clean_paths import CleanPaths


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("/ocr", "/ocr"),
        ("/ocr/", "/ocr"),
        ("//ocr", "/ocr"),
        ("/v1//chat///completions//", "/v1/chat/completions"),
        ("/", "/"),
        ("//", "/"),
        ("/playground", "/playground"),
        ("/playground/", "/playground/"),
        ("/prefix/playground//", "/prefix/playground/"),
        ("/playground/style.css/", "/playground/style.css"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_slashes_too_many_are_passed_over_without_a_redirect(method, asked, served):
    assert await path_of(method, asked) == f"{served}!"


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("/prefix/ocr", "/ocr"),
        ("/prefix//ocr/", "/ocr"),
        ("/prefix", "/"),
        ("/prefix/", "/"),
        ("/prefix/playground/", "/playground/"),
        ("/ocr", "/ocr"),
        ("/prefixes/ocr", "/prefixes/ocr"),
    ],
)
async def test_the_prefix_of_a_proxy_is_dropped_where_it_was_kept(asked, served):
    assert await path_of("GET", asked, root_path="/prefix") == f"{served}!"


async def path_of(method, asked, **options):
    """The path that an app behind `CleanPaths` sees, and the body."""

    async def told(request) -> PlainTextResponse:
        return PlainTextResponse(request.scope["path"] + (await request.body()).decode())

    app = Starlette()
    app.add_route("/{path:path}", told, methods=["GET", "POST"])
    transport = httpx.ASGITransport(CleanPaths(app, **options))
    url = httpx.URL("http://service").copy_with(raw_path=asked.encode())
    async with httpx.AsyncClient(transport=transport) as client:
        response = await client.request(method, url, content=b"!")
    assert response.status_code == 200
    return response.text
