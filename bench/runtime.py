"""What does the device's runtime add to decoding, resizing and running the network?

mobilenetv3_small_100 at 224 px, fp32, one thread, on a JPEG of 500 x 375: `zoo.runtime.Model.predict` from the file's
bytes to the answer, beside its three parts alone, all in turn. `overhead` is what is left of it, as a share of the
network's latency: the median of five runs. `prepare_share` is Pillow's resize and crop on the same scale, which is no
overhead of ours, but is paid for every image that does not come in the model's size.
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
from zoo.cli.train import resolve_options
from zoo.export import ExportSpec, export_run
from zoo.run import Run
from zoo.runtime.model import Model
from zoo.runtime.pixels import decode
from zoo.runtime.timing import interleave
from zoo.train.session import start_run

if TYPE_CHECKING:
    from zoo.artifact import Artifact

REPEATS = 5
SECONDS = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    model = Model(artifact(Catalogue.read(), arguments.runs).path, threads=1)
    runs = [measure(model) for _ in range(REPEATS)]
    found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    table = Table("", "of the network's latency", title="mobilenetv3_small_100, 224 px, one image")
    for key, value in found.items():
        table.add_row(key.replace("_", " "), f"{100 * value:.1f} %")
    Console().print(table)
    if arguments.json:
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))


def artifact(catalogue: Catalogue, runs: Path) -> Artifact:
    """Return the proven fp32 file, made if there is none; how well it is trained does not matter here."""
    run = Run(runs / "bench-runtime")
    if not run.record_file.is_file():
        given = {"model": "mobilenetv3_small_100", "dataset": "digits", "pretrained": False, "epochs": 1}
        given |= {"image_size": 224, "image_size_start": 64, "threads": 1, "workers": 0}
        start_run(catalogue, resolve_options(catalogue, given, None, None), run.path)
    return export_run(catalogue, run, ExportSpec(format="onnx", precision="fp32"))[0]


def measure(model: Model) -> dict[str, float]:
    """Return the parts of an answer as shares of the network's latency."""
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (47, 63, 3), np.uint8)
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    data, image = out.getvalue(), decode(out.getvalue())
    pixels = model.pixels(image)
    timings = interleave(
        {
            "predict": lambda _: model.predict(data),
            "decode": lambda _: decode(data),
            "prepare": lambda _: model.pixels(image),
            "network": lambda _: model.session(pixels[None]),
        },
        pixels[None],
        seconds=SECONDS,
    )
    took = {
        name: float(np.percentile(t.rounds_ms if t.own_ms is None else t.own_ms, 10)) for name, t in timings.items()
    }
    left = took["predict"] - took["decode"] - took["prepare"] - took["network"]
    shares = {"overhead": left, "prepare_share": took["prepare"], "decode_share": took["decode"]}
    return {name: value / took["network"] for name, value in shares.items()}


if __name__ == "__main__":
    main()
