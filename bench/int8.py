"""Is zoo's int8 more accurate and faster than what others make of the same fp32 file and the same images?

Models are trained on `shapes`, drawn files, or on `digits` (kept under --runs, so that a second call starts at once),
and exported at fp32 and int8 by `zoo export`. From the same fp32 file and calibration images come onnxruntime's usual
static recipe (`quant_pre_process`, `quantize_static`: QDQ, min-max, per channel, uint8 activations, int8 weights, all
operators) and NNCF's `quantize`. Each is timed beside fp32 in turn, one image at a time, one thread: `MODEL_speedup` is
over fp32 in onnxruntime, the median of five runs. `MODEL_drop` is in points of top-1 on all test images,
against fp32.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from zoo.catalogue import Catalogue
from zoo.data.loader import evaluation_batches
from zoo.exporting.export import ExportSpec, export_run
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.records.trained import load_trained
from zoo.runtime.session import OnnxPredictor
from zoo.runtime.timing import interleave
from zoo.training.session import start_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zoo.records.trained import Trained

REPEATS = 5
TIMED_IMAGES = 16
MAX_DROP = 0.5
WAYS = ("", "plain_", "nncf_")
"""Before "speedup" and "drop" in the names of the ratios: zoo, `quantize_static`, NNCF."""


@dataclass(frozen=True)
class Training:
    """How a model gets above 90 % in minutes on two cores."""

    epochs: int
    lr: float
    start: int = 48
    """The side of the first epoch's images; 0 for networks that take one size only."""
    dataset: str = "shapes"
    """Transformers learn little from a few thousand images of shapes, and the digits in minutes."""


