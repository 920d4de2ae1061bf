"""Which timm families come through `zoo export --onnx`, at fp32 and at int8, with their proof held?

A small member of every family (the module of timm that defines it; `coverage.toml`) is trained on `shapes` for as long
as its weights and statistics need to be no longer random, and exported by `export_run`: what the proof says
is written to docs/coverage.json, one entry a family, and from there to docs/coverage.md. Each family has a process of
its own, with a time limit, so that a crash or a hang costs one row. Rows that are there are kept, so a second call goes
on where the first was stopped; trained runs are kept as well. `--fresh` forgets the rows, `--families` and `--refused`
measure some of them anew. With --json the last line holds shares of the families: `fp32_proven`, `int8_proven`, and
`int8_proven_or_slow`, which counts an int8 file that was refused for nothing but its speed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import shutil
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

    from zoo.catalogue import Catalogue
    from zoo.records.manifest import Manifest
    from zoo.records.run import Run

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "bench/coverage.toml"
RESULT, PAGE = ROOT / "docs/coverage.json", ROOT / "docs/coverage.md"
WANTED = {"fp32_proven": 0.97, "int8_proven_or_slow": 0.90}

SIZE = 96
PARTS = {"train": 64, "val": 30, "test": 30}
"""Images of each of the ten classes."""
TRAINING = {
    "augment": "light",
    "pretrained": False,
    "epochs": 1,
    "batch_size": 8,
    "lr": 2e-3,
    "warmup_epochs": 0.25,
    "label_smoothing": 0.0,
    "ema_decay": 0.0,
    "threads": 1,
    "workers": 0,
    "cache": "off",
    # What is timed may come out otherwise the next time.
    "precision": "fp32",
}
PRELOADED = [
    "torch",
    "timm",
    "onnx",
    "onnxruntime.quantization",
    "zoo.cli.train",
    "zoo.exporting.export",
    "zoo.training.session",
]
"""Imported once, for all processes: it takes as long as training a small model."""
SLOW = "speed over fp32"
"""How a proof's finding about speed begins."""

Row = dict[str, Any]
EMPTY: Row = {
    "fp32_proven": False,
    "int8_proven": False,
    "slow_only": False,
    "reference_top1": None,
    "fp32_difference": None,
    "int8_drop": None,
    "speedup": None,
    "precision": "",
    "drop": None,
    "fp32_bytes": None,
    "bytes": None,
    "seconds": None,
    "reason": "",
}
"""What a row holds of a family that nothing came of, and in which order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--families", nargs="*", default=[], metavar="FAMILY", help="only these, anew")
    parser.add_argument("--refused", action="store_true", help="those without an accepted int8 file, anew")
    parser.add_argument("--fresh", action="store_true", help="forget docs/coverage.json")
    parser.add_argument("--limit-seconds", type=float, default=1200, help="for one family")
    parser.add_argument("--runs", type=Path, default=Path("runs/coverage"), help="where trained runs are kept")
    arguments = parser.parse_args()
    if arguments.fresh:
        RESULT.unlink(missing_ok=True)
    table, rows = read_table(), read_rows()
    if unknown := set(arguments.families) - set(table):
        parser.error(f"no family is called {min(unknown)}; {TABLE.name} lists them")
    again = {name for name, row in rows.items() if not row["int8_proven"]} if arguments.refused else set()
    for family in arguments.families or [name for name in table if name not in rows or name in again]:
        row = measure(family, table[family], arguments.runs, arguments.limit_seconds)
        print(told(row), flush=True)
        # Another call may have added other families meanwhile.
        rows = {**read_rows(), family: row}
        write(rows, table)
    write(rows, table)
    if arguments.json:
        print(json.dumps(ratios(list(rows.values()))))


def read_table() -> dict[str, dict[str, Any]]:
    """Return family -> its member: `model`, and perhaps `size` and `options`."""
    return tomllib.loads(TABLE.read_text())


def read_rows() -> dict[str, Row]:
    return {row["family"]: row for row in json.loads(RESULT.read_text())} if RESULT.is_file() else {}


def write(rows: Mapping[str, Row], table: Mapping[str, Any]) -> None:
    from zoo.disk.files import write_text

    ordered = [rows[name] for name in sorted(rows)]
    write_text(RESULT, json.dumps(ordered, indent=1) + "\n")
    write_text(PAGE, page(ordered, table))


def measure(family: str, member: Mapping[str, Any], runs: Path, limit: float) -> Row:
    """Let a process of its own find a family's row; keep what it found until it ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=report, args=(dict(member), runs, sender))
    row = {"family": family, "model": member["model"], "options": member.get("options", {})}
    row |= {"image_size": member.get("size", SIZE), **EMPTY, "made": provenance()}
    child.start()
    sender.close()
    begin, end = time.monotonic(), time.monotonic() + limit
    reason = f"not finished after {limit:.0f} s"
    while receiver.poll(max(0.0, end - time.monotonic())):
        try:
            row |= receiver.recv()
        except EOFError:
            child.join()
            reason = "" if child.exitcode == 0 else f"the process ended with exit code {child.exitcode}"
            break
    child.kill()
    child.join()
    row["seconds"] = row["seconds"] or round(time.monotonic() - begin, 1)
    return {**row, "reason": "; ".join(filter(None, [row["reason"], reason]))}


