"""The rest of what `auto` comes to, once model and data are there: precision and layout timed, batch size, epochs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from zoo.catalogue.made.backbone import parameter_count
from zoo.errors import OptionInvalid
from zoo.records.versions import machine
from zoo.training.machine.batch_size import largest_batch
from zoo.training.machine.by_images import batch_for, epochs_for
from zoo.training.machine.remembered import recall, remember
from zoo.training.machine.timing import fastest_mode, possible_modes, rounds_for, usual_mode
from zoo.training.machine.trial import Mode, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.records.config import TrainConfig
    from zoo.training.machine.choose import Chosen
    from zoo.training.parts import Parts


def settle(parts: Parts, config: TrainConfig, note: Callable[[str], None]) -> Chosen:
    """Replace the words of precision, layout, batch size and epochs; weights and random state stay as they are.

    What was measured is remembered per model, size and processor, so the same command keeps giving the same bits. Of
    several processes one measures, with its share of a batch.

    Args:
        parts: Of a run that begins; a resume keeps what its run has.
        config: The options.
        note: Takes a line for the user on each thing that was measured.

    Raises:
        TrainingFailed: not even two images fit into memory.
    """
    images = len(parts.loaders.train.split)
    if config.batch_size == "by-images":
        parts = parts.with_chosen(replace(parts.chosen, batch_size=batch_for(images)))
    mode = _mode(parts, config, note)
    batch_size = parts.loaders.train.batch_size
    if config.batch_size == "auto":
        batch_size = _batch_size(parts, mode, config, note)
    return replace(
        parts.chosen,
        precision=mode.precision,
        layout=mode.layout,
        batch_size=batch_size,
        epochs=_epochs(config, images, batch_size),
    )


def _epochs(config: TrainConfig, images: int, batch_size: int) -> int:
    return epochs_for(images, batch_size) if config.epochs == "auto" else config.epochs


def _sound(modes: tuple[Mode, ...], trial: Trial) -> tuple[Mode, ...]:
    """Leave out channels last where it kills the process, and bf16 where its gradients are not right.

    Raises:
        OptionInvalid: nothing else was asked for.
    """
    if any(mode.layout == "nhwc" for mode in modes) and trial.dies_in_nhwc():
        modes = tuple(mode for mode in modes if mode.layout == "nchw")
        if not modes:
            raise OptionInvalid("--layout nhwc: on CPUs PyTorch cannot train this model so (it crashes); use nchw")
    if all(mode.precision != "bf16" for mode in modes) or not trial.loses_gradients_in_bf16():
        return modes
    exact = tuple(mode for mode in modes if mode.precision == "fp32")
    if not exact:
        raise OptionInvalid(
            "--precision bf16: on CPUs PyTorch loses gradients of this model at this size; use fp32 or larger images"
        )
    return exact


def _mode(parts: Parts, config: TrainConfig, note: Callable[[str], None]) -> Mode:
    trial, train = _trial(parts), parts.loaders.train
    modes = _sound(possible_modes(config, trial.device), trial)
    if config.probe:
        # Features are computed once, and rounded ones would be learned that no device computes.
        modes = tuple(mode for mode in modes if mode.precision == "fp32") or modes
    # A short run takes what the rule says even if something else is remembered: its bits should not depend on
    # whether a longer one went before.
    rounds = rounds_for(modes, _epochs(config, len(train.split), train.batch_size) * len(train))
    if len(modes) == 1 or not rounds or config.probe:
        return usual_mode(modes, trial.model, trial.device)
    images = train.batch_size // parts.chosen.processes
    key = {**_key(parts, config), "batch_size": images, "modes": [str(mode) for mode in modes]}
    known = recall(key)
    if known is None:
        found = fastest_mode(trial, modes, images, rounds)
        if found is None:
            return usual_mode(modes, trial.model, trial.device)
        known = {**asdict(found.mode), "told": f"{found.speedup:.2f}x {found.over}"}
        remember(key, known)
    mode = Mode(precision=known["precision"], layout=known["layout"])
    note(f"{mode}: the fastest here ({known['told']})")
    return mode


def _batch_size(parts: Parts, mode: Mode, config: TrainConfig, note: Callable[[str], None]) -> int:
    key = {**_key(parts, config), "largest batch": str(mode)}
    fitting = recall(key)
    if fitting is None:
        fitting = largest_batch(_trial(parts), mode)
        remember(key, fitting)
    fitting *= parts.chosen.processes
    images = batch_for(len(parts.loaders.train.split), fitting)
    note(f"batch size {images}" + (f"; {fitting} would fit" if fitting > images else ", the largest that fits"))
    return images


def _trial(parts: Parts) -> Trial:
    return Trial(model=parts.backbone, preprocess=parts.preprocess, device=parts.chosen.device)


def _key(parts: Parts, config: TrainConfig) -> dict[str, object]:
    """Return what any measurement here depends on."""
    device = parts.chosen.device
    on_gpu = device.startswith("cuda")
    return {
        "model": config.model,
        "options": config.all_backbone_options,
        "parameters": parameter_count(parts.backbone),
        "size": parts.preprocess.size,
        "device": torch.cuda.get_device_name(device) if on_gpu else f"{device}: {machine()['processor']}",
        "threads": parts.chosen.threads,
        "torch": torch.__version__,
    }
