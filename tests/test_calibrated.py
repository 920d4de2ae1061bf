"""Answers that can be believed: temperatures, thresholds, and a second output that every command knows of."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from zoo.contracts.preprocess import Preprocess
from zoo.contracts.shipped import Tempered, known_score
from zoo.contracts.unknown import Unknown
from zoo.errors import OptionInvalid
from zoo.evaluation.labels import chosen, logits, tempered
from zoo.evaluation.metrics import expected_calibration_error
from zoo.exporting.calibration import HIGHEST_TEMPERATURE, LEAST_TEMPERATURE, fit_temperature, known_threshold
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.guarded import Guarded
from zoo.exporting.limits import Budget, findings
from zoo.exporting.reproof import verify_artifact
from zoo.records.manifest import Temperature
from zoo.records.run import Run
from zoo.records.trained import load_trained, shipped_model
from zoo.runtime.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.contracts.unknown import UnknownBy
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest

    from .conftest import Answer

RATE = 0.1


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-scores)), np.float32)


def drawn_labels(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels that come as often as these probabilities say."""
    return np.array([rng.choice(len(row), p=row / row.sum()) for row in probabilities.astype(np.float64)])


# The expected calibration error.


def test_the_error_is_the_gap_between_sure_and_right() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.35, 0.65]], np.float32)
    # Three at 0.9 of which two are right, one at 0.65 that is right.
    wanted = 3 / 4 * (0.9 - 2 / 3) + 1 / 4 * (1 - 0.65)
    assert expected_calibration_error(np.array([0, 0, 1, 1]), probabilities) == pytest.approx(wanted)


def test_the_error_agrees_with_a_loop_over_bins() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = softmax(rng.normal(0, 2, (500, 4))), rng.integers(4, size=500)
    sure, found = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == labels
    total = 0.0
    for low in range(15):
        inside = (sure > low / 15) & (sure <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(found[inside].mean() - sure[inside].mean())
    assert expected_calibration_error(labels, probabilities) == pytest.approx(total)


def test_several_labels_count_one_by_one() -> None:
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]], np.float32)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.25)


def test_no_number_is_sure_and_wrong() -> None:
    assert expected_calibration_error(np.array([0]), np.full((1, 3), np.nan, np.float32)) == 1.0
    assert expected_calibration_error(np.ones((1, 3), np.uint8), np.full((1, 3), np.nan, np.float32)) == 1.0


# The temperature.


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (4000, 5)).astype(np.float32)
    labels = drawn_labels(softmax(scores / temperature), rng)
    found = fit_temperature(labels, scores)
    assert found == pytest.approx(temperature, rel=0.08)
    before, after = (expected_calibration_error(labels, softmax(scores / t)) for t in (1.0, found))
    assert after < 0.03 < before


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_so_it_is_with_several_labels(temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (3000, 4)).astype(np.float32)
    labels = (rng.random(scores.shape) < sigmoid(scores / temperature)).astype(np.uint8)
    assert fit_temperature(labels, scores) == pytest.approx(temperature, rel=0.08)


def test_a_model_that_is_always_right_is_not_made_sure_without_end() -> None:
    labels = np.arange(150) % 3
    scores = np.eye(3, dtype=np.float32)[labels] * 2
    found = fit_temperature(labels, scores)
    assert LEAST_TEMPERATURE < found < 1
    # One of 152 may be wrong, for all that 150 right ones tell.
    assert softmax(scores / found).max(1).mean() == pytest.approx(1 - 1 / 152, abs=1e-4)


