"""Three verdicts, true for the number of images; and what proves has chosen nothing."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.contracts.plugins import Split
from zoo.contracts.verdict import PROVEN, REFUSED, UNPROVEN
from zoo.errors import ProofFailed
from zoo.evaluation.paired import loss_bound
from zoo.exporting import export as exporting
from zoo.exporting.compare import compare
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.limits import Budget, findings, verdict_of
from zoo.records.facts import doubt, facts, weight
from zoo.records.manifest import Report, Selection
from zoo.records.trained import load_trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run

    from .conftest import Answer


def report_of(images: int, lost: int, budget: Budget | None = None) -> Report:
    """A report of images of two classes, so many of which only eager fp32 gets right."""
    budget = budget or Budget()
    labels = np.arange(images) % 2
    reference = np.eye(2, dtype=np.float32)[labels]
    artifact = reference.copy()
    artifact[:lost] = artifact[:lost, ::-1]
    numbers: dict[str, Any] = {**compare(labels, reference, artifact, ("a", "b"), None, budget), "batches": {}}
    reasons = tuple(map(str, findings(numbers, budget, "int8")))
    verdict = verdict_of(reasons, numbers["bound"], budget)
    return Report(
        accepted=not reasons, reasons=reasons, verdict=verdict, split="test", size_bytes=1, max_drop=budget.max_drop,
        min_speedup=None, **numbers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("images", "verdicts"),
    [
        (21, (UNPROVEN, REFUSED, REFUSED)),
        (163, (UNPROVEN, UNPROVEN, REFUSED)),
        (299, (PROVEN, UNPROVEN, REFUSED)),
        (1000, (PROVEN, PROVEN, UNPROVEN)),
        (5000, (PROVEN, PROVEN, PROVEN)),
    ],
)
def test_the_verdict_is_true_for_the_number_of_images(images: int, verdicts: tuple[str, ...]) -> None:
    for lost, wanted in zip((0, 1, 5), verdicts, strict=True):
        report = report_of(images, lost)
        assert report.verdict == wanted
        assert report.accepted is (wanted != REFUSED)
        assert report.bound == loss_bound(lost, 0, images)
        assert weight(report) == {PROVEN: "good", UNPROVEN: "heed", REFUSED: "bad"}[wanted]
        assert bool(doubt(report)) is (wanted == UNPROVEN)


def test_a_doubt_says_what_would_end_it() -> None:
    told = doubt(report_of(163, 0))
    assert told == "163 images cannot exclude a loss of 1.83 points (allowed 1); 299 without a change would"
    told = doubt(report_of(163, 1))
    assert told == "163 images cannot exclude a loss of 2.88 points (allowed 1); 473 without another change would"
    assert "no number of images" in doubt(report_of(163, 0, Budget(max_drop=0)))


def test_more_confidence_takes_more_images() -> None:
    assert report_of(299, 0, Budget(confidence=0.99)).verdict == UNPROVEN
    assert report_of(299, 0, Budget(confidence=0.99)).images_needed == 459


def test_an_older_report_has_no_verdict_and_stays_readable() -> None:
    old = report_of(299, 0).model_dump(exclude={"verdict", "bound", "confidence", "images_needed", "agreement"})
    report = Report.model_validate(old)
    assert (report.verdict, doubt(report), weight(report)) == ("", "", "good")


def test_the_command_tells_the_verdict_and_strict_wants_proof(
    cli: Callable[..., Answer], copied: Run, pictures: Path
) -> None:
    answer = cli("export", copied.path, "--onnx", "--fp32", "--also", pictures)
    assert answer.code == 0
    assert "onnx fp32: accepted, not proven on 173 test images" in answer.stdout
    assert "173 images cannot exclude a loss of 1.72 points (allowed 1); 299 without a change would" in answer.stdout
    assert "36 of 36" in answer.stdout

    strict = cli("export", copied.path, "--onnx", "--fp32", "--strict")
    assert strict.code == 3
    assert strict.error.startswith("zoo: accepted, not proven: 173 images cannot exclude")
    # It was accepted: it stands where it would have stood.
    assert (copied.export_folder / "onnx-fp32" / "artifact.json").is_file()
    found = json.loads(cli("export", copied.path, "--onnx", "--fp32", "--max-drop", "2", "--strict", "--json").stdout)
    assert found["report"]["verdict"] == "proven"
    assert found["report"]["bound"] < 2


def test_from_python_strict_raises_with_the_report_on_it(copied: Run) -> None:
    with pytest.raises(ProofFailed, match="accepted, not proven") as raised:
        zoo.export(copied, "onnx", precision="fp32", strict=True, progress=False)
    assert raised.value.report.verdict == UNPROVEN
    assert raised.value.artifact.path == copied.export_folder / "onnx-fp32"


@pytest.fixture
def copied(trained_run: Run, tmp_path: Path) -> Run:
    """A run that a test may add to."""
    import shutil

    shutil.copytree(trained_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    return type(trained_run)(tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--confidence", "1"), "--confidence 1 must be 0.5 or more and below 1"),
        (("--confidence", "0"), "--confidence 0 must be"),
        (("--also", "nowhere"), "--also nowhere is no folder"),
    ],
)
def test_words_are_checked_before_anything_is_made(
    words: tuple[str, ...], told: str, cli: Callable[..., Answer], copied: Run
) -> None:
    answer = cli("export", copied.path, "--onnx", *words)
    assert answer.code == 1
    assert told in answer.error
    assert not copied.export_folder.exists()


def test_a_folder_without_a_picture_is_told_before_anything_is_made(
    cli: Callable[..., Answer], copied: Run, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    answer = cli("export", copied.path, "--onnx", "--also", tmp_path / "none")
    assert answer.code == 1
    assert "holds no picture; name a folder that does" in answer.error
    assert "exporting" not in answer.stderr


def test_broken_pictures_are_left_out_of_the_agreement(
    catalogue: Catalogue, copied: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a split is called, and read from where the command is given.
    monkeypatch.chdir(tmp_path)
    folder = Path("val")
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 30, 3), 60 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    _, manifest = export_run(catalogue, copied, ExportSpec(format="onnx", also=(folder,)))
    found = manifest.report.agreement
    assert {name: (one.images, one.changed) for name, one in found.items()} == {
        "test": (173, 0), "val": (163, 0), f"{folder}/": (3, 0),
    }  # fmt: skip
    assert manifest.report.selection
    assert (manifest.report.selection.split, manifest.report.selection.images) == ("val", 163)
    assert ("answers of fp32 kept, test", "173 of 173 (at most 1.72 % change)") in facts(manifest, manifest.report)


EASY = {"max_drop": 50.0, "min_speedup": 0.0}
"""So that nothing falls back to another precision."""


class Watched:
    """Images that take note of who asks for one."""

    def __init__(self, images: Sequence[Any], seen: list[str]) -> None:
        self._images, self._seen = images, seen

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        self._seen.append(" < ".join(frame.name for frame in reversed(traceback.extract_stack())))
        return self._images[index]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What exports read of the test images: each time the functions behind it, the innermost first."""
    seen: list[str] = []

    def loaded(catalogue: Catalogue, run: Run) -> Any:
        trained = load_trained(catalogue, run)
        test = trained.data.splits["test"]
        own = Split(images=Watched(test.images, seen), labels=test.labels)  # type: ignore[arg-type]
        return replace(trained, data=replace(trained.data, splits={**trained.data.splits, "test": own}))

    monkeypatch.setattr(exporting, "load_trained", loaded)
    return seen


