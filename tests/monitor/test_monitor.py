"""`zoo monitor`: planted shifts are flagged, fresh images of the same kind are not; `zoo data from-log`."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.deploy.monitor.drift import LEAST_ENTRIES, drift, stability
from zoo.deploy.monitor.from_log import Wanted, dataset_from_log
from zoo.errors import DatasetInvalid, OptionInvalid
from zoo.exporting.reference import read_reference, reference_of
from zoo.runtime.model import Model
from zoo.runtime.record import Record, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import Answer
    from zoo.exporting.reference import Reference
    from zoo.records.artifact import Artifact

CLASSES = tuple("abcdefghij")


def population(rng: np.random.Generator, count: int, *, missing: str = "", brightness: float = 0.0) -> Any:
    """Probabilities, float32 [N, 10], and statistics, float [N, 4], of images that a good model sees."""
    labels = rng.choice([i for i, name in enumerate(CLASSES) if name != missing], count)
    scores = rng.normal(0, 1, (count, len(CLASSES)))
    scores[np.arange(count), labels] += rng.gamma(9, 0.8, count)
    probabilities = np.exp(scores - scores.max(1, keepdims=True))
    looks = np.stack([rng.beta(5, 5, count) + brightness, *rng.beta(4, 9, (3, count))], axis=1)
    return (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32), looks


def entries_of(
    probabilities: np.ndarray, looks: np.ndarray, unknown: Sequence[bool] | None = None
) -> list[dict[str, Any]]:
    names = ("brightness", "contrast", "saturation", "sharpness")
    return [
        {
            "model": "m",
            "prediction": CLASSES[row.argmax()],
            "confidence": float(row.max()),
            "unknown": None if unknown is None else bool(unknown[i]),
            "statistics": dict(zip(names, map(float, look), strict=True)),
        }
        for i, (row, look) in enumerate(zip(probabilities, looks, strict=True))
    ]


@pytest.fixture(scope="module")
def reference() -> Reference:
    probabilities, looks = population(np.random.default_rng(0), 600)
    return reference_of("val", CLASSES, probabilities, None, looks)


@pytest.mark.parametrize("count", [60, 300, 2000])
def test_fresh_images_of_the_same_kind_are_quiet(reference: Reference, count: int) -> None:
    for seed in range(1, 41):
        found = drift(reference, entries_of(*population(np.random.default_rng(seed), count)), model="m")
        assert not found.findings, (seed, found.findings)


def test_brighter_images_are_flagged(reference: Reference) -> None:
    found = drift(reference, entries_of(*population(np.random.default_rng(1), 300, brightness=0.2)), model="m")
    assert [finding.split(" (")[0] for finding in found.findings] == ["brightness has risen"]


def test_a_missing_class_is_named(reference: Reference) -> None:
    found = drift(reference, entries_of(*population(np.random.default_rng(1), 300, missing="d")), model="m")
    assert found.findings == ("predictions: d is missing",)


def test_unknown_objects_are_flagged_by_confidence_and_by_what_the_file_tells(reference: Reference) -> None:
    probabilities, looks = population(np.random.default_rng(1), 300)
    flat = np.random.default_rng(2).dirichlet([2.0] * 10, 300).astype(np.float32)
    mixed = np.where(np.arange(300)[:, None] % 2, flat, probabilities)
    found = drift(reference, entries_of(mixed, looks), model="m")
    assert any(finding.startswith("confidence has fallen") for finding in found.findings)
    told = entries_of(probabilities, looks, unknown=np.arange(300) % 5 == 0)
    found = drift(reference, told, model="m", unknown=0.05)
    assert found.findings == ("20.0 % of the images are unknown, 5.0 % of the proof's images were",)
    assert not drift(reference, told, model="m", unknown=0.18).findings


def test_entries_of_other_models_are_left_out(reference: Reference) -> None:
    own = entries_of(*population(np.random.default_rng(1), 100))
    others = [{**entry, "model": "other", "confidence": 0.1} for entry in own]
    found = drift(reference, [*own, *others], model="m")
    assert (found.entries, found.left_out, found.findings) == (100, 100, ())
    with pytest.raises(OptionInvalid, match=f"{LEAST_ENTRIES} are needed"):
        drift(reference, [*own[: LEAST_ENTRIES - 1], *others], model="m")


def test_stability_is_the_field_s_index() -> None:
    index, limit = stability(np.array([5000, 5000]), np.array([7000, 3000]))
    assert index == pytest.approx(0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5), abs=1e-3)
    assert limit == 0.2
    assert stability(np.array([50, 50]), np.array([12, 8]))[1] > 0.2


def test_a_number_that_never_varied_has_two_bins() -> None:
    probabilities, looks = population(np.random.default_rng(0), 200)
    looks[:, 2] = 0.0  # grey pictures have no saturation
    reference = reference_of("val", CLASSES, probabilities, None, looks)
    assert reference.numbers["saturation"].counts == (200, 0)
    fresh, other = population(np.random.default_rng(1), 200)
    assert any("saturation has" in f for f in drift(reference, entries_of(fresh, other), model="m").findings)


@pytest.fixture
def log(onnx_artifact: Artifact, tmp_path: Path) -> Callable[..., Path]:
    """Let the artifact answer the test images of digits, as a device does, and return the log."""
    from zoo.catalogue import Catalogue
    from zoo.catalogue.made.dataset import open_dataset
    from zoo.data.prepared import prepare

    split = prepare(open_dataset(Catalogue.read(), "digits", {}), "digits", seed=0).splits["test"]
    model = Model(onnx_artifact.path)

    def write(name: str, change: Callable[[np.ndarray], np.ndarray] = lambda image: image) -> Path:
        record = Record(tmp_path / name, model.manifest.values["files"]["model.onnx"])
        for number in range(len(split)):
            image = change(np.asarray(split.images[number]))
            file = tmp_path / "seen" / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(file)
            pixels = model.pixels(image)
            (answer,) = model.predict(image)
            record.add(answer.__class__(str(file), answer.top), pixels, 1.0)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["log.jsonl", "log.sqlite"])
def test_a_device_s_log_through_the_commands(
    name: str, log: Callable[..., Path], onnx_artifact: Artifact, cli: Callable[..., Answer]
) -> None:
    assert read_reference(onnx_artifact).images == 173
    done = cli("monitor", log(name), onnx_artifact.path, "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["drift"], said["entries"], said["left_out"]) == (False, 173, 0)
    assert "<svg" in (onnx_artifact.path / said["page"]).read_text()


def test_a_darker_camera_is_drift(
    log: Callable[..., Path], onnx_artifact: Artifact, cli: Callable[..., Answer], tmp_path: Path
) -> None:
    darker = log("dark.jsonl", lambda image: (image * 0.4).astype(np.uint8))
    done = cli("monitor", darker, onnx_artifact.path, "--out", "page.html")
    assert done.code == 3
    assert "brightness has fallen" in done.error
    assert "Drift" in (tmp_path / "page.html").read_text()


def test_chosen_images_become_a_dataset(log: Callable[..., Path], cli: Callable[..., Answer], tmp_path: Path) -> None:
    entries = list(read_record(log("log.jsonl")))
    done = cli("data", "from-log", "log.jsonl", "new", "--most", 20, "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    rows = list(csv.DictReader((tmp_path / "new" / "labels.csv").read_text().splitlines()))
    assert sum(said["images"].values()) == len(rows) == 20
    least = sorted(entry["confidence"] for entry in entries)[:20]
    assert sorted(float(row["confidence"]) for row in rows) == least
    for row in rows:
        assert (tmp_path / "new" / row["file"]).is_file()
        assert row["file"].split("/")[0] == row["prediction"]
    assert "is there already" in cli("data", "from-log", "log.jsonl", "new").error


def test_what_is_wanted_is_taken(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = [("a", 0.9, False), ("b", 0.4, True), ("b", 0.8, True), ("../evil", 0.3, None)]
    entries = [
        {"image": f"{number}.png", "prediction": said, "confidence": confidence, "unknown": unknown}
        for number, (said, confidence, unknown) in enumerate(rows)
    ]

    def taken(name: str, **wanted: Any) -> dict[str, int]:
        return dataset_from_log(entries, tmp_path / name, Wanted(**wanted), images=tmp_path).images

    assert taken("below", below=0.5, unknown=True) == {"b": 1}
    assert taken("classes", classes=("a",)) == {"a": 1}
    assert taken("all") == {"_evil": 1, "a": 1, "b": 2}
    assert not (tmp_path / "evil").exists()
    with pytest.raises(DatasetInvalid, match="none of the 0 wanted images"):
        taken("nothing", below=0.1)


@pytest.mark.parametrize("text", ["", "hello\n", '{"a": 1}\n', "\x00\xff\n"])
def test_what_is_no_log_is_told(text: str, cli: Callable[..., Answer], tmp_path: Path, onnx_artifact: Artifact) -> None:
    for name in ("log.jsonl", "log.sqlite"):
        (tmp_path / name).write_text(text)
        done = cli("monitor", name, onnx_artifact.path)
        assert done.code == 1
        assert done.error