def report(member: dict[str, Any], runs: Path, sender: Connection) -> None:
    """Send what is found of a family, bit by bit."""
    from zoo.errors import ZooError, first_line

    stage = "training"
    try:
        for following, found in facts(member, runs.resolve()):
            sender.send({**found, "seconds": round(time.process_time(), 1)})
            stage = following
    except ZooError as exc:
        sender.send({"reason": f"{stage}: {exc}"})
    except Exception as exc:  # a bug, which must cost one row only and be seen there
        sender.send({"reason": f"{stage}: {type(exc).__name__}: {first_line(exc)}"})


def facts(member: Mapping[str, Any], runs: Path) -> Iterator[tuple[str, Row]]:
    """Yield what comes next, and what was found so far."""
    from zoo.catalogue import Catalogue

    catalogue = Catalogue.read()
    run = trained_run(catalogue, member, runs)
    shutil.rmtree(run.export_folder, ignore_errors=True)
    yield "fp32", {"reference_top1": run.record().metrics["test"]["top1"]}
    manifest = exported(catalogue, run, "fp32")
    found = manifest.report
    yield (
        "int8",
        {
            "fp32_proven": found.accepted,
            "fp32_difference": found.max_probability_difference,
            "precision": "fp32" if found.accepted else "",
            "drop": found.drop,
            "fp32_bytes": found.size_bytes,
            "bytes": found.size_bytes,
            "reason": "; ".join(f"fp32: {reason}" for reason in found.reasons),
        },
    )
    if found.accepted:
        yield "", int8_facts(run, exported(catalogue, run, "int8"))
    # Hundreds of families' files take gigabytes.
    shutil.rmtree(run.export_folder, ignore_errors=True)


def int8_facts(run: Run, shipped: Manifest) -> Row:
    """Return what became of int8: the file that was asked for, and the one that was made in its place, if any."""
    from zoo.errors import ArtifactInvalid
    from zoo.records.artifact import REJECTED, Artifact

    asked = None if shipped.instead_of else shipped
    if shipped.instead_of:
        with contextlib.suppress(ArtifactInvalid):  # no file was written at all
            asked = Artifact(run.export_folder / f"onnx-int8{REJECTED}").manifest()
    reasons = shipped.instead_of.reasons if shipped.instead_of else shipped.report.reasons
    row: Row = {"int8_proven": not reasons, "reason": "; ".join(reasons)}
    if asked:
        held = asked.report.drop <= asked.report.max_drop and all(reason.startswith(SLOW) for reason in reasons)
        row |= {"int8_drop": asked.report.drop, "speedup": asked.report.speedup, "slow_only": bool(reasons) and held}
    if shipped.report.accepted:
        return row | {
            "precision": shipped.precision,
            "drop": shipped.report.drop,
            "bytes": shipped.report.size_bytes,
        }
    if shipped.instead_of:
        row["reason"] += f"; {shipped.precision} instead: {'; '.join(shipped.report.reasons)}"
    return row


def exported(catalogue: Catalogue, run: Run, precision: str) -> Manifest:
    from zoo.exporting.export import ExportSpec, export_run

    options = {"search": "quick"} if precision == "int8" else {}
    return export_run(catalogue, run, ExportSpec(format="onnx", precision=precision, options=options))[1]


def trained_run(catalogue: Catalogue, member: Mapping[str, Any], runs: Path) -> Run:
    """Return the family's finished run, trained if there is none yet."""
    from zoo.records.layers import resolve_options
    from zoo.records.run import Run
    from zoo.training.session import start_run

    size = member.get("size", SIZE)
    run = Run(runs / f"{member['model']}-{size}")
    if run.record_file.is_file():
        return run
    shutil.rmtree(run.path, ignore_errors=True)
    given = {
        "model": f"timm/{member['model']}",
        "dataset": "folder",
        "dataset_options": {"path": str(images(catalogue, runs))},
        "backbone_options": member.get("options", {}),
        "image_size": size,
        **TRAINING,
    }
    start_run(catalogue, resolve_options(catalogue, given, None, None), run.path)
    for checkpoint in run.path.glob("*.ckpt"):  # three times the weights, for a run that will not go on
        checkpoint.unlink()
    return run


def images(catalogue: Catalogue, runs: Path) -> Path:
    """Return a folder of `shapes`, drawn once: more of them to validate on than a split that zoo cuts would get."""
    from zoo.disk.files import replace_folder, scratch_folder

    final, count = runs / "images", sum(PARTS.values())
    if final.is_dir():
        return final
    drawn = catalogue.get("dataset", "shapes")(runs / "shapes", count=count)
    with scratch_folder(final) as folder:
        for number, image in enumerate(drawn.splits["train"].images):
            label, index = divmod(number, count)
            part = [name for name, share in PARTS.items() for _ in range(share)][index]
            place = folder / part / drawn.classes[label] / image.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, place)
        replace_folder(folder, final)
    return final


