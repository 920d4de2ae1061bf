"""A run with pretrained weights begins with a classifier that is fitted to their features, and ends no worse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.disk.weights import load_weights
from zoo.errors import Interrupted, OptionInvalid
from zoo.records.config import TrainConfig
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.learn.blend import SHARES, Blend, between, choose, standard_error
from zoo.training.learn.freeze import check_classifier
from zoo.training.learn.probe import FEWEST_OF_A_CLASS, MOST_IMAGES, begins_fitted, sample_size
from zoo.training.machine.replica import check_replica
from zoo.training.machine.world import World
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

from ..conftest import train_digits
from .test_options import StopFrom, lines

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue

    from ..conftest import Answer

GIVEN: dict[str, Any] = {"model": "test_resnet", "image_size": 32, "epochs": 2, "threads": 1, "lr": 1e-4}
GIVEN |= {"precision": "fp32"}

BETWEEN: dict[str, Any] = {"monitor": "loss", "lr": 1e-3, "epochs": 3, "label_smoothing": 0.0}


@pytest.fixture(scope="module")
def weights(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that know digits."""
    path = tmp_path_factory.mktemp("runs") / "before"
    options: dict[str, Any] = {"model": "test_resnet", "pretrained": False, "image_size": 32, "batch_size": 64}
    return train_digits(catalogue, path, **options, threads=1).best_file


class Notes(Watch):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def begin(
    catalogue: Catalogue, path: Path, weights: Path, pictures: Path, watch: Watch | None = None, **given: Any
) -> Run:
    settings = {**GIVEN, "dataset": str(pictures), "weights": str(weights), **given}
    return start_run(catalogue, resolve_options(catalogue, settings, None, None), path, watch)


