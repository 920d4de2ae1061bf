"""`zoo.evaluate`, `zoo.export`, `zoo.predict`: words are checked first, and what is heavy is imported behind that."""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue import opened
from zoo.catalogue.installed import OURS
from zoo.contracts.progress import noting
from zoo.contracts.verdict import PROVEN
from zoo.contracts.words import checked
from zoo.disk.home import runs_root
from zoo.errors import ImageUnreadable, OptionInvalid, ProofFailed
from zoo.exporting.job import ExportSpec, check_words
from zoo.records.find import find_subject, find_trained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Image
    from zoo.contracts.progress import Progress
    from zoo.contracts.unknown import UnknownBy
    from zoo.exporting.evaluate import Evaluation
    from zoo.exporting.predict import Predictions
    from zoo.records.artifact import Artifact
    from zoo.records.find import Named
    from zoo.records.run import Run

SPLITS = ("train", "val", "test")


@checked
def evaluate(
    subject: Named = None,
    split: str = "test",
    *,
    runs: str | Path | None = None,
    progress: Progress = True,
    catalogue: Catalogue | str | Path | None = None,
) -> Evaluation:
    """Measure accuracy, per class and as a confusion matrix; with several labels an image, mAP and each label.

    Args:
        subject: A run or an artifact, its name or its path; of a run's name its newest artifact, if it has one
            [default: the newest].
        split: train, val or test.
        runs: The folder of all runs [default: $ZOO_RUNS, else ./runs].
        progress: True tells on stderr what is done; a function gets each line; False tells nothing.
        catalogue: A registry.toml to lay over the built-in one.

    Raises:
        RunInvalid, ArtifactInvalid, DatasetInvalid: the run, the artifact or the data is not what it was.
    """
    if split not in SPLITS:
        raise OptionInvalid(f"split {split!r} is none; write one of {', '.join(SPLITS)}")
    found = find_subject(subject, runs_root(runs), noting(progress))
    from zoo.exporting.evaluate import evaluate_subject

    return evaluate_subject(opened(catalogue), found, split)


@checked
def export(
    run: Run | str | Path | None = None,
    format: str = "",
    *,
    precision: str = "",
    target: str = "host",
    max_drop: float = ExportSpec.max_drop,
    confidence: float = ExportSpec.confidence,
    strict: bool = False,
    also: str | Path | Sequence[str | Path] = (),
    stress: bool = False,
    max_stress_drop: float | None = None,
    min_speedup: float | None = None,
    search: str | None = None,
    fallback: bool = True,
    calibrate: bool = False,
    unknown: float | None = None,
    unknown_by: UnknownBy = "energy",
    prune: float = 0.0,
    prune_epochs: int = ExportSpec.prune_epochs,
    resize_in_graph: bool = False,
    options: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    progress: Progress = True,
    catalogue: Catalogue | str | Path | None = None,
) -> Artifact:
    """Export a run, prove the file on the run's own test images, which chose nothing of it, and return the artifact.

    `report.verdict` is "proven" where they bound the loss by `max_drop`, "accepted, not proven" where they are too few.

    Args:
        run: A run, its name or its path [default: the newest].
        format: A name of `zoo.exporters()` [default: onnx]; target: one of `zoo.targets()`.
        precision: One of the exporter's [default: the target's, else the exporter's first].
        max_drop: Points of top-1 that the file may lose; of exact match and mAP where an image may have several labels.
        confidence: In 0.5..1: how often the bound of the loss holds; `strict`: raise unless the verdict is "proven".
        also: Folders of pictures without labels: how many are answered as by eager fp32?
        stress: Ask corrupted images too; `max_stress_drop`: points that may be lost there (asks for them).
        min_speedup: Over fp32 in its runtime [default: 1.0 for int8, not judged otherwise].
        search: How much int8 may try: quick, balanced or thorough.
        fallback: Whether parts may stay in float, or another precision be made, where the one asked for is refused.
        calibrate: Fit a temperature on the validation images, so that probabilities are honest.
        unknown: Share of known images, in 0..1, that an output `unknown` may call so, by `unknown_by`; None: no output.
        prune: Share of the channels, in 0..1, cut out before; `prune_epochs` of training follow.
        resize_in_graph: Whether the file resizes and crops, and so takes one image of any size.
        options: The exporter's own; `runs`, `progress` and `catalogue` as for `evaluate`.

    Raises:
        ProofFailed: the file is refused (`artifact` is what was kept aside, `report` what was measured) or, `strict`,
            accepted and not proven.
        UnknownName, OptionInvalid, ExportUnsupported: there is no such name or option; the format cannot express it.
        RunInvalid, DatasetInvalid: the run or its data is not what it was.
    """
    spec = _spec(locals())
    artifact = _export(opened(catalogue), run, spec, runs_root(runs), noting(progress))
    from zoo.records.facts import doubt

    if strict and artifact.report.verdict != PROVEN:
        raise _refusal(f"{artifact.report.verdict}: {doubt(artifact.report)}", artifact)
    return artifact


