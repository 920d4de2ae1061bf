"""The learning rate goes where its schedule says, from any step on."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from .rig import Rig, make_rig

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue

STEPS = 10


def rates(rig: Rig, epochs: int) -> list[float]:
    found = []
    for epoch in range(epochs):
        for step in range(STEPS):
            rig.state.epoch, rig.state.step = epoch, step
            rig.plan.set_learning_rates(rig.state)
            found.append(rig.state.optimizer.param_groups[0]["lr"])
    return found


def rig_with(catalogue: Catalogue, **given: Any) -> Rig:
    return make_rig(catalogue, steps=STEPS, **{"lr": 1.0, "epochs": 10, "warmup_epochs": 0, **given})


def test_cosine_is_the_default_and_follows_its_formula(catalogue: Catalogue) -> None:
    found = rates(rig_with(catalogue), 10)
    wanted = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert found == pytest.approx(wanted)


def test_a_constant_rate_is_one(catalogue: Catalogue) -> None:
    assert set(rates(rig_with(catalogue, schedule="constant"), 10)) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau", "constant"])
def test_the_rate_warms_up(catalogue: Catalogue, schedule: str) -> None:
    found = rates(rig_with(catalogue, schedule=schedule, warmup_epochs=2), 3)
    assert found[0] == pytest.approx(0.01)
    assert found[10] == pytest.approx(0.505)
    assert found[:20] == sorted(found[:20])
    assert found[20] > 0.85


@pytest.mark.parametrize(("decay_epochs", "first"), [(2, 20), (0, 34)])
def test_steps_lower_the_rate_by_a_factor(catalogue: Catalogue, decay_epochs: int, first: int) -> None:
    found = rates(rig_with(catalogue, schedule="step", decay_epochs=decay_epochs, decay_rate=0.5), 10)
    assert found[first - 1] == 1.0
    assert found[first] == pytest.approx(0.5)
    assert found[2 * first] == pytest.approx(0.25)


def test_one_cycle_rises_then_falls(catalogue: Catalogue) -> None:
    found = rates(rig_with(catalogue, schedule="onecycle"), 10)
    peak = found.index(max(found))
    assert 28 <= peak <= 30
    assert max(found) == pytest.approx(1.0)
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] < 1e-4


@pytest.mark.parametrize("schedule", ["cosine", "step", "onecycle", "constant"])
def test_a_rate_follows_from_the_step_alone(catalogue: Catalogue, schedule: str) -> None:
    whole = rates(rig_with(catalogue, schedule=schedule), 10)
    fresh = rig_with(catalogue, schedule=schedule)
    fresh.state.epoch, fresh.state.step = 7, 3
    fresh.plan.set_learning_rates(fresh.state)
    assert fresh.state.optimizer.param_groups[0]["lr"] == whole[73]
    assert fresh.plan.schedule.state_dict() == {}


def heard(rig: Rig, scores: list[float]) -> list[float]:
    """The rate after each of these scores."""
    found = []
    for score in scores:
        rig.plan.schedule.end_epoch(score)
        rig.plan.set_learning_rates(rig.state)
        found.append(rig.state.optimizer.param_groups[0]["lr"])
    return found


def test_a_plateau_lowers_the_rate_and_progress_does_not(catalogue: Catalogue) -> None:
    rig = rig_with(catalogue, schedule="plateau", decay_epochs=2, decay_rate=0.5)
    assert heard(rig, [0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3]) == pytest.approx([1, 1, 1, 1, 1, 0.5, 0.5, 0.25])


def test_a_plateau_of_a_loss_is_one_too(catalogue: Catalogue) -> None:
    rig = rig_with(catalogue, schedule="plateau", decay_epochs=2, decay_rate=0.5)
    assert heard(rig, [-2.0, -1.5, -1.5, -1.5]) == pytest.approx([1, 1, 1, 0.5])


def test_a_plateau_is_resumed(catalogue: Catalogue) -> None:
    options = {"schedule": "plateau", "decay_epochs": 2, "decay_rate": 0.5}
    scores = [0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2]
    whole, begun, resumed = (rig_with(catalogue, **options) for _ in range(3))
    wanted = heard(whole, scores)
    heard(begun, scores[:5])
    file = io.BytesIO()
    torch.save(begun.plan.schedule.state_dict(), file)
    file.seek(0)
    resumed.plan.schedule.load_state_dict(torch.load(file, weights_only=True))
    assert heard(resumed, scores[5:]) == wanted[5:]
    assert wanted[5] != wanted[3]