@pytest.fixture(scope="module")
def fitted(catalogue: Catalogue, weights: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return begin(catalogue, tmp_path_factory.mktemp("runs") / "fitted", weights, pictures)


def test_the_fitted_classifier_is_epoch_0(fitted: Run) -> None:
    told = lines(fitted)
    assert [line["epoch"] for line in told] == [0, 1, 2]
    assert told[0]["lr"] == 0
    assert told[0]["best"]
    # Frozen features tell these pictures apart; a random classifier would not.
    assert told[0]["train_top1"] > 0.8
    record = fitted.record()
    assert record.metrics["best_val_top1"] >= told[0]["val_top1"]
    assert record.metrics["best_epoch"] == [line["epoch"] for line in told if line["best"]][-1]
    assert record.config["epochs"] == record.metrics["epochs"] == 2


def test_it_begins_where_the_probe_ends(
    catalogue: Catalogue, fitted: Run, weights: Path, pictures: Path, tmp_path: Path
) -> None:
    probe = begin(catalogue, tmp_path / "probe", weights, pictures, probe=True)
    (only,) = lines(probe)
    first = lines(fitted)[0]
    assert [first[name] for name in ("val_top1", "val_loss")] == [only[name] for name in ("val_top1", "val_loss")]


def test_a_run_that_spoils_it_ships_it_and_says_so(
    catalogue: Catalogue, weights: Path, pictures: Path, tmp_path: Path
) -> None:
    watch = Notes()
    run = begin(catalogue, tmp_path / "run", weights, pictures, watch, lr=3.0, label_smoothing=0.9, epochs=1)
    assert run.record().metrics["best_epoch"] == 0
    assert any("no epoch was better" in note for note in watch.notes)
    assert "no epoch was better" in run.report_file.read_text()
    shipped, before = load_weights(run.best_file), load_weights(weights)
    assert {name for name, value in before.items() if not value.equal(shipped[name])} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("call", [2, 4, 7, 9])
def test_a_run_stopped_at_its_beginning_ends_in_the_same_bits(
    catalogue: Catalogue, fitted: Run, weights: Path, pictures: Path, tmp_path: Path, call: int
) -> None:
    class StopAt(Watch):
        calls = 0

        def step(self, state: Any) -> None:
            self.calls += 1
            if self.calls == call:
                raise Interrupted

    with pytest.raises(Interrupted):
        begin(catalogue, tmp_path / "run", weights, pictures, StopAt())
    torch.manual_seed(99)
    resumed = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == fitted.best_file.read_bytes()
    assert lines(resumed) == lines(fitted)


@pytest.fixture(scope="module")
def between_both(catalogue: Catalogue, weights: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose best weights lie between the fitted classifier and its last epoch."""
    run = begin(catalogue, tmp_path_factory.mktemp("runs") / "between", weights, pictures, Notes(), **BETWEEN)
    assert run.record().metrics["blend"] in SHARES
    return run


def test_what_lies_between_is_judged_as_well(between_both: Run) -> None:
    record = between_both.record()
    assert record.metrics["best_val_loss"] < min(line["val_loss"] for line in lines(between_both))
    # The figures of the end are those of the weights that ship.
    assert record.metrics["val"]["loss"] == pytest.approx(record.metrics["best_val_loss"], rel=0.2)
    assert "of the way from the fitted classifier" in between_both.report_file.read_text()


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_a_run_stopped_in_between_ends_in_the_same_bits(
    catalogue: Catalogue, between_both: Run, weights: Path, pictures: Path, tmp_path: Path, batches: int
) -> None:
    class StopBehind(Watch):
        calls = 0

        def step(self, state: Any) -> None:
            self.calls += state.epoch == BETWEEN["epochs"]
            if self.calls == batches:
                raise Interrupted

    with pytest.raises(Interrupted):
        begin(catalogue, tmp_path / "run", weights, pictures, StopBehind(), **BETWEEN)
    resumed = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == between_both.best_file.read_bytes()
    assert resumed.record().metrics == between_both.record().metrics


@pytest.mark.parametrize(
    ("scores", "epochs", "images", "wanted"),
    [
        ((0.8, 0.8, 0.8), [0.7, 0.8], 20, 0.5),
        ((0.8, 0.8, 0.8), [0.7, 0.85], 20, 0.5),
        ((0.8, 0.8, 0.8), [0.7, 0.85], 2000, None),
        ((0.6, 0.8, 0.9), [0.7, 0.8], 20, 0.25),
        ((0.65, 0.72, 0.65), [0.7, 0.75], 20, 0.75),
        ((0.75, 0.75, 0.75), [0.8, 0.8], 20, None),
        ((1.0, 1.0, 1.0), [0.9, 1.0], 20, 0.5),
        ((-0.4, -0.3, -0.5), [-0.9, -0.4], 20, 0.75),
        ((-0.4, -0.3, -0.5), [-0.9, -0.2], 20, None),
    ],
    ids=str,
)
def test_the_usual_blend_ships_unless_another_is_clearly_better(
    scores: tuple[float, ...], epochs: list[float], images: int, wanted: float | None
) -> None:
    blends = [Blend(share=share, weights={}, score=s, loss=0) for share, s in zip(SHARES, scores, strict=True)]
    found = choose(blends, epochs, images)
    assert (found and found.share) == wanted


def test_few_images_are_never_sure() -> None:
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert 0.08 < standard_error(1.0, 10) < 0.09
    assert standard_error(1.0, 10_000) < 0.001
    assert standard_error(-0.3, 10) == 0


def test_weights_between_are_on_the_line() -> None:
    beginning = {"weight": torch.tensor([0.0, 2.0]), "steps": torch.tensor(0)}
    end = {"weight": torch.tensor([4.0, 2.0]), "steps": torch.tensor(9)}
    found = between(beginning, end, 0.25)
    torch.testing.assert_close(found["weight"], torch.tensor([1.0, 2.0]))
    assert found["steps"] == 9


def test_a_run_stopped_behind_it_does_not_fit_again(
    catalogue: Catalogue, fitted: Run, weights: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        begin(catalogue, tmp_path / "run", weights, pictures, StopFrom(1, 1))
    resumed = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == fitted.best_file.read_bytes()
    assert lines(resumed) == lines(fitted)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"weights": "some.safetensors"}, True),
        ({"pretrained": True}, True),
        ({}, False),
        ({"head": "probe"}, True),
        ({"head": "random", "pretrained": True}, False),
        ({"pretrained": True, "probe": True}, False),
        ({"pretrained": True, "qat": True}, False),
        ({"pretrained": True, "fsdp": True}, False),
    ],
    ids=str,
)
def test_auto_looks_at_the_weights(given: dict[str, Any], wanted: bool) -> None:
    config = TrainConfig(**{"model": "m", "dataset": "d", "pretrained": False, **given})
    assert begins_fitted(Headed(5, 3), config, 100) == wanted


@pytest.mark.parametrize(
    ("features", "classes", "images", "wanted"), [(1280, 7, 10, True), (2048, 21_000, 10**6, False)]
)
def test_a_fit_that_would_take_too_long_is_left_out(features: int, classes: int, images: int, wanted: bool) -> None:
    config = TrainConfig(model="m", dataset="d", pretrained=True)
    with torch.device("meta"):
        model = Headed(features, classes)
    assert begins_fitted(model, config, images) == wanted


def test_a_fit_takes_some_images_of_many() -> None:
    assert sample_size(torch.nn.Linear(10, 2), 1000) == 1000
    assert sample_size(torch.nn.Linear(10, 2), 10**6) == MOST_IMAGES
    with torch.device("meta"):
        assert FEWEST_OF_A_CLASS * 397 < sample_size(torch.nn.Linear(1280, 397), 10**6) < 10_000


def test_what_cannot_be_fitted_is_told() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    model.pretrained_cfg = {"classifier": "0"}  # type: ignore[assignment]
    config = TrainConfig(model="m", dataset="d", head="probe")
    with pytest.raises(OptionInvalid, match="head = probe"):
        check_classifier(model, config)
    assert not begins_fitted(model, config.model_copy(update={"head": "auto"}), 100)
    with pytest.raises(OptionInvalid, match="--fsdp"):
        check_replica(config.model_copy(update={"fsdp": True}), World(size=2))


def test_a_command_tells_it(cli: Any, weights: Path, pictures: Path, tmp_path: Path) -> None:
    words = ["--weights", weights, "--runs", tmp_path, "--image-size", 32, "--epochs", 1, "--set", "threads=1"]
    answer: Answer = cli("train", "test_resnet", "--dataset", pictures, *words, "--name", "r", "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["metrics"]["best_epoch"] in (0, 1)
    assert "epoch   0/1" in answer.stderr


class Headed(torch.nn.Module):
    """A model that tells its classifier."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(features, classes)
        self.pretrained_cfg = {"classifier": "fc"}
