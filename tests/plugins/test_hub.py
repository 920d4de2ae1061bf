"""Pretrained weights: from a cache without a word to the network, from a server that answers, else one line at once."""

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import CheckpointInvalid, WeightsUnavailable
from zoo_plugins import hub
from zoo_plugins.timm_family import TimmFamily

MODEL, REPO, COMMIT = "test_resnet", "timm/test_resnet.r160_in1k", "a" * 40
DOWNLOAD = """
import hashlib, sys, warnings
warnings.simplefilter("error")
from zoo_plugins.timm_family import TimmFamily
state = TimmFamily().create(sys.argv[1], 1000).state_dict()
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest())
"""


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` (path to content) the way the hub does, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def _answer(self, *, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if with_body:
            self.wfile.write(body or b"")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test empty caches, and a hub that refuses every connection."""
    TimmFamily().create(MODEL, 2, pretrained=False)
    constants = sys.modules["huggingface_hub.constants"]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return TimmFamily().create(MODEL, 1000, pretrained=False)


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def packed(model: torch.nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in model.state_dict().items()})


def put_into_hub_cache(caches: Path, name: str, content: bytes) -> Path:
    repo = caches / "hub" / f"models--{REPO.replace('/', '--')}"
    file = repo / "snapshots" / COMMIT / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return file


def forbid_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        pytest.fail("tried to connect")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def digest(model: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()


@pytest.mark.slow
def test_one_process_downloads_and_the_next_needs_no_server(
    server: Server, model: torch.nn.Module, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[f"/{REPO}/resolve/main/model.safetensors"] = packed(model)
    unset = {"HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(caches), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", DOWNLOAD, MODEL], env=env, capture_output=True, text=True, check=True)
    assert f"GET /{REPO}/resolve/main/model.safetensors" in server.asked
    assert (done.stdout, done.stderr) == (digest(model) + "\n", "")
    server.shutdown()
    forbid_connections(monkeypatch)
    assert same(TimmFamily().create(MODEL, 1000), model)


def test_what_was_downloaded_is_what_the_server_has(
    server: Server, model: torch.nn.Module, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    server.files[f"/{REPO}/resolve/main/model.safetensors"] = packed(model)
    loaded: Any = TimmFamily().create(MODEL, 1000)
    assert same(loaded, model)
    assert "file" not in loaded.pretrained_cfg
    assert TimmFamily().create(MODEL, 3).state_dict()["fc.weight"].shape[0] == 3


def test_a_repository_without_weights_is_told_in_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(WeightsUnavailable) as caught:
        TimmFamily().create(MODEL, 3)
    assert "\n" not in str(caught.value)
    assert REPO in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_cached_weights_need_no_connection(
    name: str, model: torch.nn.Module, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put_into_hub_cache(caches, name, packed(model))
    if name.endswith(".bin"):
        torch.save(model.state_dict(), file)
    forbid_connections(monkeypatch)
    assert same(TimmFamily().create(MODEL, 1000), model)


def test_a_damaged_cached_file_is_named(caches: Path) -> None:
    file = put_into_hub_cache(caches, "model.safetensors", b"no weights at all")
    with pytest.raises(CheckpointInvalid, match=str(file)) as caught:
        TimmFamily().create(MODEL, 3)
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_told_with_all_three_ways_on(caches: Path) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsUnavailable) as caught:
        TimmFamily().create(f"{MODEL}.r160_in1k", 3)
    assert time.monotonic() - started < 3
    text = str(caught.value)
    assert "\n" not in text
    for part in (MODEL, "--no-pretrained", "--weights FILE", REPO, f"HF_HOME={caches}"):
        assert part in text


def test_offline_mode_is_obeyed_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    forbid_connections(monkeypatch)
    with pytest.raises(WeightsUnavailable, match="HF_HUB_OFFLINE is set"):
        TimmFamily().create(MODEL, 3)


def test_weights_with_a_plain_address_go_through_torchs_cache(
    server: Server, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = {"url": f"{server.url}/some/net-x.pth"}
    file = caches / "torch" / "hub" / "checkpoints" / "net-x.pth"
    with pytest.raises(WeightsUnavailable, match="404"):
        hub.weights_on_disk("net", cfg)
    server.files["/some/net-x.pth"] = b"weights"
    assert hub.weights_on_disk("net", cfg) == {"file": str(file), "custom_load": False}
    assert file.read_bytes() == b"weights"
    forbid_connections(monkeypatch)
    assert hub.weights_on_disk("net", {**cfg, "hf_hub_id": REPO, "custom_load": True}) == {
        "file": str(file),
        "custom_load": True,
    }


def test_a_server_that_never_answers_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PROBE_TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert hub.unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 2


def test_a_name_server_that_never_answers_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PROBE_TIMEOUT_S", -0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(1.5))
    assert "no answer" in hub.unreachable("http://example.invalid")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense", "http://", "ftp://x y"])
def test_an_address_that_cannot_work_has_a_reason(address: str) -> None:
    assert hub.unreachable(address)


def test_any_answer_counts_as_reachable(server: Server) -> None:
    assert hub.unreachable(server.url) == ""
    assert server.asked == ["HEAD /"] or server.asked == ["HEAD "]
