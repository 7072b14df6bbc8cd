"""The app's exception handlers: every exception is answered in the service's form."""

import logging
from http.client import responses as STATUS_PHRASES

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.errors.bodies import code_of_status, error_body, failure_response, status_sentence
from api.intake.wrong_parameters import BadParameter, validation_sentence
from api.request_record import current_record
from common.failures import ErrorCode, Failure, Refusal

logger = logging.getLogger(__name__)

FAULT = Failure(code=ErrorCode.FAULT, detail="The service failed; its log says why.")


def install(app: FastAPI) -> None:
    """Adds the handlers to the app."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        current_record().reason = error.failure.detail
        param = error.param if isinstance(error, BadParameter) else None
        return failure_response(error.failure, request.url.path, param)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = validation_sentence(error.errors()[0])
        current_record().reason = detail
        failure = Failure(code=ErrorCode.BAD_PARAMETER, detail=detail)
        return failure_response(failure, request.url.path)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path, status, detail = request.url.path, error.status_code, error.detail
        headers = dict(error.headers or {})
        if status == 405:
            headers["Allow"] = _methods(app, request)
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        # Where no detail was given, as by the router itself, Starlette fills in the phrase.
        if not isinstance(detail, str) or detail == STATUS_PHRASES.get(status):
            detail = status_sentence(status, request.method, path)
        current_record().reason = detail
        body = error_body(path, status, code_of_status(status), detail)
        return JSONResponse(body, status, headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        current_record().reason = FAULT.detail
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return failure_response(FAULT, request.url.path)


def _methods(app: FastAPI, request: Request) -> str:
    """The methods of all routes with the request's path, as the header Allow lists them."""
    allowed = {"OPTIONS"}
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in app.routes):
            allowed |= {"GET", "HEAD"} if method == "GET" else {method}
    return ", ".join(sorted(allowed))
