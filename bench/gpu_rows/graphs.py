"""Rows about ONNX files: which providers make a session, io binding, and zoo's own proof, predictions and server there.

zoo proves on the processor, and answers where it is told to (`--provider`). What the proof would say elsewhere is asked
here: in such a row's process each session is made with another provider instead.
"""

from __future__ import annotations

import io
import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from bench.gpu_rows.report import NotRun
from zoo.runtime.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.gpu_rows.report import Report

CPU, CUDA, TENSORRT = PROVIDERS["cpu"], PROVIDERS["cuda"], PROVIDERS["tensorrt"]
WORDS = {name: word for word, name in PROVIDERS.items()}
"""onnxruntime's name -> what `--provider` takes."""
ROUNDS = 9
BATCHES = (1, 8, 64)
OPENED = ort.InferenceSession
"""As it is before `instead` puts another in its place."""


def providers(report: Report) -> None:
    """Tell what onnxruntime was built with, and what each provider comes to."""
    report.figure("onnxruntime", ort.__version__)
    report.figure("built with", ", ".join(ort.get_available_providers()))
    for provider in (CUDA, TENSORRT):
        try:
            session = _session(_network(), provider)
        except Exception as exc:  # onnxruntime has an error of its own for each status
            report.figure(f"asked for {provider}", f"refused: {str(exc).splitlines()[0][:200]}")
        else:
            report.figure(f"asked for {provider}", f"came with {session.get_providers()[0]}")


def binding_on_cpu(report: Report) -> None:
    """Compare io binding with plain calls, where input and output need no copy."""
    _compare_binding(report, _session(_network(), CPU, threads=1), "image", (64, 64, 3), "cpu", BATCHES)


def _session(model: bytes | str, provider: str, *, threads: int = 0, settings: dict[str, str] | None = None) -> Any:
    from zoo.runtime.session import session_options

    if provider == CUDA and hasattr(ort, "preload_dlls"):
        # Its libraries may come with PyTorch's wheels, where the loader does not look.
        ort.preload_dlls()
    asked: list[Any] = [(provider, settings or {})] if provider == CPU else [(provider, settings or {}), CPU]
    return OPENED(model, session_options(threads=threads), providers=asked)


def _network() -> bytes:
    """Return a small network, uint8 [N, 64, 64, 3] to probabilities, as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = ((16, 3, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3))
    weights = [numpy_helper.from_array(rng.normal(0, 0.1, s).astype(np.float32), f"w{i}") for i, s in enumerate(shapes)]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    for number in range(len(shapes)):
        conv: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [f"x{number}", f"w{number}"], [f"c{number}"], **conv))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"x{number + 1}"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["x3"], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("Softmax", ["flat"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 64, 64, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 32])],
        weights,
    )
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return made


def _compare_binding(
    report: Report, session: Any, name: str, shape: tuple[int, ...], device: str, batches: tuple[int, ...]
) -> None:
    """Call a session plainly, and with input and output bound to the device's own memory, in turn."""
    rng = np.random.default_rng(0)
    output = session.get_outputs()[0].name
    for batch in batches:
        images = rng.integers(0, 256, (batch, *shape), dtype=np.uint8)
        bound = session.io_binding()
        bound.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(images, device, 0))
        bound.bind_output(output, device, 0)
        sides: dict[str, Callable[[], object]] = {
            "plain": lambda images=images: session.run(None, {name: images}),  # type: ignore[misc]
            "bound": lambda bound=bound: _run_bound(session, bound),  # type: ignore[misc]
        }
        (plain,) = session.run(None, {name: images})
        session.run_with_iobinding(bound)
        gap = float(np.abs(plain - bound.copy_outputs_to_cpu()[0]).max())
        seconds = _in_turn(sides)
        report.figure(f"bound over plain, {batch} images", _ratio(seconds, "plain", "bound"))
        report.figure(f"bound and plain differ by, {batch} images", gap)


def _run_bound(session: Any, bound: Any) -> None:
    session.run_with_iobinding(bound)
    bound.synchronize_outputs()


