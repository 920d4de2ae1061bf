"""A finished run, loaded: the model that ships, and the very data it was trained and validated on."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.catalogue.made.dataset import open_dataset
from zoo.contracts.preprocess import Preprocess
from zoo.contracts.unknown import Unknown
from zoo.data.decode import to_rgb
from zoo.data.loader import worker_count
from zoo.data.prepared import PreparedData, Recorded, prepare
from zoo.disk.weights import load_weights
from zoo.errors import CheckpointInvalid, DatasetInvalid
from zoo.evaluation.labels import tempered
from zoo.records.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from zoo.catalogue import Catalogue
    from zoo.records.manifest import Temperature, UnknownOutput
    from zoo.records.record import RunRecord
    from zoo.records.run import Run

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What evaluation, export and proof start from."""

    catalogue: Catalogue
    run: Run
    record: RunRecord
    config: TrainConfig
    preprocess: Preprocess
    data: PreparedData
    workers: int
    temperature: Temperature | None = None
    """The logits of `backbone` are divided by it."""
    unknown_output: UnknownOutput | None = None

    @property
    def shipped(self) -> torch.nn.Module:
        """uint8 [N, H, W, 3] to probabilities, on the CPU, in eval mode."""
        return self._models[0]

    @property
    def backbone(self) -> torch.nn.Module:
        """The backbone inside it: float32 [N, 3, H, W] to the logits of `shipped`."""
        return self._models[1]

    @functools.cached_property
    def _models(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        # Built when first asked for: an artifact is evaluated without PyTorch.
        return self.ship(shipped_model(self.catalogue, self.run)[1])

    @property
    def unknown(self) -> Unknown | None:
        """What the second output is made of, if there is one."""
        told = self.unknown_output
        return Unknown(by=told.by, threshold=told.threshold) if told else None

    def ship(self, backbone: torch.nn.Module) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Return the model that ships around another backbone of this run's kind, and what its logits come from."""
        from zoo.contracts.shipped import Tempered

        core = Tempered(backbone, self.temperature.value).eval() if self.temperature else backbone
        return self.preprocess.wrap(core, multi_label=self.record.multi_label, unknown=self.unknown).eval(), core

    def at(self, temperature: Temperature | None) -> Trained:
        """Return the same with other probabilities, and thresholds that keep every label said that was said before."""
        if temperature is None:
            return self
        before = self.record.thresholds
        after = tempered(np.array([*before.values()]), temperature.value).tolist()
        record = self.record.model_copy(update={"thresholds": dict(zip(before, after, strict=True))})
        return replace(self, record=record, temperature=temperature)

    def telling(self, unknown_output: UnknownOutput | None) -> Trained:
        """Return the same with a second output."""
        return replace(self, unknown_output=unknown_output) if unknown_output else self

    def calibration(self) -> Iterator[np.ndarray]:
        """Yield uint8 [n, H, W, 3] training images, chosen from the seed, prepared as in evaluation."""
        train = self.data.splits["train"]
        chosen = np.random.default_rng(self.record.seed).permutation(len(train))[:CALIBRATION_IMAGES]
        for begin in range(0, len(chosen), CALIBRATION_BATCH):
            batch = chosen[begin : begin + CALIBRATION_BATCH]
            yield np.stack([self.preprocess.prepare(to_rgb(train.images[int(i)])) for i in batch])


def load_trained(catalogue: Catalogue, run: Run) -> Trained:
    """Load a run's record and data; its model follows when it is asked for.

    Raises:
        RunInvalid: the run is not finished, or damaged.
        DatasetInvalid: the data is not what the run was trained on.
    """
    record = run.record()
    catalogue = catalogue.preferring(record.plugins)
    config = TrainConfig.model_validate(record.config)
    dataset = open_dataset(catalogue, config.dataset, config.dataset_options)
    # The first runs did not write down by what rule their splits were cut; there was only one.
    rule: Any = record.chosen.get("split_rule", "rank")
    recorded = Recorded(rule=rule, skipped=record.skipped_images, fold=config.chosen_fold)
    data = prepare(dataset, config.dataset, seed=config.seed, recorded=recorded)
    if data.fingerprint != record.dataset_fingerprint:
        raise DatasetInvalid(
            f"dataset {config.dataset!r} is not what {run.path} was trained on (images were added, removed "
            "or changed); restore it, or train again"
        )
    return Trained(
        catalogue=catalogue,
        run=run,
        record=record,
        config=config,
        preprocess=Preprocess.from_json(record.preprocess),
        data=data,
        workers=worker_count(config.workers),
    )


def shipped_model(catalogue: Catalogue, run: Run) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the model that ships (eval mode, on the CPU, best weights) and the backbone inside it.

    Raises:
        RunInvalid: the run is not finished.
        CheckpointInvalid: the weights do not belong to the model.
    """

    record = run.record()
    config = TrainConfig.model_validate(record.config)
    request = BackboneRequest(
        num_classes=len(record.classes), image_size=config.image_size, options=config.backbone_options
    )
    backbone, _ = build_backbone(catalogue, catalogue.backbone(record.model), request)
    try:
        backbone.load_state_dict(load_weights(run.best_file))
    except RuntimeError as exc:
        raise CheckpointInvalid(
            f"{run.best_file} does not fit {record.model}: {str(exc).splitlines()[-1].strip()}"
        ) from exc
    backbone.eval().requires_grad_(False)
    shipped = Preprocess.from_json(record.preprocess).wrap(backbone, multi_label=record.multi_label)
    return shipped.eval(), backbone
