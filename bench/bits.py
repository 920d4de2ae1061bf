"""What do weights cost that can saturate on no x86: beside weights of 8 bits, with and without the session option?

One plan for each network, all convolutions static and matrix products dynamic, is quantized three times from the same
ranges: `pairs` as zoo does it, each channel's weights as large as no two neighbours saturate with; `eight` with all
8 bits, which x86 without VNNI needs `session.x64quantprecision` for; `seven` with 7 (onnxruntime's `reduce_range`).
`MODEL_WAY_drop` is in points of top-1 on all validation and test images, and `MODEL_WAY_cosine` the median cosine of
the logits, both beside fp32 and computed exactly. `MODEL_pairs_speedup` and `MODEL_eight_speedup` are over fp32,
`MODEL_exact_speedup` is that of `eight` with the option set, whatever the processor: medians of five, all in turn, one
thread, one image. Networks are trained on `shapes` or `digits` as `bench/int8.py` does, and kept under --runs.
--real FILE --photos DIR adds EfficientNet-Lite0 with weights for ImageNet: there `drop` counts answers that differ
from fp32's among 1,000 classes, on pictures of any kind.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table

from bench.int8 import SIX, trained_run
from zoo.catalogue import Catalogue
from zoo.contracts.preprocess import Preprocess
from zoo.data.folders import image_files
from zoo.data.loader import evaluation_batches
from zoo.exporting.compare import fidelity
from zoo.plugin import ExportRequest, Split, Target
from zoo.records.trained import load_trained
from zoo.runtime.processor import kind
from zoo.runtime.session import EXACT, OnnxPredictor
from zoo.runtime.timing import interleave
from zoo_exporters.onnx.fp32 import float_model
from zoo_exporters.onnx.graph import save, seal
from zoo_exporters.onnx.int8.prepare import prepare, silent_sessions
from zoo_exporters.onnx.int8.products import products
from zoo_exporters.onnx.int8.quantize import quantize
from zoo_exporters.onnx.int8.ranges import ranges, watch
from zoo_exporters.onnx.int8.recipe import Recipe
from zoo_exporters.onnx.saturation import may_saturate, noted

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

REPEATS = 5
TIMED_IMAGES = 16
WAYS = {"pairs": (False, False), "eight": (True, False), "seven": (True, True)}
"""Way -> whether all bits are used, and whether the range is reduced."""
MODELS = ("resnet18", "mobilenetv3_small_100", "efficientnet_b0", "vit_tiny_patch16_224")
REAL = "efficientnet_lite0, real weights"
CALIBRATION = 64


@dataclass(frozen=True)
class Subject:
    """A network, the images it is asked, and what is right."""

    request: ExportRequest
    images: np.ndarray
    """uint8 [N, H, W, 3]."""
    labels: np.ndarray | None
    """int64 [N]; None where fp32's own answers are what counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(SIX), metavar="MODEL")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--real", type=Path, help="tf_efficientnet_lite0's weights for ImageNet")
    parser.add_argument("--photos", type=Path, help="a folder of pictures")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    subjects: dict[str, Callable[[], Subject]] = {
        name: functools.partial(of_run, name, arguments.size, arguments.runs) for name in arguments.models
    }
    if arguments.real and arguments.photos:
        subjects[REAL] = functools.partial(real, arguments.real, arguments.photos)
    table = Table("network", "top-1 fp32", "", "lost, points", "cosine", "over fp32", "saturates", title=kind())
    figures: dict[str, float] = {}
    for name, make in subjects.items():
        found = compared(make())
        figures |= {f"{name}_{key}": value for key, value in found.items() if isinstance(value, float)}
        for way in WAYS:
            first = (name, f"{100 * found['top1']:.2f} %") if way == "pairs" else ("", "")
            speed = f"{found[f'{way}_speedup']:.2f}x" if f"{way}_speedup" in found else ""
            if way == "eight":
                speed += f" (exact {found['exact_speedup']:.2f}x)"
            told = (f"{found[f'{way}_drop']:.2f}", f"{found[f'{way}_cosine']:.4f}", speed)
            table.add_row(*first, way, *told, "yes" if found[f"{way}_saturates"] else "no")
    Console().print(table)
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def of_run(name: str, size: int, runs: Path) -> Subject:
    """Return a network trained on drawn shapes or on digits, and the images that it was not trained on."""
    trained = load_trained(Catalogue.read(), trained_run(Catalogue.read(), name, size, runs))
    splits = [trained.data.splits[part] for part in ("val", "test")]
    images = [batch for split in splits for batch, _ in evaluation_batches(split, trained.preprocess)]
    request = ExportRequest(
        model=trained.shipped,
        backbone=trained.backbone,
        preprocess=trained.preprocess,
        classes=trained.record.classes,
        precision="int8",
        calibration=trained.calibration,
        target=Target(),
    )
    return Subject(request, np.concatenate(images), np.concatenate([split.labels for split in splits]))


