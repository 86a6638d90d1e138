"""Errors: code → HTTP status, the only place; and the body that clients expect (wire-details §2)."""

from __future__ import annotations

import logging

from flask import Flask, Response
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException

from services.apiserver.versions import error_body
from shared.protocol import DockyardError

__all__ = ["STATUS", "error_response", "register_errors"]

log = logging.getLogger("dockyard.apiserver")

STATUS = {
    "internal": 500,
    "invalid_argument": 400,
    "command_not_found": 400,
    "command_not_executable": 400,
    "unauthorized": 401,
    "permission_denied": 403,
    "not_found": 404,
    "job_not_found": 404,
    "conflict": 409,
    "not_modified": 304,
    "not_implemented": 501,
    "unavailable": 503,
    "cancelled": 499,
}


def error_response(status: int, message: str) -> Response:
    """Exactly ``application/json``: the CLI compares the header with ==."""
    if status == 304:
        return Response(status=304)
    return Response(error_body(message), status=status, headers={"Content-Type": "application/json"})


def register_errors(app: Flask) -> None:
    @app.errorhandler(DockyardError)
    def dockyard_error(error: DockyardError) -> Response:
        return error_response(STATUS[error.code], error.message)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if error.code in (404, 405, 308):  # Docker knows no 405
            return error_response(404, "page not found")
        return error_response(error.code or 500, error.description or error.name)

    @app.errorhandler(ParseException)
    @app.errorhandler(NoMoreData)
    def malformed_body(error: Exception) -> Response:
        """Chunks that are none, or fewer than were announced; gunicorn closes the connection."""
        return error_response(400, f"malformed request body: {error or 'it ends too early'}")

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.exception("request failed")
        return error_response(500, "internal error, see the log of the apiserver")
