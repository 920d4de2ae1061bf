"""What is special about OpenVINO; the contract of every exporter is `zoo.testing.ExporterContract`, at the end."""

from __future__ import annotations

import copy
import getpass
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from zoo.errors import ArtifactInvalid, OptionInvalid
from zoo.plugin import ExportRequest, ExportUnsupported, Preprocess, Target
from zoo.testing import ExporterContract

from zoo_plugin_openvino.exporter import OpenVinoExporter
from zoo_plugin_openvino.int8 import has_attention
from zoo_plugin_openvino.predictor import read
from zoo_plugin_openvino.silence import load, reason, silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Files = Callable[[str, str], Path]

SIDE = 32
CLASSES = ("ant", "bee", "cat", "dog")
EXPORTER = OpenVinoExporter()
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
BACKBONES = pytest.mark.parametrize("backbone", ["resnet", "vit"])
PREPROCESS = Preprocess(size=(SIDE, SIDE))


def pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """Noisy pictures of large coloured blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    return (blocks + rng.normal(0, 10, blocks.shape)).clip(0, 255).astype(np.uint8)


def make_backbone(name: str) -> torch.nn.Module:
    """Random weights, and the batch norm statistics of `pictures`."""
    torch.manual_seed(0)
    if name == "resnet":
        backbone: torch.nn.Module = timm.create_model("test_resnet", num_classes=len(CLASSES))
    else:
        backbone = timm.create_model("vit_tiny_patch16_224", num_classes=len(CLASSES), img_size=SIDE, depth=2)
    with torch.no_grad():
        PREPROCESS.wrap(backbone).train()(torch.from_numpy(pictures(64)))
    return backbone.eval()


def make_request(backbone: torch.nn.Module, precision: str, **changes: Any) -> ExportRequest:
    def calibration() -> Iterator[np.ndarray]:
        yield from np.split(pictures(70), [32, 64])

    given: dict[str, Any] = {
        "model": PREPROCESS.wrap(backbone, multi_label=changes.get("multi_label", False)).eval(),
        "backbone": backbone,
        "preprocess": PREPROCESS,
        "classes": CLASSES,
        "precision": precision,
        "calibration": calibration,
        "target": Target(),
    }
    return ExportRequest(**{**given, **changes})


def eager(backbone: torch.nn.Module, images: np.ndarray, *, multi_label: bool = False) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(PREPROCESS.wrap(backbone, multi_label=multi_label).eval()(torch.from_numpy(images)).numpy())


def types(model_file: Path) -> list[str]:
    """The graph's operations, as openvino reads them."""
    load("openvino")
    return [node.get_type_name() for node in read(model_file).get_ops()]


@pytest.fixture(scope="session")
def backbones() -> dict[str, torch.nn.Module]:
    return {name: make_backbone(name) for name in ("resnet", "vit")}


