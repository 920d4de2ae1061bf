"""What does the device's runtime add to decoding a picture and running the network?

mobilenetv3_small_100 at 224 px, fp32, one thread: `zoo.runtime.Model.predict` from a JPEG's bytes to the answer, in
turn with the same decoder and session alone. The JPEG is 256 pixels high and wide, which only has to be cropped, so
that `overhead`, a share of the network's latency, is everything beyond these two. `prepare` and `decode`, on the same
scale, tell what a picture of 500 x 375 pixels takes beside: Pillow's resize, and the JPEG. Medians of five runs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from zoo.catalogue import Catalogue
from zoo.exporting.export import ExportSpec, export_run
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.runtime.model import Model
from zoo.runtime.pixels import decode
from zoo.runtime.timing import interleave
from zoo.training.session import start_run

if TYPE_CHECKING:
    from zoo.records.artifact import Artifact

REPEATS = 5
SECONDS = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    model = Model(artifact(Catalogue.read(), arguments.runs).path, threads=1)
    runs = [measure(model) for _ in range(REPEATS)]
    found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    table = Table("", "of the network's latency", title="mobilenetv3_small_100, one image")
    for key, value in found.items():
        table.add_row(key, f"{100 * value:.1f} %")
    Console().print(table)
    if arguments.json:
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))


def artifact(catalogue: Catalogue, runs: Path) -> Artifact:
    """Return the accepted fp32 file, made if there is none; how well it is trained does not matter here."""
    run = Run(runs / "bench-runtime")
    if not run.record_file.is_file():
        given = {"model": "mobilenetv3_small_100", "dataset": "digits", "pretrained": False, "epochs": 1}
        given |= {"image_size": 224, "image_size_start": 64, "threads": 1, "workers": 0}
        start_run(catalogue, resolve_options(catalogue, given, None, None), run.path)
    return export_run(catalogue, run, ExportSpec(format="onnx", precision="fp32"))[0]


def measure(model: Model) -> dict[str, float]:
    """Return the parts of an answer as shares of the network's latency."""
    fits, photo = jpeg(256, 256), jpeg(500, 375)
    image, pixels = decode(photo), model.pixels(fits)[None]
    top, left = ((256 - side) // 2 for side in model.manifest.view.size)

    def bare(_: object) -> np.ndarray:
        cut = decode(fits)[top : top + pixels.shape[1], left : left + pixels.shape[2]]
        answer: np.ndarray = model.session(cut[None])
        return answer

    timings = interleave(
        {
            "predict": lambda _: model.predict(fits),
            "bare": bare,
            "network": model.session,
            "prepare": lambda _: model.pixels(image),
            "decode": lambda _: decode(photo),
        },
        pixels,
        seconds=SECONDS,
    )
    took = {name: timing.undisturbed for name, timing in timings.items()}
    return {
        "overhead": (took["predict"] - took["bare"]) / took["network"],
        "prepare": took["prepare"] / took["network"],
        "decode": took["decode"] / took["network"],
    }


def jpeg(width: int, height: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (47, 63, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


if __name__ == "__main__":
    main()
