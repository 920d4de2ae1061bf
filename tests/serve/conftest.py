"""A model whose answers can be foretold, and real servers that answer with it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from zoo.contracts.preprocess import Preprocess
from zoo.records.artifact import checksums, write_manifest
from zoo.records.golden import Golden, write_golden
from zoo.records.manifest import Latency, Manifest, Report, Tensor
from zoo.runtime.session import OnnxPredictor

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE, CLASSES = 16, ("red", "green", "blue")
RUN = """
import json, os, sys
from zoo.deploy.serve.settings import Settings
from zoo.deploy.serve.supervisor import Supervisor, address, listen
settings = Settings(**json.loads(sys.argv[1]))
listening = listen(settings)
said = lambda model: print(json.dumps({"url": address(listening), "pid": os.getpid(), "model": model}), flush=True)
Supervisor(settings, listening, said).run()
"""


def make_artifact(folder: Path, *, order: tuple[int, int, int] = (0, 1, 2), sharpness: float = 8.0) -> Path:
    """Write an artifact that tells the main colour of a picture; `order` says which class stands for which channel."""
    folder.mkdir(parents=True)
    weights = np.zeros((3, 3), np.float32)
    weights[list(range(3)), list(order)] = sharpness / 255
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, folder / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
    answers = OnnxPredictor(folder / "model.onnx", threads=1)(images)
    labels = answers.argmax(1).astype(np.int64)
    write_golden(folder, Golden(images=images, labels=labels, reference=answers, artifact=answers))
    write_manifest(folder, _manifest(checksums(folder)))
    return folder


def _manifest(files: dict[str, str]) -> Manifest:
    report = Report(
        accepted=True, reasons=(), split="val", images=8, reference_top1=1, artifact_top1=1, drop=0,
        drop_interval=(0, 0), flips=0, max_probability_difference=0, per_class={}, size_bytes=1,
        latency_ms={"artifact": Latency(p50=1, p95=1)}, threads=1, max_drop=1, min_speedup=None,
    )  # fmt: skip
    preprocess = Preprocess(size=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear", crop="squash")
    return Manifest(
        schema_version=1, format="onnx", precision="fp32", target="host",
        input=Tensor(name="image", dtype="uint8", shape=(None, SIDE, SIDE, 3)),
        output=Tensor(name="probabilities", dtype="float32", shape=(None, 3)),
        classes=CLASSES, preprocess=preprocess.to_json(), files=files, model_file="model.onnx", lineage={}, licenses={},
        report=report,
    )  # fmt: skip


def picture(red: int, green: int, blue: int, *, kind: str = "PNG", size: tuple[int, int] = (20, 20)) -> bytes:
    """Encode a picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(buffer, kind)
    return buffer.getvalue()


def expected(red: int, green: int, blue: int, sharpness: float = 8.0) -> np.ndarray:
    """What the artifact answers of it, in the order of the classes."""
    logits = np.array([red, green, blue]) * sharpness / 255
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum())


def told(prediction: dict[str, Any]) -> np.ndarray:
    """The probabilities of an answer, in the order of the classes."""
    by_name = {one["class"]: one["probability"] for one in prediction["top"]}
    return np.array([by_name[name] for name in CLASSES])


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    model: str
    stderr: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def serving(path: Path, scratch: Path, **settings: Any) -> Iterator[Served]:
    """Start a server in processes of its own, and end it."""
    said = scratch / "stderr"
    given = json.dumps({"port": 0, "drain_seconds": 0.2, **settings, "path": str(path)})
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, given], stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ}
        )
    assert process.stdout
    line = process.stdout.readline()
    assert line, said.read_text()
    ready = json.loads(line)
    served = Served(process, ready["url"], ready["model"], said)
    try:
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that tells colours; not to be changed."""
    return make_artifact(tmp_path_factory.mktemp("served") / "colours")


@pytest.fixture(scope="module")
def server(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that several tests share."""
    limits: dict[str, Any] = {"max_body_bytes": 200_000, "max_pixels": 1_000_000, "max_images": 4}
    limits |= {"head_seconds": 0.6, "body_seconds": 0.8}
    with serving(colours, tmp_path_factory.mktemp("server"), **limits) as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        yield client
