"""Checkpoints: when one is due, the last two on disk, and whether what would be written is worth it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from zoo.disk.files import write_atomic
from zoo.disk.weights import load_checkpoint
from zoo.errors import CheckpointInvalid, TrainingFailed
from zoo.training.learn.state import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from zoo.records.config import TrainConfig
    from zoo.records.run import Run
    from zoo.training.learn.state import TrainState


@dataclass(frozen=True, kw_only=True)
class About:
    """What a checkpoint's state belongs to, as plain values; what older ones do not say is empty."""

    config: dict[str, Any]
    origins: dict[str, str]
    chosen: dict[str, Any]
    fingerprint: str
    """Of the data."""
    classes: list[str]
    class_weights: dict[str, float] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Images that turned out to be broken, so far."""
    plugins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> About:
        """Return what a checkpoint that was read says."""
        return cls(**{name: value for name, value in payload["about"].items() if name in cls.__dataclass_fields__})


class Checkpoints:
    """Writes a run's checkpoints while it trains."""

    def __init__(self, run: Run, config: TrainConfig, about: About, *, writes: bool = True) -> None:
        """Take note of what belongs to every checkpoint.

        Args:
            run: Where they go.
            config: How often they are due.
            about: What the state belongs to.
            writes: Whether this is the one process of a run that does.
        """
        self._writes = writes
        self._run = run
        self._config = config
        self._about = about
        self._written = time.monotonic()
        self._place = (0, 0)

    def due(self, state: TrainState) -> bool:
        """Tell whether it is time for one."""
        by_time = time.monotonic() - self._written >= 60 * self._config.checkpoint_minutes > 0
        epoch, step = self._place
        since = state.step - (step if epoch == state.epoch else 0)
        return by_time or since >= self._config.checkpoint_steps > 0

    def write(self, state: TrainState) -> None:
        """Write the state as `last.ckpt`; the one before stays as `previous.ckpt`. Called in every process.

        Raises:
            TrainingFailed: the weights are not finite; what is on disk stays.
            EnvironmentBroken: the disk is full or cannot be written; what is on disk stays.
        """
        payload = {"about": asdict(self._about), **state.to_payload()}
        self._written = time.monotonic()
        self._place = (state.epoch, state.step)
        if not self._writes:
            return
        if not _finite(payload["model"]):
            raise TrainingFailed(
                f"weights became infinite or NaN in epoch {state.epoch + 1}, at or before step {state.step}; "
                f"{self._run.checkpoint_file} is from before: try a smaller --lr, --precision fp32 or --set clip_grad=1"
            )
        write_atomic(self._run.checkpoint_file, lambda file: torch.save(payload, file), before=self._keep_previous)

    def _keep_previous(self) -> None:
        """Give the present checkpoint a second name, so that at every moment there is a whole one under the first."""
        last, spare = self._run.checkpoint_file, self._run.path / ".previous.ckpt"
        if last.is_file():
            spare.unlink(missing_ok=True)
            _link_or_copy(last, spare)
            spare.replace(self._run.previous_checkpoint_file)


def read_checkpoint(run: Run, note: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Read the last checkpoint, or the one before if the last is damaged.

    Raises:
        CheckpointInvalid: missing, damaged, or not one of ours.
    """
    try:
        return _read(run.checkpoint_file)
    except CheckpointInvalid as exc:
        if not run.previous_checkpoint_file.is_file():
            raise
        payload = _read(run.previous_checkpoint_file)
        note(f"{exc}; going on from {run.previous_checkpoint_file.name}")
        return payload


def _read(path: Path) -> dict[str, Any]:
    payload = load_checkpoint(path)
    if payload.get("schema") != SCHEMA or "about" not in payload:
        raise CheckpointInvalid(f"{path} is no checkpoint of a zoo run (schema {payload.get('schema')!r}); train anew")
    return payload


def _finite(weights: Mapping[str, torch.Tensor]) -> bool:
    # A single number may be infinite from the start: a bound that values are clipped to, as Gemma's layers have.
    return all(
        bool(torch.isfinite(value).all() if value.dim() else not value.isnan())
        for value in weights.values()
        if value.is_floating_point()
    )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has second names
        with source.open("rb") as file:
            write_atomic(target, lambda copy: copy.write(file.read()))
