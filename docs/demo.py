"""The tour of `make demo`: real digits -> run -> three artifacts -> answers -> a bundle, in usual commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.svm import SVC

from zoo.catalogue import Catalogue
from zoo.catalogue.made.dataset import open_dataset
from zoo.cli.output import megabytes, percent, print_table, stdout
from zoo.data.prepared import PreparedData, prepare
from zoo.records.facts import bounded, doubt
from zoo.records.manifest import Report

RUN = "demo"
EXPORTS = (("--onnx", "--fp32"), ("--onnx", "--int8"), ("--torchscript", "--int8"))
PICTURES = 6


def main() -> None:
    """Run the commands, then print what came out as one table."""
    begin = time.perf_counter()
    shutil.rmtree(Path("runs", RUN), ignore_errors=True)
    run = zoo("train", "tiny", "--dataset", "digits", "--name", RUN)
    proofs = [zoo("export", RUN, *flags) for flags in EXPORTS]
    data = prepare(open_dataset(Catalogue.read(), "digits", {}), "digits", seed=run["seed"])
    yardstick = svc_accuracy(data)
    tests = [zoo("eval", proof["artifact"]) for proof in proofs]
    pictures = save_pictures(data, Path(run["run"], "pictures"))
    answers = zoo("predict", *map(str, pictures), "--using", f"{RUN}/onnx-int8")["predictions"]

    bundle = zoo("bundle", f"{RUN}/onnx-int8")
    verdict = selftest(Path(bundle["path"]), bundle["folder"])

    stdout().print()
    print_summary(run, proofs, tests, yardstick)
    print_answers(pictures, answers)
    stdout().print(f"the bundle, {megabytes(bundle['size_bytes'])}, without zoo or torch: {verdict}", soft_wrap=True)
    stdout().print(f"made in {time.perf_counter() - begin:.0f} s; the files are in {run['run']}/export")


def zoo(*arguments: str) -> dict[str, Any]:
    """Run one command as a user would, and return its JSON; a failure ends the demo with the command's own words."""
    stdout().print(f"$ zoo {' '.join(arguments)}", style="bold")
    done = subprocess.run([sys.executable, "-m", "zoo", *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def selftest(archive: Path, folder: str) -> str:
    """Unpack a bundle and run what a device would run; return its verdict."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        command = [sys.executable, "-m", "zoo_runtime", "selftest"]
        stdout().print("$ python -m zoo_runtime selftest", style="bold")
        done = subprocess.run(command, cwd=Path(scratch, folder), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def svc_accuracy(data: PreparedData) -> float:
    """Fit scikit-learn's support vector classifier on the same training images, and return its test accuracy."""
    pixels = {
        name: np.stack([np.asarray(i)[..., 0].ravel() for i in split.images]) for name, split in data.splits.items()
    }
    model = SVC(gamma=0.001, C=10).fit(pixels["train"] / 16.0, data.splits["train"].labels)
    return float(model.score(pixels["test"] / 16.0, data.splits["test"].labels))


def save_pictures(data: PreparedData, folder: Path) -> list[Path]:
    """Write a few test images as PNG files named after what they show."""
    folder.mkdir()
    test = data.splits["test"]
    paths = []
    for number in range(PICTURES):
        index = number * len(test) // PICTURES
        paths.append(folder / f"{number}-is-a-{data.classes[test.labels[index]]}.png")
        Image.fromarray(np.asarray(test.images[index])).save(paths[-1])
    return paths


def print_summary(
    run: dict[str, Any], proofs: list[dict[str, Any]], tests: list[dict[str, Any]], yardstick: float
) -> None:
    """Print what each file is worth."""
    metrics = run["metrics"]
    eager_ms = proofs[0]["report"]["latency_ms"]["eager_fp32"]["p50"]
    weights = megabytes(run["parameters"] * 4)
    rows: list[tuple[str, ...]] = [
        ("scikit-learn SVC, the yardstick", percent(yardstick), "", "", "", "", ""),
        (
            "tiny in PyTorch",
            percent(metrics["test"]["top1"]),
            percent(metrics["val"]["top1"]),
            "",
            weights,
            f"{eager_ms:.2f}",
            "",
        ),
    ]
    for proof, test in zip(proofs, tests, strict=True):
        report = proof["report"]
        rows.append(
            (
                f"{proof['format']} {proof['precision']}",
                percent(test["top1"]),
                percent(report["selection"]["artifact_top1"]),
                f"{report['drop']:.2f}",
                megabytes(report["size_bytes"]),
                f"{report['latency_ms']['artifact']['p50']:.2f}",
                f"{report['speedup']:.2f}x",
            )
        )
    columns = ["digits", "test top-1", "val top-1", "drop (points)", "size", "ms an image", "speed over its fp32"]
    print_table(columns, rows)
    for proof in proofs:
        report = Report.model_validate(proof["report"])
        why = doubt(report) or f"it loses {bounded(report)}"
        stdout().print(f"{proof['format']} {proof['precision']}: {report.verdict}; {why}", soft_wrap=True)
    stdout().print()


def print_answers(pictures: list[Path], answers: list[dict[str, Any]]) -> None:
    """Print what the int8 file says of each picture."""
    for path, answer in zip(pictures, answers, strict=True):
        best = answer["top"][0]
        stdout().print(f"{path.name}: {best['class']} ({percent(best['probability'])})")


if __name__ == "__main__":
    main()