@pytest.fixture
def until_the_proof(monkeypatch: pytest.MonkeyPatch, watched: list[str]) -> list[int]:
    """How many images of the test split had been read when each proof began."""
    before: list[int] = []
    prove = exporting.prove  # type: ignore[attr-defined]

    def counted(*args: Any, **more: Any) -> Any:
        before.append(len(watched))
        return prove(*args, **more)

    monkeypatch.setattr(exporting, "prove", counted)
    return before


@pytest.mark.parametrize(
    "asked",
    [
        {"precision": "fp32", "calibrate": True, "unknown": 0.05},
        pytest.param({"precision": "int8", "options": {"search": "quick"}, **EASY}, marks=pytest.mark.slow),
        pytest.param({"precision": "int8", "prune": 0.2, "prune_epochs": 1, **EASY}, marks=pytest.mark.slow),
    ],
    ids=["temperature and threshold", "search", "pruning"],
)
def test_no_image_of_the_proof_was_seen_by_what_chooses(
    asked: dict[str, Any], catalogue: Catalogue, copied: Run, watched: list[str], until_the_proof: list[int]
) -> None:
    export_run(catalogue, copied, ExportSpec(format="onnx", **asked))
    assert until_the_proof == [0]
    assert len(watched) >= 173
    assert not [path for path in watched if "fit_temperature" in path or "known_threshold" in path]


def test_what_only_the_proof_refuses_is_not_replaced_by_another_precision() -> None:
    """The same images would choose between two files, and then prove the one that they chose."""
    job: Any = type("Job", (), {"budget": Budget(), "precision": "int8"})
    refused = report_of(100, 5)
    chose = Selection(split="val", images=100, reference_top1=1.0, artifact_top1=1.0, drop=0.0)
    assert not exporting._chosen_against(refused.model_copy(update={"selection": chose}), job)
    chose = chose.model_copy(update={"artifact_top1": 0.9, "drop": 10.0})
    assert exporting._chosen_against(refused.model_copy(update={"selection": chose}), job)
    slow: Any = type("Job", (), {"budget": Budget(min_speedup=1.0), "precision": "int8"})
    assert exporting._chosen_against(report_of(100, 0).model_copy(update={"speedup": 0.5}), slow)


def test_verify_finds_the_same_verdict_again(cli: Callable[..., Answer], onnx_artifact: Artifact) -> None:
    found = json.loads(cli("verify", onnx_artifact.path, "--json").stdout)
    stored = onnx_artifact.report
    assert found["ok"], found["problems"]
    assert (found["report"]["verdict"], found["report"]["split"]) == (stored.verdict, "test")
    assert found["report"]["selection"] == stored.selection.model_dump() if stored.selection else None