def real(weights: Path, photos: Path) -> Subject:
    """Return EfficientNet-Lite0 with its 1,000 classes; every eighth picture calibrates, the others are asked."""
    import timm

    backbone = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(weights)).eval()
    likes: Any = backbone.pretrained_cfg
    preprocess = Preprocess.from_pretrained_cfg(likes)
    files = image_files(photos)
    split = Split(images=files, labels=np.zeros(len(files), np.int64))
    images = np.concatenate([batch for batch, _ in evaluation_batches(split, preprocess)])
    few = images[::8][:CALIBRATION]
    request = ExportRequest(
        model=preprocess.wrap(backbone),
        backbone=backbone,
        preprocess=preprocess,
        classes=tuple(map(str, range(1000))),
        precision="int8",
        calibration=lambda: iter([few]),
        target=Target(),
    )
    return Subject(request, np.delete(images, np.s_[::8], 0), None)


def compared(subject: Subject) -> dict[str, Any]:
    """Return drop, cosine and speed of each way, and whether its file may saturate."""
    request = subject.request
    with silent_sessions(), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = float_model(request)
        graph = prepare(model)
        known = products(graph)
        matrices = frozenset(product.name for product in known if product.kind == "matrix")
        static = frozenset(product.name for product in known) - matrices
        recipe = Recipe(static=static, dynamic=matrices if len(matrices) > 1 else frozenset(), follow="linear")
        recipe = recipe if recipe.dynamic else replace(recipe, static=static | matrices)
        few = np.concatenate(list(request.calibration()))[:CALIBRATION]
        seen = ranges(watch(graph, [few], seed=0), "minmax")
        fp32 = written(model, request, folder / "fp32.onnx", {})
        wanted = asked(fp32, subject.images)
        labels = wanted.argmax(1) if subject.labels is None else subject.labels
        found: dict[str, Any] = {"top1": float((wanted.argmax(1) == labels).mean())}
        files = {"fp32": fp32}
        for way, (whole, reduced) in WAYS.items():
            target = replace(request.target, reduce_range=reduced)
            made = quantize(graph, replace(recipe, eight_bits=whole), seen, target)
            files[way] = written(made, request, folder / f"{way}.onnx", noted(made))
            answers = asked(files[way], subject.images)
            found[f"{way}_drop"] = 100 * (found["top1"] - float((answers.argmax(1) == labels).mean()))
            found[f"{way}_cosine"] = float(fidelity(wanted, answers).cosine)
            found[f"{way}_saturates"] = bool(may_saturate(made))
        return found | speeds(files, subject.images[:TIMED_IMAGES])


def written(model: ModelProto, request: ExportRequest, file: Path, session: dict[str, str]) -> Path:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    seal(copied, request, session)
    return save(copied, file)


def asked(file: Path, images: np.ndarray) -> np.ndarray:
    """Ask in batches, exactly on any processor."""
    predict = OnnxPredictor(file)
    return np.concatenate([predict(images[at : at + 32]) for at in range(0, len(images), 32)])


def speeds(files: dict[str, Path], images: np.ndarray) -> dict[str, float]:
    """Return speeds over fp32, each opened anew each time: as onnxruntime opens it, and `eight` told to be exact."""
    sides = {"fp32": ("fp32", "0"), "pairs": ("pairs", "0"), "eight": ("eight", "0"), "exact": ("eight", "1")}
    rounds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(REPEATS):
        opened = {side: _plainly(files[way], exact) for side, (way, exact) in sides.items()}
        timings = interleave(opened, images, seconds=2.0)
        for side in sides:
            rounds[side].append(timings[side].speedup_over(timings["fp32"]))
    return {f"{side}_speedup": statistics.median(values) for side, values in rounds.items() if side != "fp32"}


def _plainly(file: Path, exact: str) -> Callable[[np.ndarray], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(EXACT, exact)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})


if __name__ == "__main__":
    main()
