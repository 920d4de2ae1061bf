"""A GPU is used where it was asked for and loads; where it does not, one line says so and nothing else answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest

from zoo.deploy.serve.subject import load
from zoo.errors import ArtifactInvalid
from zoo.runtime import providers
from zoo.runtime.cli import main as device
from zoo.runtime.errors import BundleError
from zoo.runtime.model import Model
from zoo.runtime.session import OnnxPredictor

from ..conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.records.artifact import Artifact

    from ..conftest import Answer

STORED = ROOT / "tests/stability/stored/schema-1/export/onnx-int8"


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this machine for one where CUDA does not load, as onnxruntime tells it: a session of the processor's."""
    opened = onnxruntime.InferenceSession

    def session(model: str, options: Any, **more: Any) -> Any:
        return opened(model, options, **{**more, "providers": ["CPUExecutionProvider"]})

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(providers.PROVIDERS.values()))


@pytest.mark.parametrize("word", ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPUExecutionProvider"])
def test_a_word_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(BundleError, match=r"unknown; use cpu, cuda, tensorrt, or cuda:1"):
        providers.check_provider(word)


@pytest.mark.parametrize("word", ["cuda", "cuda:1", "tensorrt"])
def test_the_real_one_answers_or_says_in_one_line_why_not(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    said = ""
    try:
        predict = OnnxPredictor(STORED / "model.onnx", provider=word)
    except BundleError as exc:
        said = str(exc)
    if said:
        assert said.startswith((f"provider {word} does not load here: ", "this onnxruntime was built without"))
        assert said.endswith("use cpu")
        assert "\n" not in said
    else:
        assert predict._session.get_providers()[0] == providers.PROVIDERS[word.partition(":")[0]]
    # onnxruntime's own words are many lines, some of them on stdout.
    assert capfd.readouterr() == ("", "")


def test_a_session_that_came_with_the_processor_is_refused(without_gpu: None) -> None:
    with pytest.raises(BundleError, match="provider cuda does not load here"):
        Model(STORED, provider="cuda")


def test_a_build_without_the_provider_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BundleError, match="built without TensorrtExecutionProvider; install onnxruntime-gpu"):
        Model(STORED, provider="tensorrt")


def test_the_card_is_asked_for_exact_floats_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Session:
        def __init__(self, model: str, options: Any, **more: Any) -> None:
            asked.update(more)

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(providers.PROVIDERS.values()))
    providers.open_session("model.onnx", onnxruntime.SessionOptions(), provider="cuda:1")
    (name, settings), rest = asked["providers"]
    assert (name, rest) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert settings == {"device_id": "1", "use_tf32": "0"}
    assert asked["enable_fallback"] == 0


@pytest.mark.parametrize("command", ["predict", "selftest", "bench"])
def test_the_device_says_so_in_one_line(
    command: str, without_gpu: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    images = [str(tmp_path / "a.png")] if command == "predict" else []
    assert device([command, *images, "--bundle", str(STORED), "--provider", "cuda"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_device_tells_what_its_figures_were_measured_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert device(["bench", "--bundle", str(STORED), "--seconds", "0", "--no-write", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provider"] == "cpu"


def test_bench_compares_providers(
    cli: Callable[..., Answer], onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Counted(OnnxPredictor):
        def __init__(self, file: Path, *, threads: int, provider: str) -> None:
            opened.append(provider)
            super().__init__(file, threads=threads)

    monkeypatch.setattr("zoo.exporting.bench.OnnxPredictor", Counted)
    words = ("--provider", "cpu", "--provider", "cuda", "--provider", "cpu")
    told = json.loads(cli("bench", onnx_artifact.path, "--seconds", "0.1", *words, "--json").stdout)["artifacts"]
    assert [one["provider"] for one in told] == ["cpu", "cuda"]
    assert opened == ["cuda"]
    assert told[0]["speedup"] == 1


def test_bench_says_in_one_line_what_is_not_there(
    cli: Callable[..., Answer], onnx_artifact: Artifact, without_gpu: None
) -> None:
    for word, told in (("gpu", "is unknown; use cpu"), ("cuda", "does not load here")):
        answer = cli("bench", onnx_artifact.path, "--provider", word)
        assert (answer.code, answer.stdout) == (1, "")
        assert told in answer.stderr


def test_a_server_is_not_started_on_a_card_that_does_not_load(without_gpu: None) -> None:
    with pytest.raises(ArtifactInvalid, match="provider cuda does not load here"):
        load(STORED, threads=1, provider="cuda")
    assert load(STORED, threads=1).about()["provider"] == "cpu"
