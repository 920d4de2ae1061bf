"""The run that teaches another: found, checked and loaded, the same in a resume, and told to the user."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.licenses import refuse_license
from zoo.contracts.preprocess import Preprocess
from zoo.disk.files import sha256
from zoo.errors import CheckpointInvalid, OptionInvalid, RunInvalid, ZooError, first_line
from zoo.evaluation.figures import TITLES, figure
from zoo.records.run import Run
from zoo.records.trained import shipped_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Dataset
    from zoo.data.prepared import PreparedData
    from zoo.records.config import TrainConfig
    from zoo.records.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A finished run, loaded."""

    run: Run
    record: RunRecord
    weights: str
    """SHA-256 of its best weights' file."""
    backbone: torch.nn.Module
    """float32 [N, 3, H, W] to logits [N, C], with the best weights, frozen, in evaluation mode."""

    @property
    def preprocess(self) -> Preprocess:
        """How it likes its pixels."""
        return Preprocess.from_json(self.record.preprocess)

    def facts(self) -> dict[str, str | float]:
        """Return what run.json and the checkpoints of the student say of it: "run", "model", "weights", its figure."""
        path = str(self.run.path.resolve())
        return {"run": path, "model": self.record.model, "weights": self.weights, **_best(self.record)}


def check_teacher(catalogue: Catalogue, config: TrainConfig) -> None:
    """Raise for a teacher that is not finished or has no plugin here, before anything is prepared.

    Raises:
        OptionInvalid: nothing is trained that it could teach.
        LicenseRefused: it carries on a licence that `--license-allow` leaves out.
        ZooError: whatever is wrong with the run.
    """
    if not config.teacher:
        return
    if config.probe:
        raise OptionInvalid("--probe fits the labels in one go, without steps to teach; leave --teacher or --probe out")
    run = Run(Path(config.teacher))
    with _named(run):
        record = run.record()
        catalogue.preferring(record.plugins).backbone(record.model)
    for part, stated in record.licenses.items():
        if stated:
            refuse_license(f"the {part} of teacher {run.path.name}", stated, config.license_allow)


def check_same_teacher(config: TrainConfig, facts: Mapping[str, Any]) -> None:
    """Raise CheckpointInvalid unless the teacher has the weights that it had when the run began.

    Args:
        config: The run's.
        facts: What its checkpoint says of the teacher.
    """
    if not config.teacher:
        return
    run = Run(Path(config.teacher))
    with _named(run):
        run.record()
    if sha256(run.best_file) != facts.get("weights"):
        raise CheckpointInvalid(
            f"teacher {run.path} has other weights than when this run began; put them back, or train anew"
        )


def find_teacher(catalogue: Catalogue, config: TrainConfig, device: str) -> Teacher | None:
    """Load the teacher, if one is asked for, onto the device.

    Raises:
        ZooError: whatever is wrong with the run or its weights.
    """
    if not config.teacher:
        return None
    run = Run(Path(config.teacher))
    with _named(run):
        record = run.record()
        Preprocess.from_json(record.preprocess)
        _, backbone = shipped_model(catalogue.preferring(record.plugins), run)
    return Teacher(run=run, record=record, weights=sha256(run.best_file), backbone=backbone.to(device))


def check_classes(teacher: Teacher | None, dataset: Dataset, name: str) -> None:
    """Raise OptionInvalid if the teacher does not answer what the dataset asks: the same classes, in the same order."""
    if teacher is not None and (what := other_classes(teacher.record, dataset, name)):
        raise OptionInvalid(
            f"teacher {teacher.run.path.name} {what}; choose a teacher of the same classes in the same order"
        )


def other_classes(record: RunRecord, dataset: Dataset, name: str) -> str:
    """Say in what a finished run's classes differ from those of a dataset called `name`; empty if in nothing."""
    known, asked = record.classes, dataset.classes
    if record.multi_label != dataset.multi_label:
        kinds = ("one label an image", "several labels an image")
        return f"learned {kinds[record.multi_label]}, and dataset {name!r} has {kinds[dataset.multi_label]}"
    if missing := [label for label in known if label not in asked]:
        return f"knows {missing[0]!r}, and dataset {name!r} does not"
    if added := [label for label in asked if label not in known]:
        return f"does not know {added[0]!r}, and dataset {name!r} does"
    if known != asked:
        place = next(place for place, pair in enumerate(zip(known, asked, strict=True)) if pair[0] != pair[1])
        return f"calls class {place} {known[place]!r}, and dataset {name!r} {asked[place]!r}"
    return ""


def tell_teacher(
    teacher: Teacher | None, config: TrainConfig, dataset: Dataset, data: PreparedData, note: Callable[[str], None]
) -> None:
    """Note who teaches, and if the student's held-out images may be no news to it.

    Args:
        teacher: If there is one.
        config: The student's.
        dataset: Its dataset, with the splits that it came with.
        data: The same, split for the student.
        note: Takes each line.
    """
    if teacher is None:
        return
    name, record = teacher.run.path.name, teacher.record
    best = "".join(
        f", val {TITLES.get(key, key)} {figure(key, value)}"
        for key, value in ((key.removeprefix("best_val_"), value) for key, value in _best(record).items())
    )
    note(
        f"{name} teaches ({record.model}{best}): {100 * config.distill_share:g} % of the loss, at temperature "
        f"{config.distill_temperature:g}"
    )
    flattered = "what it knows of them flatters the student's figures"
    if record.dataset_fingerprint != data.fingerprint:
        note(f"{name} learned from other data ({record.dataset}): if that has images this run holds out, {flattered}")
        return
    cut = not {"val", "test"} <= dataset.splits.keys()
    theirs, ours = (_splits(values, cut=cut) for values in (record.config, config.model_dump()))
    if theirs != ours:
        note(
            f"{name} learned from images that this run holds out, and {flattered}: it had {theirs}, this run has {ours}"
        )


def _splits(config: Mapping[str, Any], *, cut: bool) -> str:
    """Say what a run's splits of the same images depend on; `cut` if the dataset comes without some of them."""
    seed = f"seed {config.get('seed', 0)}"
    if config.get("folds"):
        return f"{seed}, fold {config['fold']} of {config['folds']}"
    return seed if cut else "the dataset's own splits"


def _best(record: RunRecord) -> dict[str, float]:
    """Return the validation figure that chose a run's weights, under its name in run.json."""
    return {key: value for key, value in record.metrics.items() if key.startswith("best_val_")}


@contextlib.contextmanager
def _named(run: Run) -> Iterator[None]:
    """Say of what goes wrong that it is the teacher's."""
    try:
        yield
    except ZooError as exc:
        raise type(exc)(f"teacher {run.path.name}: {exc}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise RunInvalid(
            f"teacher {run.path.name}: {run.record_file} is damaged: {first_line(exc)}; train it again"
        ) from exc