def test_scores_that_say_nothing_keep_their_temperature() -> None:
    assert fit_temperature(np.arange(30) % 3, np.zeros((30, 3), np.float32)) == 1.0
    wrong = -np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    assert 1 < fit_temperature(np.arange(30) % 3, wrong) <= HIGHEST_TEMPERATURE


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_tempered_thresholds_say_the_same_labels(temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores, thresholds = rng.normal(0, 3, (2000, 4)).astype(np.float32), np.array([0.05, 0.5, 0.7, 0.95])
    before = chosen(sigmoid(scores), thresholds)
    after = chosen(sigmoid(scores / temperature), tempered(thresholds, temperature))
    assert np.array_equal(before, after)
    assert before.any(0).all()


def test_thresholds_near_one_limit_how_sure_a_model_gets() -> None:
    labels = (np.arange(200)[:, None] % 2 == [[0, 1]]).astype(np.uint8)
    scores = np.where(labels == 1, 1, -1).astype(np.float32)
    threshold = np.array([0.999, 0.5])
    free, held = (fit_temperature(labels, scores, limits) for limits in (None, threshold))
    assert free < held
    assert logits(tempered(threshold, held)[None], multi_label=True).max() <= 10 + 1e-6


# What is unknown.


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_at_most_the_rate_lies_below_the_threshold(rate: float) -> None:
    scores = np.random.default_rng(0).normal(0, 1, 99).astype(np.float32)
    assert (scores < np.float32(known_threshold(scores, rate))).sum() == int(99 * rate)
    equal = np.repeat(np.array([1, 2, 3], np.float32), 33)
    assert (equal < np.float32(known_threshold(equal, rate))).mean() <= rate


@pytest.mark.parametrize("rate", [0.0, 0.009, 1.0])
def test_a_rate_of_no_image_or_of_all_is_refused(rate: float) -> None:
    with pytest.raises(OptionInvalid, match="99 validation images"):
        known_threshold(np.arange(99, dtype=np.float32), rate)


@pytest.mark.parametrize(
    ("by", "multi_label", "wanted"),
    [("energy", False, np.log(1 + np.e)), ("max-logit", False, 1.0), ("energy", True, np.log(2) + np.log(1 + np.e))],
)
def test_scores_are_those_of_their_papers(by: UnknownBy, multi_label: bool, wanted: float) -> None:
    assert float(known_score(torch.tensor([[0.0, 1.0]]), by, multi_label)) == pytest.approx(wanted)


def test_a_tempered_model_keeps_its_classes_and_tells_what_is_unknown() -> None:
    pixels = torch.randint(256, (8, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    preprocess = Preprocess(size=(4, 4))
    with torch.inference_mode():
        plain = preprocess.wrap(backbone)(pixels)
        energy = backbone(preprocess.wrap(backbone).get_submodule("normalise")(pixels)).div(2).logsumexp(-1)
        rule = Unknown(by="energy", threshold=float(energy.sort().values[3:5].mean()))
        probabilities, unknown = preprocess.wrap(Tempered(backbone, 2.0), unknown=rule)(pixels)
    assert torch.allclose(probabilities, plain.log().div(2).softmax(-1), atol=1e-6)
    assert torch.equal(probabilities.argmax(1), plain.argmax(1))
    assert unknown.tolist() == (energy < rule.threshold).tolist()
    assert unknown.sum() == 4


class Tells:
    """A predictor whose second output is what it is given."""

    def __init__(self, told: Any) -> None:
        self.told = told

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), 2), np.float32)

    def with_unknown(self, images: np.ndarray) -> Any:
        return self(images), self.told


@pytest.mark.parametrize("told", [np.zeros(3, np.float32), np.zeros((3, 1), bool), None, np.zeros(2, bool)])
def test_the_proof_takes_no_other_kind_of_output(told: Any) -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    guarded = Guarded(Tells(told), 2)
    assert not guarded.unknown(images).any()
    assert "its output `unknown` is" in guarded.fault
    right = Guarded(Tells(np.ones(3, bool)), 2)
    assert right.unknown(images).all()
    assert not right.fault
    without = Guarded(lambda images: images, 2)
    without.unknown(images)
    assert "does not tell" in without.fault


def unknown_report(reference: float, artifact: float, flips: int) -> dict[str, Any]:
    shares = {"reference_unknown": reference, "artifact_unknown": artifact, "unknown_flips": flips}
    return {"drop": 0.0, "max_probability_difference": 0.0, "batches": {}, "images": 1000, **shares}


@pytest.mark.parametrize(
    ("precision", "shares", "refused"),
    [
        ("fp32", (0.05, 0.05, 4), False),
        ("fp32", (0.05, 0.05, 6), True),
        ("int8", (0.05, 0.07, 60), False),
        ("int8", (0.05, 0.08, 60), True),
        ("int8", (0.05, 0.0, 50), True),
        ("int8", (0.005, 0.014, 10), False),
    ],
)
def test_a_file_that_calls_others_unknown_is_refused(
    precision: str, shares: tuple[float, float, int], refused: bool
) -> None:
    found = findings(unknown_report(*shares), Budget(), precision)
    assert bool(found) is refused
    assert all("unknown" in str(finding) for finding in found)


# From a run to an artifact, and every command.


