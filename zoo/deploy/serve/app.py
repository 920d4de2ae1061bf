"""What the server answers to which address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from zoo.catalogue.installed import OURS
from zoo.deploy.serve.batching import Full
from zoo.deploy.serve.refused import Refused, error_body, error_headers
from zoo.runtime.errors import BundleError
from zoo.runtime.pixels import PixelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from zoo.deploy.serve.worker import Worker

PREDICT = "/v1/predict"
DEFAULT_TOP, MOST_TOP = 5, 1000
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"image": {"type": "array", "items": BINARY["schema"]}}}}
BASE64 = {"type": "string", "description": "an encoded image in base64"}
JSON_BODY = {
    "schema": {"type": "object", "properties": {"image": BASE64, "images": {"type": "array", "items": BASE64}}}
}
TAKES = {
    "parameters": [
        {
            "name": "top",
            "in": "query",
            "description": "how many classes to tell",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_TOP, "default": DEFAULT_TOP},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": FORM,
            "application/json": JSON_BODY,
        },
    },
}
EXAMPLE = {
    "model": "SHA-256 of the model file that answered",
    "milliseconds": 4.2,
    "predictions": [{"image": "cat.jpg", "top": [{"class": "cat", "probability": 0.98}]}],
}
STATUSES = {
    400: "the form, the JSON or `top` cannot be read",
    408: "the request did not come in time",
    413: "too many bytes or images",
    415: "another Content-Type, or a Content-Encoding",
    422: "an image cannot be read, or has too many pixels",
    500: "the network answered what is not a number",
    503: "as much as fits is in hand; come again after Retry-After",
}
INTERNAL = "an internal error; the server's log tells more"
# The pages hold all that they need, and may load nothing.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Application:
    """FastAPI's, but predictions go past its layers, which take as long as the network of a small model."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._rest: ASGIApp = create(worker)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST":
            response = await predict(self._worker, Request(scope, receive))
            await response(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


def create(worker: Worker) -> FastAPI:
    """Return all addresses of a process, with their description."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with worker.living():
            yield {"house": worker.house}

    app = FastAPI(
        title="zoo serve",
        version=version(OURS),
        description="Images in, classes and their probabilities out.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_prediction(app, worker)
    _add_states(app, worker)
    _add_pages(app)
    _add_errors(app)
    return app


def _add_prediction(app: FastAPI, worker: Worker) -> None:
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": {"application/json": {"example": {"error": "why"}}}}
        for status, text in STATUSES.items()
    }
    responses[200] = {"description": "answers, in the order of the images", "content": {}}
    responses[200]["content"]["application/json"] = {"example": EXAMPLE}

    @app.post(PREDICT, summary="Classify images", openapi_extra=TAKES, responses=responses, response_class=Response)
    async def documented(request: Request) -> Response:
        return await predict(worker, request)


async def predict(worker: Worker, request: Request) -> Response:
    """Answer a request with pictures in it; whatever happens, there is an answer."""
    begin = time.perf_counter()
    response = await _guarded(worker, request)
    worker.metrics.requests.labels(response.status_code).inc()
    worker.metrics.seconds.observe(time.perf_counter() - begin)
    return response


async def _predict(worker: Worker, request: Request) -> Response:
    top = _top(request)
    async with worker.reader.read(request) as pictures:
        batcher = await worker.ready()
        begin = time.perf_counter()
        answers, model = await batcher.answer(pictures, top=top, gone=request.scope.get("zoo.waiting"))
    worker.metrics.images.inc(len(answers))
    milliseconds = round(1e3 * (time.perf_counter() - begin), 3)
    return _json(
        {"model": model, "milliseconds": milliseconds, "predictions": [answer.to_json() for answer in answers]}
    )


def _top(request: Request) -> int:
    given = request.query_params.get("top", str(DEFAULT_TOP)) if request.scope["query_string"] else str(DEFAULT_TOP)
    if not (given.isascii() and given.isdigit() and len(given) < 5 and 1 <= int(given) <= MOST_TOP):
        raise Refused(400, f"top must be a whole number from 1 to {MOST_TOP}")
    return int(given)


async def _guarded(worker: Worker, request: Request) -> Response:
    """Turn what goes wrong into an answer."""
    try:
        return await _predict(worker, request)
    except Refused as exc:
        return _error(exc.status, str(exc))
    except Full:
        return _error(503, "as many images as fit are in hand; come again")
    except TimeoutError:
        return _error(503, "there was no answer in time; come again")
    except PixelError as exc:
        return _error(422, str(exc))
    except BundleError as exc:
        return _error(500, str(exc))
    except ClientDisconnect:
        return Response(status_code=408)  # nobody reads it
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        return Response(status_code=408)
    except Exception:
        logging.getLogger("zoo.serve").exception("internal error in POST %s", PREDICT)
        return _error(500, INTERNAL)


def _add_states(app: FastAPI, worker: Worker) -> None:
    @app.get("/v1/model", summary="What answers: classes, input, proof", response_class=Response)
    async def model() -> Response:
        await worker.ready()
        return _json(worker.subject().about())

    @app.get("/healthz", summary="Whether the process lives", response_class=Response)
    async def healthz() -> Response:
        return _json({"status": "alive"})

    @app.get(
        "/readyz",
        summary="Whether requests are wanted here",
        response_class=Response,
        responses={503: {"description": "loading or draining"}},
    )
    async def readyz() -> Response:
        state = worker.state()
        return _json({"status": state}, 200 if state == "ready" else 503)

    # No coroutine, as it reads files: FastAPI gives it a thread.
    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(worker.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    for address, name in (("/", "try.html"), ("/docs", "docs.html")):
        app.add_api_route(address, _page(name), include_in_schema=False)


def _page(name: str) -> Callable[[], Response]:
    text = files("zoo.deploy.serve").joinpath("pages", name).read_text(encoding="utf-8")

    def page() -> Response:
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return Response(text, media_type="text/html", headers=headers)

    return page


def _add_errors(app: FastAPI) -> None:
    async def refused(_: Request, exc: Exception) -> Response:
        if isinstance(exc, Refused):
            return _error(exc.status, str(exc))
        if isinstance(exc, HTTPException):
            response = _error(exc.status_code, f"{exc.detail}; /docs lists the addresses")
            response.headers.update(exc.headers or {})
            return response
        return _error(500, INTERNAL)

    for kind in (Refused, HTTPException, Exception):
        app.add_exception_handler(kind, refused)


def _json(values: Any, status: int = 200) -> Response:
    return Response(json.dumps(values, allow_nan=False), status, media_type="application/json")


def _error(status: int, text: str) -> Response:
    return Response(error_body(text), status, error_headers(status), media_type="application/json")
