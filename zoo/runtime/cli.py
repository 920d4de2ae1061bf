"""The device's command line: predict, selftest, bench, watch."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BundleError
from .pixels import PixelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .model import Answer, Model, Source
    from .record import Record

DONE, FAILED, PROOF_FAILED, INTERRUPTED, TERMINATED = 0, 1, 3, 130, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0 done, 1 an error told in one line, 2 wrong usage, 3 a failed selftest."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        code: int = given.run(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BundleError, PixelError, OSError) as exc:
        print(f"{_program()}: {exc}", file=sys.stderr)
        return FAILED
    return code


def _program() -> str:
    return str(__package__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {_program()}", description="Run a model that zoo bundled.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--bundle", type=Path, default=_home(), help="its folder [default: this one]")
    common.add_argument("--threads", type=int, help="of onnxruntime, 0 for all cores [default: as in its proof]")
    common.add_argument(
        "--provider", default="cpu", help="cpu, cuda, tensorrt; cuda:1 for the second card [default: cpu]"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    logged = argparse.ArgumentParser(add_help=False)
    logged.add_argument("--log", type=Path, help="append predictions to this .jsonl or .sqlite file, for `zoo monitor`")
    logged.add_argument("--top", type=int, default=5, help="how many classes to tell [default: 5]")

    one = commands.add_parser("predict", parents=[common, logged], help="classify image files")
    one.add_argument("images", nargs="+", metavar="IMAGE")
    one.set_defaults(run=_predict)
    one = commands.add_parser("selftest", parents=[common], help="do the golden images get the answers of the proof?")
    one.set_defaults(run=_selftest)
    one = commands.add_parser("bench", parents=[common], help="latency, throughput, memory and start on this machine")
    one.add_argument("--seconds", type=float, default=5.0, help="of timing [default: 5]")
    one.add_argument("--no-write", action="store_true", help="leave the figures out of artifact.json")
    one.set_defaults(run=_bench)
    one = commands.add_parser("watch", parents=[common, logged], help="classify images as they come")
    one.add_argument(
        "source", help="a folder; /dev/video0; http://... for MJPEG; - for JPEG pictures on standard input"
    )
    one.add_argument("--once", action="store_true", help="of a folder: end after the files that are there")
    one.set_defaults(run=_watch)
    return parser


def _home() -> Path:
    """Return the bundle that this file lies in, or the working folder."""
    above = Path(__file__).resolve().parent.parent
    return above if (above / "artifact.json").is_file() else Path()


def _open(given: argparse.Namespace) -> Model:
    from .model import Model

    return Model(given.bundle, threads=given.threads, provider=given.provider)


def _record(given: argparse.Namespace, model: Model) -> Record | None:
    if not given.log:
        return None
    from .record import Record

    return Record(given.log, model.manifest.values["files"][model.manifest.model_file])


def _predict(given: argparse.Namespace) -> int:
    model = _open(given)
    answers, failed = [], 0
    for answer in _answers(model, ((name, name) for name in given.images), given):
        if answer is None:
            failed += 1
        else:
            answers.append(answer)
            if not given.json:
                print(f"{answer.image}: {answer}")
    if given.json:
        _print({"bundle": str(given.bundle), "predictions": [answer.to_json() for answer in answers]})
    return FAILED if failed else DONE


def _answers(model: Model, images: Iterable[tuple[str, Source]], given: argparse.Namespace) -> Iterable[Answer | None]:
    """Answer images one by one; one that cannot be read is told, and gets None."""
    record = _record(given, model)
    for name, source in images:
        try:
            pixels = model.pixels(source)
        except PixelError as exc:
            print(f"{_program()}: {name} {exc}", file=sys.stderr)
            yield None
            continue
        begin = time.perf_counter()
        probabilities, unknown = model.ask([pixels])
        milliseconds = 1e3 * (time.perf_counter() - begin)
        answer = model.answer(name, probabilities[0], unknown[0], top=given.top)
        if record:
            record.add(answer, pixels, milliseconds)
        yield answer


def _selftest(given: argparse.Namespace) -> int:
    from .golden import replay
    from .processor import kind, saturates

    found = replay(_open(given))
    if given.json:
        _print({**found.to_json(), "processor": kind(), "saturates": saturates()})
    else:
        print(f"{found}\nprocessor: {kind()}")
    return DONE if found.ok else PROOF_FAILED


def _bench(given: argparse.Namespace) -> int:
    from .golden import replay
    from .measure import measure, write_back

    model = _open(given)
    again = replay(model)
    figures = {**measure(model, seconds=given.seconds), "selftest": again.to_json()}
    if not given.no_write:
        write_back(given.bundle, figures)
    if given.json:
        _print(figures)
    else:
        print(f"{figures['machine']['processor']}, threads: {figures['threads'] or 'all'}; one image at a time")
        print(f"p50 {figures['p50']:.2f} ms   p95 {figures['p95']:.2f} ms   p99 {figures['p99']:.2f} ms")
        memory = f"   peak memory {figures['peak_memory_mb']:.0f} MB" if figures["peak_memory_mb"] else ""
        print(
            f"{figures['images_per_second']:.1f} images/s   from start to answer {figures['cold_start']:.0f} ms{memory}"
        )
        print(again)
    return DONE if again.ok else PROOF_FAILED


def _watch(given: argparse.Namespace) -> int:
    from .frames import camera, is_camera, new_files

    model = _open(given)
    if is_camera(given.source):
        images: Iterable[tuple[str, Source]] = (
            (f"frame {number}", frame) for number, frame in enumerate(camera(given.source), 1)
        )
    elif Path(given.source).is_dir():
        images = ((str(file), file) for file in new_files(Path(given.source), once=given.once))
    else:
        raise BundleError(f"{given.source} is no folder and no camera; name one")
    for answer in _answers(model, images, given):
        if answer is not None:
            print(json.dumps(answer.to_json()) if given.json else f"{answer.image}: {answer}", flush=True)
    return DONE


def _print(values: dict[str, Any]) -> None:
    print(json.dumps(values, indent=2))