@pytest.fixture(scope="session")
def files(backbones: dict[str, torch.nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Export once for a session."""
    made: dict[tuple[str, str], Path] = {}

    def export(backbone: str, precision: str) -> Path:
        if (backbone, precision) not in made:
            out = tmp_path_factory.mktemp("export") / "model.xml"
            EXPORTER.export(make_request(backbones[backbone], precision), out)
            made[backbone, precision] = out
        return made[backbone, precision]

    return export


def size(model_file: Path) -> int:
    return model_file.with_suffix(".bin").stat().st_size


def test_fp16_has_half_the_weights_and_int8_a_quarter(files: Files) -> None:
    fp32, fp16, int8 = (size(files("vit", precision)) for precision in ("fp32", "fp16", "int8"))
    assert 0.49 * fp32 < fp16 < 0.51 * fp32
    assert int8 < 0.3 * fp32


def test_fp16_answers_nearly_as_the_original(files: Files, backbones: dict[str, torch.nn.Module]) -> None:
    images = pictures(50, seed=1)
    answers = EXPORTER.open(files("vit", "fp16"), threads=1)(images)
    assert np.abs(answers - eager(backbones["vit"], images)).max() < 1e-2


@BACKBONES
def test_int8_graph_is_quantized(backbone: str, files: Files) -> None:
    assert "FakeQuantize" not in types(files(backbone, "fp32"))
    quantized = files(backbone, "int8")
    assert types(quantized).count("FakeQuantize") >= 10
    constants = [node for node in read(quantized).get_ops() if node.get_type_name() == "Constant"]
    assert "i8" in {node.get_element_type().to_string() for node in constants}


def test_attention_is_read_off_the_graph(files: Files) -> None:
    assert not has_attention(read(files("resnet", "fp32")))
    assert has_attention(read(files("vit", "fp32")))


def test_int8_transformer_agrees_with_the_original(files: Files, backbones: dict[str, torch.nn.Module]) -> None:
    images = pictures(200, seed=1)
    answers = EXPORTER.open(files("vit", "int8"), threads=1)(images)
    assert (answers.argmax(1) == eager(backbones["vit"], images).argmax(1)).mean() >= 0.9


def test_whole_bias_correction_is_the_more_exact_one(
    files: Files, backbones: dict[str, torch.nn.Module], tmp_path: Path
) -> None:
    request = make_request(backbones["resnet"], "int8", options={"fast_bias_correction": False})
    EXPORTER.export(request, tmp_path / "model.xml")
    images = pictures(200, seed=1)
    expected = eager(backbones["resnet"], images)
    whole, fast = (EXPORTER.open(file)(images) for file in (tmp_path / "model.xml", files("resnet", "int8")))
    assert np.abs(whole - expected).mean() < np.abs(fast - expected).mean() < 0.05


@pytest.mark.parametrize("option", [{"activation_range": "widest"}, {"calibration_images": 0}])
def test_option_out_of_range_is_refused(
    option: dict[str, object], backbones: dict[str, torch.nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(OptionInvalid, match=next(iter(option))):
        EXPORTER.export(make_request(backbones["resnet"], "int8", options=option), tmp_path / "model.xml")
    assert not list(tmp_path.iterdir())


def test_no_more_calibration_images_are_taken_than_asked_for(
    backbones: dict[str, torch.nn.Module], tmp_path: Path
) -> None:
    def calibration() -> Iterator[np.ndarray]:
        yield pictures(4)
        pytest.fail("a second batch was asked for")

    request = make_request(
        backbones["resnet"],
        "int8",
        calibration=calibration,
        options={"calibration_images": 3, "activation_range": "histogram"},
    )
    EXPORTER.export(request, tmp_path / "model.xml")


@PRECISIONS
def test_multi_label_ends_in_sigmoids(precision: str, backbones: dict[str, torch.nn.Module], tmp_path: Path) -> None:
    EXPORTER.export(make_request(backbones["vit"], precision, multi_label=True), tmp_path / "model.xml")
    images = pictures(20, seed=1)
    answers = EXPORTER.open(tmp_path / "model.xml")(images)
    assert np.abs(answers - eager(backbones["vit"], images, multi_label=True)).max() < 0.1


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_threads_are_openvino_s(threads: int, files: Files) -> None:
    predict: Any = EXPORTER.open(files("resnet", "fp32"), threads=threads)
    compiled = predict._compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    if threads:
        assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert predict(pictures(2)).shape == (2, len(CLASSES))


def test_answers_are_the_caller_s_and_no_image_has_none(files: Files) -> None:
    predict = EXPORTER.open(files("resnet", "int8"), threads=1)
    images = pictures(3)
    first = predict(images)
    kept = first.copy()
    predict(255 - images)
    assert np.array_equal(first, kept)
    assert predict(images[:0]).shape == (0, len(CLASSES))
    images.flags.writeable = False
    assert np.array_equal(predict(images), kept)
    assert np.abs(predict(images[::-1]) - kept[::-1]).max() < 1e-6


@BACKBONES
@PRECISIONS
def test_files_tell_nothing_about_where_they_were_made(backbone: str, precision: str, files: Files) -> None:
    here = str(Path(__file__).resolve().parents[1]).encode()
    file = files(backbone, precision)
    for trace in (here, b"site-packages", b"/root", b"/home", b"/tmp", b"/" + getpass.getuser().encode(), b".py"):
        assert trace not in file.read_bytes() + file.with_suffix(".bin").read_bytes()


@PRECISIONS
def test_same_weights_give_the_same_files(
    precision: str, files: Files, backbones: dict[str, torch.nn.Module], tmp_path: Path
) -> None:
    before = files("resnet", precision)
    EXPORTER.export(make_request(backbones["resnet"], precision), tmp_path / "again.xml")
    assert (tmp_path / "again.xml").read_bytes() == before.read_bytes()
    assert (tmp_path / "again.bin").read_bytes() == before.with_suffix(".bin").read_bytes()


@BACKBONES
@PRECISIONS
def test_process_and_model_are_left_as_they_were(
    backbone: str,
    precision: str,
    backbones: dict[str, torch.nn.Module],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    request = make_request(backbones[backbone], precision)

    def state() -> list[Any]:
        root = logging.getLogger()
        return [
            random.getstate(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            os.environ.copy(),
            (logging.getLoggerClass(), root.level, root.filters[:], root.handlers[:], root.manager.disable),
            [(name, m.training, getattr(m, "fused_attn", None)) for name, m in request.model.named_modules()],
        ]

    weights, before = copy.deepcopy(request.model.state_dict()), state()
    EXPORTER.export(request, tmp_path / "model.xml")
    EXPORTER.open(tmp_path / "model.xml")(pictures(2))
    assert state() == before
    assert all(torch.equal(weights[name], value) for name, value in request.model.state_dict().items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert capfd.readouterr() == ("", "")


WATCHED = """
import sys
def watch(event, args):
    if event.startswith(("socket.", "urllib", "subprocess", "os.fork", "os.posix_spawn", "os.system")):
        print("seen:", event, args)
from pathlib import Path
import numpy as np, timm, torch
from zoo.plugin import ExportRequest, Preprocess, Target
from zoo_plugin_openvino.exporter import OpenVinoExporter
assert not {"openvino", "nncf"} & set(sys.modules)
preprocess = Preprocess(size=(32, 32))
backbone = timm.create_model("test_resnet", num_classes=4).eval()
images = np.zeros((4, 32, 32, 3), np.uint8)
request = ExportRequest(model=preprocess.wrap(backbone).eval(), backbone=backbone, preprocess=preprocess,
    classes=tuple("abcd"), precision="int8", calibration=lambda: iter([images]), target=Target())
sys.addaudithook(watch)
OpenVinoExporter().export(request, Path("out/model.xml"))
OpenVinoExporter().open(Path("out/model.xml"), threads=1)(images)
"""


def test_nothing_is_sent_or_written_elsewhere_or_said(tmp_path: Path) -> None:
    # In a process of its own: nncf sends nothing where it finds pytest.
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED],
        cwd=tmp_path,
        env={**env, "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(home.iterdir())
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["home", "model.bin", "model.xml", "out"]


class BranchesOnPixels(torch.nn.Module):
    """Its Python code depends on the values that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits if x.mean() > 0 else -3 * logits


class Unknown(torch.nn.Module):
    """Has an operation that openvino lacks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = torch.linalg.svd(x.mean(1))[1]
        return values[:, : len(CLASSES)]


class FixedBatch(torch.nn.Module):
    """Holds on to the batch size that it was traced with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1).reshape(int(x.shape[0]), -1)[:, : len(CLASSES)] + torch.zeros(int(x.shape[0]), 1)


class Broken(torch.nn.Module):
    """Raises, in two lines."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no\nand no again")


@PRECISIONS
@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        (BranchesOnPixels(), "on other pixels or batch sizes"),
        (Unknown(), "No conversion rule found for operations: aten::linalg_svd"),
        (FixedBatch(), "on other pixels or batch sizes"),
        (Broken(), "failed: no;"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_model_that_cannot_be_converted_is_refused_in_one_line(
    backbone: torch.nn.Module, said: str, precision: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, root.filters[:], root.handlers[:])
    with pytest.raises(ExportUnsupported, match=f"openvino {precision}.*{said}.* try --") as caught:
        EXPORTER.export(make_request(backbone.eval(), precision), tmp_path / "model.xml")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert (root.level, root.filters, root.handlers) == before
    assert capfd.readouterr() == ("", "")


def test_calibration_without_images_is_refused(backbones: dict[str, torch.nn.Module], tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match="calibration images"):
        EXPORTER.export(make_request(backbones["resnet"], "int8", calibration=lambda: iter(())), tmp_path / "model.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of a file")
@PRECISIONS
def test_full_disk_is_an_os_error_and_leaves_nothing(
    precision: str, backbones: dict[str, torch.nn.Module], tmp_path: Path
) -> None:
    import resource
    import signal

    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r".") as caught:
            EXPORTER.export(make_request(backbones["resnet"], precision), tmp_path / "model.xml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["xml", "bin"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "html", "cut", "missing"])
def test_corrupt_file_is_refused_in_one_line(
    part: str, damage: str, files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, model_file = files("resnet", "int8"), tmp_path / "model.xml"
    for suffix in (".xml", ".bin"):
        model_file.with_suffix(suffix).write_bytes(source.with_suffix(suffix).read_bytes())
    damaged = model_file.with_suffix(f".{part}")
    whole = damaged.read_bytes()
    contents = {"empty": b"", "garbage": b"\xff\0", "html": b"<html></html>", "cut": whole[: len(whole) // 2]}
    damaged.unlink()
    if damage != "missing":
        damaged.write_bytes(contents[damage])
    with pytest.raises(ArtifactInvalid, match=r"openvino cannot load it.*export it again") as caught:
        EXPORTER.open(model_file)
    assert "\n" not in str(caught.value)
    assert "core.cpp" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_silence_hides_and_restores(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "no")
    with silence():
        print("out")
        print("err", file=sys.stderr)
        logging.getLogger("nncf").critical("log")
        assert os.environ["CI"] == "true"
    assert os.environ["CI"] == "no"
    assert capfd.readouterr() == ("", "")


def test_reason_is_one_line_of_bounded_length() -> None:
    assert reason(ValueError()) == "ValueError"
    assert (
        reason(RuntimeError("Exception from a.cpp:1:\nCheck 'x' failed at b.cpp:2:\nno such thing.\n"))
        == "no such thing"
    )
    assert len(reason(ValueError("x" * 1000))) == 240


class TestContract(ExporterContract):
    name = "openvino"
