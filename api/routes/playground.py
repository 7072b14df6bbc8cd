"""GET /playground: a page to try the service on.

Plain files and no Gradio: mounted, that would double the gateway's memory (65 to 133 MiB) and the
time until it serves (2.9 to 6.1 s), add 178 MB of packages, ask other hosts for fonts and scripts,
and still leave the boxes on the page to be drawn by a script of our own. The page's scripts use
the public routes only.
"""

from os import PathLike, stat_result
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

router = APIRouter()
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # with an ETag: asked for again, sent again only when changed
}


class Files(StaticFiles):
    """The page's files, with headers that keep the page to this host."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response


files = Files(directory=Path(__file__).parents[1] / "playground", html=True)


@router.get("/playground", include_in_schema=False)
async def playground() -> RedirectResponse:
    return RedirectResponse("playground/")  # relative: right behind any proxy
