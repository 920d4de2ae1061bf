"""What a client may send, and what it gets: every way of sending a picture, every limit, every address."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from .conftest import CLASSES, expected, picture, told

if TYPE_CHECKING:
    import httpx

    from .conftest import Served

RED, BLUE = picture(250, 40, 10), picture(0, 60, 200, kind="JPEG")
PNG = {"content-type": "image/png"}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_raw_bytes(client: httpx.Client, server: Served) -> None:
    for kind in ("image/png", "application/octet-stream", "image/jpeg; charset=x"):
        answer = client.post("/v1/predict", content=RED, headers={"content-type": kind})
        assert answer.status_code == 200, answer.text
        values = answer.json()
        assert values["model"] == server.model
        (prediction,) = values["predictions"]
        assert prediction["top"][0]["class"] == "red"
        assert np.allclose(told(prediction), expected(250, 40, 10), atol=1e-5)


def test_a_form_with_several_files(client: httpx.Client) -> None:
    files = [("image", ("a.png", RED, "image/png")), ("other", ("b.jpg", BLUE, "image/jpeg"))]
    predictions = client.post("/v1/predict?top=1", files=files).json()["predictions"]
    assert [(p["image"], p["top"][0]["class"], len(p["top"])) for p in predictions] == [
        ("a.png", "red", 1),
        ("b.jpg", "blue", 1),
    ]


def test_base64(client: httpx.Client) -> None:
    one = client.post("/v1/predict", json={"image": encoded(RED)}).json()["predictions"]
    with_address = client.post("/v1/predict", json={"image": "data:image/png;base64," + encoded(RED)}).json()
    several = client.post("/v1/predict", json={"images": [encoded(BLUE), encoded(RED)]}).json()["predictions"]
    assert with_address["predictions"] == one
    assert [p["top"][0]["class"] for p in several] == ["blue", "red"]


REFUSED: list[tuple[int, dict[str, Any], str]] = [
    (415, {"content": RED, "headers": {"content-type": "text/html"}}, "Content-Type is text/html"),
    (415, {"content": RED}, "Content-Type is missing"),
    (415, {"content": RED, "headers": {**PNG, "content-encoding": "gzip"}}, "Content-Encoding"),
    (422, {"content": b"", "headers": PNG}, "the image is empty"),
    (422, {"content": RED[:60], "headers": PNG}, "the image is"),
    (422, {"content": b"<html>", "headers": PNG}, "no image|not an image of a known format"),
    (422, {"content": picture(0, 0, 0, size=(2000, 501)), "headers": PNG}, "has 1 megapixels, over the limit of 1"),
    (422, {"files": [("i", ("a", RED)), ("i", ("b.png", RED[:60]))]}, "image 2 'b.png' is"),
    (413, {"content": bytes(200_001), "headers": PNG}, "the body is larger than 0.191 MiB"),
    (413, {"content": (bytes(50_000) for _ in range(5)), "headers": PNG}, "the body is larger"),
    (413, {"files": [("i", ("a", RED))] * 5}, "more images at once than the limit of 4|5 images at once"),
    (413, {"json": {"images": [encoded(RED)] * 5}}, "5 images at once, over the limit of 4"),
    (400, {"json": {"picture": "x"}}, "JSON must be"),
    (400, {"json": [1]}, "JSON must be"),
    (400, {"json": {"images": []}}, "JSON must be"),
    (400, {"json": {"image": "%%%"}}, "no base64"),
    (400, {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, "no JSON"),
    (400, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "the form cannot be read"),
    (400, {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, "the form"),
    (400, {"files": [("i", ("a", RED))], "params": {"top": "0"}}, "top must be a whole number"),
    (400, {"files": [("i", ("a", RED))], "params": {"top": "9" * 5000}}, "top must be a whole number"),
]


@pytest.mark.parametrize(("status", "sent", "said"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_refused(client: httpx.Client, status: int, sent: dict[str, Any], said: str) -> None:
    answer = client.post("/v1/predict", **sent)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert re.search(said, answer.json()["error"])
    assert "\n" not in answer.json()["error"]
    # Nothing of it sticks to the server.
    assert client.post("/v1/predict", content=RED, headers=PNG).status_code == 200


def test_the_other_addresses(client: httpx.Client, server: Served) -> None:
    model = client.get("/v1/model").json()
    assert (model["sha256"], tuple(model["classes"]), model["golden"]["ok"]) == (server.model, CLASSES, True)
    assert "lineage" not in model
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    for path, status in (("/nothing", 404), ("/../../etc/passwd", 404), ("/%2e%2e/x", 404)):
        answer = client.get(path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
    wrong = client.put("/v1/predict", content=b"")
    assert (wrong.status_code, wrong.headers["allow"], list(wrong.json())) == (405, "POST", ["error"])


def test_openapi_tells_what_can_be_sent(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/model", "/healthz", "/readyz", "/metrics"} == set(described["paths"])
    operation = described["paths"]["/v1/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    assert {"200", "400", "408", "413", "415", "422", "503"} <= set(operation["responses"])


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    page = client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page.text)
    assert "prefers-color-scheme" in page.text


def test_metrics_count(client: httpx.Client) -> None:
    def images() -> float:
        (value,) = re.findall(r"^zoo_images_total (\S+)", client.get("/metrics").text, re.MULTILINE)
        return float(value)

    before = images()
    client.post("/v1/predict", json={"images": [encoded(RED)] * 3})
    assert images() == before + 3
    text = client.get("/metrics").text
    assert re.search(r'zoo_requests_total\{status="200"\} [1-9]', text)
    assert re.search(r"zoo_ready_workers 1.0", text)


def test_an_answer_is_json_that_any_parser_reads(client: httpx.Client) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    answer = client.post("/v1/predict", content=RED, headers=PNG)
    json.loads(answer.text, parse_constant=refuse)
