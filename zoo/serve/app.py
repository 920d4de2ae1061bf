"""What the server answers to which address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from zoo import __version__
from zoo.runtime.errors import BundleError
from zoo.runtime.pixels import PixelError
from zoo.serve.batching import Full
from zoo.serve.refused import Refused, error_body, error_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from zoo.serve.worker import Worker

BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"image": {"type": "array", "items": BINARY["schema"]}}}}
BASE64 = {"type": "string", "description": "an encoded image in base64"}
JSON_BODY = {
    "schema": {"type": "object", "properties": {"image": BASE64, "images": {"type": "array", "items": BASE64}}}
}
PREDICT = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": FORM,
            "application/json": JSON_BODY,
        },
    }
}
EXAMPLE = {
    "model": "SHA-256 of the model file that answered",
    "milliseconds": 4.2,
    "predictions": [{"image": "cat.jpg", "top": [{"class": "cat", "probability": 0.98}]}],
}
STATUSES = {
    400: "the form or the JSON cannot be read",
    408: "the request did not come in time",
    413: "too many bytes or images",
    415: "another Content-Type, or a Content-Encoding",
    422: "an image cannot be read, or has too many pixels",
    500: "the network answered what is not a number",
    503: "as much as fits is in hand; come again after Retry-After",
}
# The pages hold all that they need, and may load nothing.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create(worker: Worker) -> FastAPI:
    """Return the application of a process."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with worker.living():
            yield {"house": worker.house}

    app = FastAPI(
        title="zoo serve",
        version=__version__,
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

    @app.post(
        "/v1/predict", summary="Classify images", openapi_extra=PREDICT, responses=responses, response_class=Response
    )
    async def predict(
        request: Request, top: Annotated[int, Query(ge=1, le=1000, description="how many classes to tell")] = 5
    ) -> Response:
        begin = time.perf_counter()
        response = await _guarded(_predict(worker, request, top))
        worker.metrics.requests.labels(response.status_code).inc()
        worker.metrics.seconds.observe(time.perf_counter() - begin)
        return response


async def _predict(worker: Worker, request: Request, top: int) -> Response:
    async with worker.reader.read(request) as pictures:
        batcher = await worker.ready()
        begin = time.perf_counter()
        answers, model = await batcher.answer(pictures, top=top, gone=request.scope.get("zoo.waiting"))
    worker.metrics.images.inc(len(answers))
    milliseconds = round(1e3 * (time.perf_counter() - begin), 3)
    return _json(
        {"model": model, "milliseconds": milliseconds, "predictions": [answer.to_json() for answer in answers]}
    )


async def _guarded(work: Awaitable[Response]) -> Response:
    """Turn what goes wrong on purpose into an answer."""
    try:
        return await work
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
    text = files("zoo.serve").joinpath("pages", name).read_text(encoding="utf-8")

    def page() -> Response:
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return Response(text, media_type="text/html", headers=headers)

    return page


def _add_errors(app: FastAPI) -> None:
    async def refused(_: Request, exc: Exception) -> Response:
        if isinstance(exc, Refused):
            return _error(exc.status, str(exc))
        if isinstance(exc, RequestValidationError):
            first = exc.errors()[0]
            return _error(422, f"{first['loc'][-1]}: {first['msg']}")
        if isinstance(exc, HTTPException):
            response = _error(exc.status_code, f"{exc.detail}; /docs lists the addresses")
            response.headers.update(exc.headers or {})
            return response
        return _error(500, "an internal error; the server's log tells more")

    for kind in (Refused, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refused)


def _json(values: Any, status: int = 200) -> Response:
    return Response(json.dumps(values, allow_nan=False), status, media_type="application/json")


def _error(status: int, text: str) -> Response:
    return Response(error_body(text), status, error_headers(status), media_type="application/json")
