"""Losses are what their papers say; the figure that is watched chooses the best epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score

from zoo.errors import OptionInvalid
from zoo.training.learn.task import make_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.records.options import Loss

    from ..conftest import Answer

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -0.7]])
LABELS = torch.tensor([0, 2])


def value(loss: Loss, *, smoothing: float = 0.0, weights: list[float] | None = None) -> float:
    given = torch.tensor(weights) if weights else None
    return float(make_task(3, multi_label=False, smoothing=smoothing, weights=given, loss=loss).loss(LOGITS, LABELS))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(gamma: float, weights: tuple[float, ...] = (1, 1, 1)) -> list[list[float]]:
    """-w (1 - p)^gamma log p of each image and class, p being the probability of what is so."""
    found = []
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        shares = [sigmoid(x) if label == c else 1 - sigmoid(x) for c, x in enumerate(row)]
        found.append(
            [-(weights[c] if label == c else 1) * (1 - p) ** gamma * math.log(p) for c, p in enumerate(shares)]
        )
    return found


def test_auto_is_cross_entropy() -> None:
    assert value("auto") == value("cross_entropy") == float(torch.nn.functional.cross_entropy(LOGITS, LABELS))


def test_smoothing_is_that_of_its_formula() -> None:
    logs = LOGITS.log_softmax(1)
    wanted = [-(0.8 * row[label] + 0.2 * row.mean()) for row, label in zip(logs, LABELS, strict=True)]
    assert value("cross_entropy", smoothing=0.2) == pytest.approx(float(sum(wanted)) / 2)


def test_binary_cross_entropy_asks_of_each_class() -> None:
    assert value("bce") == pytest.approx(np.mean(by_hand(0)), rel=1e-5)
    assert value("bce", weights=[1, 1, 3]) == pytest.approx(np.mean(by_hand(0, (1, 1, 3))), rel=1e-5)


def test_focal_loss_counts_what_is_easy_less() -> None:
    assert value("focal") == pytest.approx(np.sum(by_hand(2)) / 2, rel=1e-5)
    assert value("focal", weights=[1, 1, 3]) == pytest.approx(np.sum(by_hand(2, (1, 1, 3))) / 2, rel=1e-5)


def test_binary_smoothing_is_timms() -> None:
    from timm.loss import BinaryCrossEntropy

    assert value("bce", smoothing=0.2) == pytest.approx(float(BinaryCrossEntropy(smoothing=0.2)(LOGITS, LABELS)))
    assert value("focal", smoothing=0.2) != value("focal")


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_a_mixed_target_lies_between(loss: Loss) -> None:
    criterion = make_task(3, multi_label=False, loss=loss).loss
    one, other = torch.eye(3)[[0, 0]], torch.eye(3)[[1, 1]]
    ends = sorted([float(criterion(LOGITS, one)), float(criterion(LOGITS, other))])
    assert ends[0] < float(criterion(LOGITS, (one + other) / 2)) < ends[1]


def test_several_labels_have_their_own_losses() -> None:
    target = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    plain, focal = (make_task(3, multi_label=True, loss=loss).loss(LOGITS, target) for loss in ("bce", "focal"))
    assert float(plain) == pytest.approx(float(make_task(3, multi_label=True).loss(LOGITS, target)))
    assert float(focal) < 3 * float(plain)
    with pytest.raises(OptionInvalid, match="use bce or focal"):
        make_task(3, multi_label=True, loss="cross_entropy")


def told(monitor: str, logits: torch.Tensor, labels: torch.Tensor) -> tuple[dict[str, float], float]:
    task = make_task(logits.shape[1], multi_label=labels.ndim == 2, monitor=monitor)
    tally = task.tally()
    for part in ([0, 1], slice(2, None)):
        tally.add(logits[part], labels[part])
    figures = tally.figures()
    return figures, task.score(figures)


def test_a_run_may_be_judged_by_another_figure() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 6))).float()
    labels = torch.arange(40) % 5
    said = logits.argmax(1)
    for monitor, wanted in {
        "macro_f1": f1_score(labels, said, average="macro", labels=range(6), zero_division=0),
        "macro_recall": recall_score(labels, said, average="macro", labels=range(6), zero_division=0),
        "top1": float((said == labels).float().mean()),
    }.items():
        figures, score = told(monitor, logits, labels)
        assert score == figures[monitor] == pytest.approx(float(wanted))
        assert figures.keys() == {"loss", "top1", monitor}
    figures, score = told("loss", logits, labels)
    assert score == -figures["loss"]
    assert figures.keys() == {"loss", "top1"}


def test_several_labels_are_judged_by_theirs() -> None:
    rng = np.random.default_rng(0)
    logits, labels = torch.from_numpy(rng.normal(size=(40, 3))).float(), torch.from_numpy(rng.integers(0, 2, (40, 3)))
    figures, score = told("micro_f1", logits, labels.float())
    assert score == pytest.approx(float(f1_score(labels, logits > 0, average="micro")))
    assert figures.keys() == {"loss", "map", "exact", "micro_f1"}
    assert told("", logits, labels.float())[1] == figures["map"]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_figure_that_the_run_does_not_have_is_refused(multi_label: bool) -> None:
    with pytest.raises(OptionInvalid, match=r"it has .*loss, macro_f1"):
        make_task(3, multi_label=multi_label, monitor="top5")


def test_the_best_epoch_is_the_one_of_the_figure(cli: Callable[..., Answer]) -> None:
    import json
    from pathlib import Path

    command = ["train", "test_resnet", "--dataset", "digits", "--no-pretrained", "--epochs", 3, "--name", "n"]
    answer = cli(*command, "--image-size", 32, "--batch-size", 128, "--lr", 2e-3, "--monitor", "loss", "--json")
    assert answer.code == 0, answer.stderr
    epochs = [json.loads(line) for line in Path("runs/n/metrics.jsonl").read_text().splitlines()]
    losses = [epoch["val_loss"] for epoch in epochs]
    assert [epoch["best"] for epoch in epochs] == [loss == min(losses[: i + 1]) for i, loss in enumerate(losses)]
    assert json.loads(answer.stdout)["metrics"]["best_val_loss"] == min(losses)
