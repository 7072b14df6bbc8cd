"""The FastAPI app with its routers and error handlers. Its pages load nothing from other hosts."""

import re
from typing import Any

from fastapi import Depends, Request
from fastapi.openapi.docs import get_redoc_html
from fastapi.responses import HTMLResponse
from fastapi_offline import FastAPIOffline

from api.errors import handlers
from api.intake.openapi import without_validation_errors
from api.request_record import current_record
from api.routes import chat, extract, ocr, openai, playground, preview, system
from api.schemas.guide import VERSION

DESCRIPTION = """Document OCR and visual chat.

Every parameter may be sent as a form field or in the query. Every error is
`{"detail": "<one sentence>", "code": "<a word for programs>"}`. Under `/v1` requests, answers and
errors are OpenAI's."""


def _note_route(request: Request) -> None:
    current_record().route = re.sub(r":\w+}", "}", request.scope["route"].path)


app = FastAPIOffline(
    title="ChatVLMLLM API",
    version=VERSION,
    description=DESCRIPTION,
    redoc_url=None,
    dependencies=[Depends(_note_route)],
)
handlers.install(app)
for module in (system, ocr, preview, chat, extract, openai, playground):
    app.include_router(module.router)
app.mount("/playground", playground.files)

_describe = app.openapi


def _openapi() -> dict[str, Any]:
    return without_validation_errors(_describe())


app.openapi = _openapi  # as FastAPI's documentation extends it


@app.get("/redoc", include_in_schema=False)
async def redoc(request: Request) -> HTMLResponse:
    """ReDoc's page as fastapi_offline serves it, but its script may not load a logo elsewhere."""
    root = request.scope["root_path"]
    page = get_redoc_html(
        openapi_url=f"{root}{app.openapi_url}",
        title=app.title,
        redoc_js_url=f"{root}/static-offline-docs/redoc.standalone.js",
        redoc_favicon_url=f"{root}/static-offline-docs/favicon.png",
        with_google_fonts=False,
    )
    page.headers["Content-Security-Policy"] = "img-src 'self' data:"
    return page