def _in_turn(sides: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return seconds of each side in each round, every side in every round."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(-2, ROUNDS):
        for side in random.Random(turn).sample(list(sides), len(sides)):
            begin = time.perf_counter()
            for _ in range(5):
                sides[side]()
            if turn >= 0:
                seconds[side].append(time.perf_counter() - begin)
    return seconds


def _ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


# ---- zoo's own files on another provider -----------------------------------------------------------------------------


def instead(provider: str, settings: dict[str, str] | None = None) -> None:
    """Let every session of this process that is opened from now on be one of another provider.

    Raises:
        NotRun: in whoever opens one, if the provider does not come.
    """
    if provider == CUDA and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()

    def opened(model: Any, options: Any = None, providers: Any = None, **rest: Any) -> Any:
        asked = [CPU] if provider == CPU else [(provider, settings or {}), CPU]
        session = OPENED(model, options, providers=asked, **rest)
        if provider not in session.get_providers():
            raise NotRun(f"{provider} does not come here, {session.get_providers()[0]} does")
        return session

    ort.InferenceSession = opened


def _artifact(report: Report) -> Path:
    """Return a proven fp32 file of a small run, made once for all rows."""
    from bench.gpu_rows.runs import options, trained
    from zoo.exporting.door import export
    from zoo.records.run import Run

    run = Run(report.folder / "onnx")
    if not run.finished:
        trained(run.path, options(report))
    # The proof of the CPU, which the answers of other providers are held against.
    found: Path = export(run.path, "onnx", precision="fp32", progress=False).path
    return found


def on_cuda(report: Report) -> None:
    """The proof on CUDAExecutionProvider, as it comes and without TF32."""
    _on(report, CUDA)


def on_tensorrt(report: Report) -> None:
    """The proof on TensorrtExecutionProvider."""
    _on(report, TENSORRT)


def _refuse_absent(report: Report, provider: str) -> str:
    if report.rehearsal:
        return CPU
    if provider not in ort.get_available_providers():
        raise NotRun(f"onnxruntime was built without {provider}")
    if _session(_network(), provider).get_providers()[0] != provider:
        raise NotRun(f"{provider} cannot be loaded here; the row `providers` says what came instead")
    return provider


def _on(report: Report, provider: str) -> None:
    from zoo.runtime.golden import replay
    from zoo.runtime.model import Model

    provider = _refuse_absent(report, provider)
    artifact = _artifact(report)
    report.figure("golden answers, --provider", str(replay(Model(artifact, provider=WORDS[provider]))))
    ways: dict[str, dict[str, str]] = {"": {}, " without TF32": {"use_tf32": "0"}} if provider == CUDA else {"": {}}
    for way, settings in ways.items():
        instead(provider, settings)
        _proof(report, artifact, way)
    ort.InferenceSession = OPENED
    file, device = str(artifact / "model.onnx"), "cpu" if provider == CPU else "cuda"
    session, beside = _session(file, provider), _session(file, CPU)
    taken = session.get_inputs()[0]
    _compare_binding(report, session, taken.name, tuple(taken.shape[1:]), device, BATCHES)
    for batch in BATCHES:
        images = {taken.name: np.zeros((batch, *taken.shape[1:]), np.uint8)}
        sides: dict[str, Callable[[], object]] = {
            "cpu": lambda images=images: beside.run(None, images),  # type: ignore[misc]
            "here": lambda images=images: session.run(None, images),  # type: ignore[misc]
        }
        report.figure(f"{provider} over CPU, {batch} images", _ratio(_in_turn(sides), "cpu", "here"))


def _proof(report: Report, artifact: Path, way: str) -> None:
    """Ask for every number of the proof again, by the provider that sessions have now."""
    from zoo.deploy.door import verify
    from zoo.errors import ProofFailed

    try:
        verify(artifact, progress=False)
    except ProofFailed as exc:
        report.figure(f"the whole proof again{way}", f"refused: {str(exc)[-400:]}")
    else:
        report.figure(f"the whole proof again{way}", "the same")


def serving(report: Report) -> None:
    """Classify with the runtime and with `zoo serve` on the GPU, and compare with the CPU."""
    from PIL import Image

    from bench.serving.server import serving as server
    from zoo.runtime.model import Model

    word = WORDS[_refuse_absent(report, CUDA)]
    artifact = _artifact(report)
    beside = Model(artifact)
    side = beside.manifest.view.size[0]
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((side, side)).save(out, "PNG")
    with server(artifact, "--provider", word) as served:
        report.figure("the server's own replay of golden answers", "right")
        found = _asked(served.port, out.getvalue())
    report.figure("predict on the CPU", _first(beside.predict(out.getvalue(), top=1)[0].to_json()))
    there = Model(artifact, provider=word)
    report.figure("predict here", _first(there.predict(out.getvalue(), top=1)[0].to_json()))
    report.figure("serve here", _first(found["predictions"][0]))


def _first(answer: dict[str, Any]) -> str:
    """Return the most probable class and its probability."""
    best = answer["top"][0]
    return f"{best['class']} {best['probability']:.6f}"


def _asked(port: int, picture: bytes) -> dict[str, Any]:
    from urllib.request import Request, urlopen

    request = Request(f"http://127.0.0.1:{port}/v1/predict?top=1", picture, {"Content-Type": "image/png"})
    with urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