def provenance() -> dict[str, str]:
    """Return when and with what a row was made."""
    from zoo.records.versions import machine, versions

    known = versions([])
    onnxruntime = known.get("onnxruntime-gpu") or known.get("onnxruntime", "")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": str(machine()["processor"]),
        **{name: known.get(name, "") for name in ("edgezoo", "timm", "torch", "onnx")},
        "onnxruntime": onnxruntime,
    }


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    count = max(len(rows), 1)
    return {
        "fp32_proven": round(sum(row["fp32_proven"] for row in rows) / count, 3),
        "int8_proven": round(sum(row["int8_proven"] for row in rows) / count, 3),
        "int8_proven_or_slow": round(sum(row["int8_proven"] or row["slow_only"] for row in rows) / count, 3),
    }


def told(row: Row) -> str:
    verdict = "int8" if row["int8_proven"] else row["reason"]
    return f"{row['family']:28} {row['model']:34} {row['seconds']:6.0f} s  {verdict}"


def page(rows: Sequence[Row], table: Mapping[str, Any]) -> str:
    """Return docs/coverage.md: the shares, the table, and why what was refused was refused."""
    missing = sorted(set(table) - {row["family"] for row in rows})
    refused = [row for row in rows if row["reason"]]
    parts = [
        "# Which timm families come through\n",
        "Made by `python bench/coverage.py` from `docs/coverage.json`; do not edit.\n",
        _summary(rows, len(table)),
        f"Not measured yet: {', '.join(missing)}.\n" if missing else "",
        _how(rows),
        "## The table\n",
        _table(rows),
        "\n## Why int8 was refused\n" if refused else "",
        "".join(f"- **{row['family']}** ({row['model']}): {row['reason']}\n" for row in refused),
    ]
    return "\n".join(part for part in parts if part)


def _summary(rows: Sequence[Row], families: int) -> str:
    found = ratios(rows)
    fp32, slow = found["fp32_proven"], found["int8_proven_or_slow"]
    faster = sorted(row["speedup"] for row in rows if row["int8_proven"])
    middle = f", their median {faster[len(faster) // 2]:.2f}x as fast as fp32" if faster else ""
    return (
        f"Of timm's {families} families {len(rows)} were measured. fp32 ONNX is accepted for {100 * fp32:.1f} % "
        f"(wanted: {100 * WANTED['fp32_proven']:.0f} %). int8 is accepted for {100 * found['int8_proven']:.1f} %"
        f"{middle}; accepted, or refused for nothing but its speed, for {100 * slow:.1f} % "
        f"(wanted: {100 * WANTED['int8_proven_or_slow']:.0f} %).\n"
    )


def _how(rows: Sequence[Row]) -> str:
    made = [row["made"] for row in rows]
    dates = sorted({m["date"] for m in made})
    with_what = "; ".join(sorted({", ".join(f"{k} {v}" for k, v in m.items() if k != "date") for m in made}))
    return (
        "How: a small member of each family, trained from random weights on "
        f"{10 * PARTS['train']} images of `shapes` for one epoch, so that its weights and statistics are "
        f"not random, and measured on {10 * PARTS['test']} others; a network that has learned so little has many "
        "images that are close calls, so its int8 file is harder to prove than that of a trained one. Exported for "
        "`host` with the budget of `zoo export`: at most 1 point of top-1, and int8 no slower than fp32; the search is "
        "`quick`. `top-1` is eager fp32's, `fp32` the largest change of a probability in fp32 ONNX, `int8` the change "
        "of top-1 in points (negative: lost), `speed` that of int8 over fp32 in onnxruntime, one image at a time, one "
        "thread, measured in turn; `shipped` is what `zoo export --int8` left in the end, with its size beside fp32's; "
        "`s` is processor time for all of it, training included where it was done then.\n\n"
        f"When: {' and '.join(dates)}. With: {with_what}.\n"
    )


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| family | model | px | top-1 | fp32 | int8 | speed | shipped | MB | s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        options = ", ".join(f"{name}={value}" for name, value in row["options"].items())
        cells = [
            row["family"],
            f"{row['model']} ({options})" if options else row["model"],
            str(row["image_size"]),
            _number(row["reference_top1"], "{:.1%}"),
            _number(row["fp32_difference"], "{:.0e}"),
            _number(None if row["int8_drop"] is None else 0.0 - row["int8_drop"], "{:+.2f}"),
            _number(row["speedup"], "{:.2f}x"),
            row["precision"] or "nothing",
            f"{_megabytes(row['fp32_bytes'])} to {_megabytes(row['bytes'])}",
            _number(row["seconds"], "{:.0f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _megabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f}"


if __name__ == "__main__":
    main()