SIX = {
    "resnet18": Training(7, 3e-3),
    "efficientnet_lite0": Training(16, 4e-3),
    "mobilenetv3_small_100": Training(12, 4e-3),
    "efficientnet_b0": Training(16, 4e-3),
    "convnext_atto": Training(20, 2e-3),
    "vit_tiny_patch16_224": Training(40, 1e-3, start=0, dataset="digits"),
}
MORE = {
    "resnet50": Training(7, 3e-3),
    "swin_tiny_patch4_window7_224": Training(12, 6e-4, start=0, dataset="digits"),
    "repvit_m0_9": Training(8, 3e-3),
    "regnetx_002": Training(9, 4e-3),
    "pvt_v2_b0": Training(12, 1e-3, start=64),
    "mobilevit_xxs": Training(10, 3e-3, start=64),
    "fastvit_t8": Training(8, 3e-3, start=64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--models", nargs="*", default=list(SIX), choices=[*SIX, *MORE], metavar="MODEL")
    parser.add_argument("--search", default="balanced")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    catalogue = Catalogue.read()
    table = Table("model", "top-1 fp32", "", "speed over fp32", "drop, points", "size", title="int8, side by side")
    ratios: dict[str, float] = {}
    for name in arguments.models:
        run = trained_run(catalogue, name, arguments.size, arguments.runs)
        compared = compare(catalogue, run, arguments.search)
        for way, label in zip(WAYS, ("zoo", "onnxruntime, plain", "NNCF"), strict=True):
            ratios |= {f"{name}_{way}{key}": compared[way + key] for key in ("speedup", "drop")}
            told = (
                f"{compared[way + 'speedup']:.2f}x",
                f"{compared[way + 'drop']:.2f}",
                f"{compared[way + 'mb']:.2f} MB",
            )
            first = (name, f"{100 * compared['top1']:.2f} %") if not way else ("", "")
            table.add_row(*first, label + (f" ({compared['precision']})" if not way else ""), *told)
    Console().print(table)
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


def trained_run(catalogue: Catalogue, name: str, size: int, runs: Path) -> Run:
    """Return a finished run of a model, trained if there is none yet."""
    run = Run(runs / f"bench-{name}-{size}")
    if run.record_file.is_file():
        return run
    how = (SIX | MORE)[name]
    given = {
        "model": name,
        "dataset": how.dataset,
        "dataset_options": {"count": "600"} if how.dataset == "shapes" else {},
        "augment": "light",
        "pretrained": False,
        "epochs": how.epochs,
        "lr": how.lr,
        "image_size": size,
        "image_size_start": min(how.start, size),
        "label_smoothing": 0.0,
        "threads": 1,
    }
    return start_run(catalogue, resolve_options(catalogue, given, None, None), run.path)


def compare(catalogue: Catalogue, run: Run, search: str) -> dict[str, Any]:
    """Return speed, drop and size of zoo's file, the plain one and NNCF's."""
    fp32, _ = export_run(catalogue, run, ExportSpec(format="onnx", precision="fp32"))
    ours, manifest = export_run(
        catalogue,
        run,
        ExportSpec(format="onnx", precision="int8", max_drop=MAX_DROP, options={"search": search}),
        lambda text: print(text, flush=True),
    )
    trained = load_trained(catalogue, run)
    with tempfile.TemporaryDirectory() as scratch:
        source = fp32.path / "model.onnx"
        files = {
            "": ours.path / "model.onnx",
            "plain_": plain(source, trained, Path(scratch)),
            "nncf_": nncf(source, trained, Path(scratch)),
        }
        found = measure(source, files, trained)
        found |= {f"{way}mb": file.stat().st_size / 1e6 for way, file in files.items()}
    return {**found, "precision": manifest.precision}


def measure(source: Path, files: Mapping[str, Path], trained: Trained) -> dict[str, float]:
    """Time each file beside fp32, several times, and ask all of them the whole test split, which has chosen nothing.

    Both are opened anew each time: where a session's memory happens to lie moves its latency by a tenth.
    """
    split = trained.data.splits["test"]
    batches = [images for images, _ in evaluation_batches(split, trained.preprocess, batch_size=32)]
    right = {}
    for way, file in {**files, "fp32": source}.items():
        predict = OnnxPredictor(file, threads=1)
        right[way] = float((np.concatenate([predict(b) for b in batches]).argmax(1) == split.labels).mean())
    speeds: dict[str, list[float]] = {way: [] for way in files}
    for _ in range(REPEATS):
        for way, file in files.items():
            pair = {"fp32": OnnxPredictor(source, threads=1), "int8": OnnxPredictor(file, threads=1)}
            timings = interleave(pair, batches[0][:TIMED_IMAGES], seconds=1.0)
            speeds[way].append(timings["int8"].speedup_over(timings["fp32"]))
    found = {f"{way}speedup": statistics.median(values) for way, values in speeds.items()}
    found |= {f"{way}drop": 100 * (right["fp32"] - right[way]) for way in files}
    return {**found, "top1": right["fp32"]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own words from the table."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def plain(source: Path, trained: Trained, folder: Path) -> Path:
    """Quantize as onnxruntime's own example does."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, result = folder / "prepared.onnx", folder / "plain.onnx"
    with quiet():
        try:
            quant_pre_process(str(source), str(prepared))
        except Exception:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(result),
            Reader(images(trained)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return result


def nncf(source: Path, trained: Trained, folder: Path) -> Path:
    """Quantize with NNCF's post-training quantization; transformers are announced as such."""
    with quiet():
        import nncf  # type: ignore[import-untyped]

        model = onnx.load(source)
        attention = sum(node.op_type == "Softmax" for node in model.graph.node) > 1
        quantized = nncf.quantize(
            model,
            nncf.Dataset([{"image": image[None]} for image in images(trained)]),
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
        )
        onnx.save(quantized, folder / "nncf.onnx")
    return folder / "nncf.onnx"


def images(trained: Trained) -> list[np.ndarray]:
    """Return the calibration images, uint8 [H, W, 3]."""
    return [image for batch in trained.calibration() for image in batch]


class Reader:
    """Hands images to onnxruntime's calibrator, one by one."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


if __name__ == "__main__":
    main()