@pytest.fixture(scope="module")
def export(
    catalogue: Catalogue, trained_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, Manifest]:
    """A calibrated artifact with the output `unknown`, of a run of its own."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    shutil.copytree(trained_run.path, folder, ignore=shutil.ignore_patterns("export"))
    return export_run(catalogue, Run(folder), ExportSpec(format="onnx", calibrate=True, unknown=RATE))


def test_the_artifact_is_accepted_and_says_what_was_done(
    export: tuple[Artifact, Manifest], catalogue: Catalogue
) -> None:
    artifact, manifest = export
    report, temperature, told = manifest.report, manifest.temperature, manifest.unknown
    assert report.accepted, report.reasons
    assert temperature is not None
    assert told is not None
    assert temperature.ece_after["test"] < temperature.ece_before["test"]
    assert report.reference_ece == pytest.approx(temperature.ece_after["test"], abs=1e-5)
    assert report.artifact_ece == pytest.approx(report.reference_ece, abs=1e-5)
    assert 0 < told.known_called_unknown["val"] <= RATE
    assert report.artifact_unknown == report.reference_unknown == told.known_called_unknown["test"]
    assert report.unknown_flips == 0
    assert verify_artifact(catalogue, artifact, golden_only=False, note=print).problems == ()


def test_the_graph_divides_by_the_temperature_and_has_a_second_output(
    export: tuple[Artifact, Manifest], catalogue: Catalogue, trained_run: Run
) -> None:
    artifact, manifest = export
    assert manifest.temperature
    session = onnxruntime.InferenceSession(artifact.path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(o.name, o.type) for o in session.get_outputs()] == [
        ("probabilities", "tensor(float)"),
        ("unknown", "tensor(bool)"),
    ]
    images = artifact.golden().images
    found, unknown = session.run(["probabilities", "unknown"], {"image": images})
    with torch.inference_mode():
        plain = shipped_model(catalogue, trained_run)[0](torch.from_numpy(images)).numpy()
    assert np.allclose(found, softmax(np.log(plain) / manifest.temperature.value), atol=1e-5)
    assert np.array_equal(found.argmax(1), plain.argmax(1))
    assert unknown.shape == (len(images),)


def test_noise_is_unknown_to_every_command(
    export: tuple[Artifact, Manifest], cli: Callable[..., Answer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    artifact, _ = export
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    model = Model(artifact.path)
    _, of_pixels = model.session.with_unknown(images)
    assert of_pixels.mean() > 2 * RATE
    # A picture is resized and cropped first, which may well turn the answer to noise.
    unknown = np.array(model.ask([model.pixels(image) for image in images])[1])
    # pytest calls `tmp_path` after the test, whose name has the word that is looked for in what is printed.
    picture = tmp_path_factory.mktemp("pictures") / "noise.png"
    # How a processor rounds as it trains decides which of these are unknown: one that is, and one that is not.
    for index in {int(unknown.argmax()), int(unknown.argmin())}:
        Image.fromarray(images[index]).save(picture)
        (told,) = json.loads(cli("predict", picture, "--using", artifact.path, "--json").stdout)["predictions"]
        assert told["unknown"] is bool(unknown[index])
        assert len(told["top"]) == 3
        said = cli("predict", picture, "--using", artifact.path).stdout
        assert ("unknown" in said) is bool(unknown[index])
    measured = json.loads(cli("eval", artifact.path, "--json").stdout)
    assert 0 <= measured["unknown"] < 3 * RATE
    assert 0 <= measured["ece"] <= 1


def test_an_fp32_file_of_other_answers_is_no_yardstick(export: tuple[Artifact, Manifest], catalogue: Catalogue) -> None:
    run = Run(export[0].path.parent.parent)
    notes: list[str] = []
    _, manifest = export_run(catalogue, run, ExportSpec(format="torchscript"), notes.append)
    assert manifest.report.accepted, manifest.report.reasons
    assert "writing onnx fp32 to compare with" in notes
    assert manifest.report.against_onnxruntime_fp32
    assert manifest.report.against_onnxruntime_fp32.max_probability_difference < 1e-4


def test_thresholds_of_labels_go_with_the_temperature(catalogue: Catalogue, trained_run: Run) -> None:
    trained = load_trained(catalogue, trained_run)
    record = trained.record.model_copy(update={"multi_label": True, "thresholds": {"0": 0.9, "1": 0.2}})
    cold = Temperature(value=0.5, split="val", ece_before={}, ece_after={})
    found = type(trained)(**{**vars(trained), "record": record}).at(cold).record.thresholds
    # Odds of 9 and a quarter, squared.
    assert found == pytest.approx({"0": 81 / 82, "1": 1 / 17})
    assert trained.at(None) is trained


@pytest.mark.parametrize(
    ("rate", "told"),
    [(rate, "share of the images") for rate in ("0", "1", "5", "-0.1")] + [("nan", "unknown of zoo.export is nan")],
)
def test_a_rate_that_is_no_share_is_refused(rate: str, told: str, cli: Callable[..., Answer], trained_run: Run) -> None:
    answer = cli("export", trained_run.path, "--onnx", "--unknown", rate)
    assert answer.code == 1
    assert told in answer.stderr


def test_an_exporter_that_cannot_is_refused_before_anything_runs(
    catalogue: Catalogue, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = catalogue.get("exporter", "torchscript")
    monkeypatch.delattr(exporter, "tells_unknown")
    notes: list[str] = []
    with pytest.raises(OptionInvalid, match=r"torchscript.*leave --unknown out"):
        export_run(catalogue, trained_run, ExportSpec(format="torchscript", unknown=RATE, calibrate=True), notes.append)
    assert not notes