def _spec(words: Mapping[str, Any]) -> ExportSpec:
    """Return what the words of `export` ask for; those of the same name mean the same."""
    same = {field.name: words[field.name] for field in fields(ExportSpec) if field.name in words}
    given = {
        "format": words["format"] or f"{OURS}/onnx",
        "also": _folders(words["also"]),
        "options": {**({"search": words["search"]} if words["search"] else {}), **(words["options"] or {})},
        "resize": words["resize_in_graph"],
    }
    return ExportSpec(**{**same, **given})


def _folders(named: Any) -> tuple[Path, ...]:
    several = [named] if isinstance(named, str | Path) else named
    if not isinstance(several, Sequence) or not all(isinstance(one, str | Path) for one in several):
        raise OptionInvalid(f"also of zoo.export is {named!r}; give a folder of pictures, or several")
    return tuple(map(Path, several))


def _export(
    catalogue: Catalogue, run: Run | str | Path | None, spec: ExportSpec, root: Path, note: Callable[[str], None]
) -> Artifact:
    check_words(catalogue, spec)
    found = find_trained(run, root, note)
    from zoo.exporting.export import export_run

    artifact, manifest = export_run(catalogue, found, spec, note)
    if not manifest.report.accepted:
        raise _refusal(f"refused: {'; '.join(manifest.report.reasons)}; kept as {artifact.path} to look at", artifact)
    return artifact


def _refusal(text: str, artifact: Artifact) -> ProofFailed:
    refused = ProofFailed(text)
    refused.artifact, refused.report = artifact, artifact.report
    return refused


@checked
def predict(
    subject: Named,
    images: Image | str | Sequence[Image | str],
    *,
    top: int = 3,
    runs: str | Path | None = None,
    progress: Progress = True,
    catalogue: Catalogue | str | Path | None = None,
) -> Predictions:
    """Classify images: by an artifact in its own runtime, as a device does, or by a run's weights in PyTorch.

    Args:
        subject: A run or an artifact, its name or its path; of a run's name its newest artifact; None: the newest.
        images: One or several: files, encoded bytes, or RGB uint8 [H, W, 3].
        top: How many classes to tell, where an image has one.
        runs: The folder of all runs [default: $ZOO_RUNS, else ./runs].
        progress: True tells on stderr what is done; a function gets each line; False tells nothing.
        catalogue: A registry.toml to lay over the built-in one.

    Returns:
        For each image, in order, an answer with `top`, and `labels` and `unknown` where the model tells them.

    Raises:
        ImageUnreadable: a file that is no complete image; it is named, and nothing is answered for the others.
        RunInvalid, ArtifactInvalid: the run or the artifact cannot be used.
    """
    if top < 1:
        raise OptionInvalid(f"top = {top}: give 1 or more classes")
    asked = _several(images)
    for number, image in enumerate(asked):
        _check_image(f"image {number}" if len(asked) > 1 else "the image", image)
    found = find_subject(subject, runs_root(runs), noting(progress))
    from zoo.exporting.predict import predict_images

    return predict_images(opened(catalogue), found, asked, top=top)


def _several(images: Any) -> list[Image]:
    """Return one image or several as a list: names of files as paths, anything like bytes as bytes."""
    several = isinstance(images, Sequence) and not isinstance(images, str | bytes | bytearray | memoryview)
    found = list(images) if several or inspect.isgenerator(images) else [images]
    return [_plain(image) for image in found]


def _plain(image: Any) -> Any:
    if isinstance(image, str):
        return Path(image)
    return bytes(image) if isinstance(image, bytearray | memoryview) else image


def _check_image(what: str, image: Any) -> None:
    if isinstance(image, Path) and not image.exists():
        name = str(image).encode("utf-8", "backslashreplace").decode()
        raise ImageUnreadable(f"{name} cannot be read: {os.strerror(errno.ENOENT)}; check the path")
    if isinstance(image, Path | bytes):
        return
    kind, shape = getattr(image, "dtype", None), tuple(getattr(image, "shape", ()))
    if kind is None:
        raise OptionInvalid(f"{what} is a {type(image).__name__}; give a file, its bytes, or an RGB array")
    if str(kind) != "uint8" or len(shape) != 3 or shape[2] != 3 or not all(shape):
        raise OptionInvalid(f"{what} is an array of {kind} {list(shape)}; give RGB as uint8 [height, width, 3]")
