"""Every option of training reaches the run that is trained with it; a new one needs an entry here.

What an option does exactly is shown where `EXACTLY` says; here whole runs show that it gets there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.data.loader import TrainLoader
from zoo.records.config import TrainConfig
from zoo.records.layers import resolve_options
from zoo.training.session import start_run
from zoo.training.watch import Watch

from ..conftest import ROOT
from .rig import make_rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.run import Run
    from zoo.training.learn.state import TrainState

    Traces = Callable[..., bytes]

BASE: dict[str, Any] = {
    "model": "test_resnet",
    "pretrained": False,
    "image_size": 32,
    "augment": "light",
    "epochs": 2,
    "batch_size": 8,
    "lr": 2e-3,
    "warmup_epochs": 0,
    "ema_decay": 0.9,
    "workers": 0,
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
    "layout": "nchw",
}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "augment": ("none", {}),
    "augment_options": ({"strength": 2.0}, {}),
    "backbone_options": ({"drop_rate": 0.5}, {}),
    "image_size": (64, {}),
    "image_size_start": (32, {"image_size": 64}),
    "image_size_growth": (0.25, {"image_size": 64, "image_size_start": 32, "epochs": 4}),
    "epochs": (3, {}),
    "batch_size": (4, {}),
    "lr": (1e-3, {}),
    "weight_decay": (0.5, {}),
    "optimizer": ("sgd", {}),
    "momentum": (0.5, {"optimizer": "sgd"}),
    "betas": ((0.5, 0.6), {}),
    "opt_eps": (0.1, {}),
    "layer_decay": (0.5, {}),
    "schedule": ("constant", {}),
    "decay_epochs": (2, {"schedule": "step"}),
    "decay_rate": (0.5, {"schedule": "step", "decay_epochs": 1}),
    "warmup_epochs": (1, {}),
    "freeze": ("backbone", {}),
    "unfreeze_epoch": (1, {"freeze": "backbone"}),
    "probe": (True, {}),
    "head": ("probe", {}),
    "drop_rate": (0.5, {}),
    "drop_path_rate": (0.5, {}),
    "loss": ("bce", {}),
    "label_smoothing": (0.3, {}),
    "mixup": (0.5, {}),
    "cutmix": (1.0, {}),
    "mix_prob": (0.5, {"mixup": 0.5}),
    "clip_grad": (1e-3, {"optimizer": "sgd"}),
    "clip_mode": ("value", {"optimizer": "sgd", "clip_grad": 1e-3}),
    "accumulate": (2, {}),
    # Over so few steps as in the others there is no average.
    "ema_decay": (0.0, {"epochs": 8, "batch_size": 4}),
    "monitor": ("macro_f1", {}),
    "seed": (1, {}),
    "sampler": ("balanced", {}),
    "cache": ("off", {}),
    "precision": ("bf16", {}),
}
"""Option -> a value that makes another run of it, and what must be set besides on both sides."""
SAME: dict[str, Any] = {
    "workers": 2,
    "cache_limit": 1e-3,
    "checkpoint_minutes": 1e-9,
    "checkpoint_steps": 1,
    "patience": 2,
}
"""Option -> a value that changes how the run is made, and no bit of it."""
EXACTLY: dict[str, str] = {
    "model": "train/test_training.py::test_any_family_trains_on_a_folder_of_pictures",
    "dataset": "train/test_training.py::test_any_family_trains_on_a_folder_of_pictures",
    "dataset_options": "train/test_material.py::test_a_run_finds_a_table_again_from_another_folder",
    "pretrained": "plugins/test_timm_family.py::test_without_pretrained_no_connection_is_tried",
    "weights": "train/test_training.py::test_another_runs_weights_are_a_start",
    "parent": "train/test_parent.py::test_it_starts_from_the_weights_and_says_so",
    "qat": "train/test_qat.py::test_a_network_that_rounding_ruins_learns_to_bear_it",
    "image_size_start": "train/test_resize.py::test_a_step_sees_images_of_its_epochs_size",
    "image_size_growth": "train/test_resize.py::test_a_step_sees_images_of_its_epochs_size",
    "batch_size": "train/test_batch_size.py::test_auto_takes_what_fits_and_remembers_it",
    "weight_decay": "train/test_optimizer.py::test_weight_decay_spares_norms_and_biases",
    "optimizer": "train/test_optimizer.py::test_an_optimizer_has_its_name_in_timm",
    "momentum": "train/test_optimizer.py::test_momentum_is_that_of_the_optimizer",
    "betas": "train/test_optimizer.py::test_betas_and_eps_are_the_optimizers_own_unless_set",
    "opt_eps": "train/test_optimizer.py::test_betas_and_eps_are_the_optimizers_own_unless_set",
    "layer_decay": "train/test_optimizer.py::test_the_learning_rate_falls_from_layer_to_layer",
    "schedule": "train/test_schedule.py::test_cosine_is_the_default_and_follows_its_formula",
    "decay_epochs": "train/test_schedule.py::test_steps_lower_the_rate_by_a_factor",
    "decay_rate": "train/test_schedule.py::test_steps_lower_the_rate_by_a_factor",
    "warmup_epochs": "train/test_schedule.py::test_the_rate_warms_up",
    "freeze": "train/test_freeze.py::test_a_frozen_backbone_rests_until_its_epoch",
    "unfreeze_epoch": "train/test_freeze.py::test_a_frozen_backbone_rests_until_its_epoch",
    "probe": "train/test_probe.py::test_only_the_classifier_of_a_probe_has_moved",
    "head": "train/test_head.py::test_auto_looks_at_the_weights",
    "batchnorm": "train/test_norms.py::test_norms_that_rest_keep_their_statistics",
    "drop_rate": "train/test_freeze.py::test_dropping_reaches_the_backbone",
    "drop_path_rate": "train/test_freeze.py::test_dropping_reaches_the_backbone",
    "loss": "train/test_loss.py::test_focal_loss_counts_what_is_easy_less",
    "label_smoothing": "train/test_loss.py::test_smoothing_is_that_of_its_formula",
    "class_weights": "train/test_weighting.py::test_a_run_uses_and_records_them",
    "mixup": "train/test_mixing.py::test_labels_are_mixed_by_their_share_of_the_picture",
    "cutmix": "train/test_mixing.py::test_labels_are_mixed_by_their_share_of_the_picture",
    "mix_prob": "train/test_every_option.py::test_a_share_of_the_batches_is_mixed",
    "clip_grad": "train/test_optimizer.py::test_gradients_are_clipped_as_the_mode_says",
    "clip_mode": "train/test_optimizer.py::test_gradients_are_clipped_as_the_mode_says",
    "accumulate": "train/test_optimizer.py::test_two_half_batches_are_one",
    "ema_decay": "train/test_optimizer.py::test_the_average_follows_each_step",
    "patience": "train/test_resume.py::test_early_stopping_counts_epochs_without_a_better_one",
    "monitor": "train/test_loss.py::test_the_best_epoch_is_the_one_of_the_figure",
    "checkpoint_minutes": "train/test_resume.py::test_checkpoints_come_by_steps_and_by_time",
    "checkpoint_steps": "train/test_resume.py::test_checkpoints_come_by_steps_and_by_time",
    "seed": "data/test_splits.py::test_the_seed_decides",
    "sampler": "data/test_loader.py::test_balanced_order_shows_every_class_as_often",
    "cache": "train/test_material.py::test_a_run_with_a_cache_resumes_to_the_same_bits",
    "cache_limit": "train/test_material.py::test_a_cache_that_is_full_is_told_and_changes_nothing",
    "workers": "train/test_every_option.py::test_workers_threads_and_layout_are_those_asked_for",
    "threads": "train/test_every_option.py::test_workers_threads_and_layout_are_those_asked_for",
    "layout": "train/test_every_option.py::test_workers_threads_and_layout_are_those_asked_for",
    "device": "test_bad_input.py::test_wrong_names_and_options",
    "precision": "train/test_choose.py::test_only_what_the_options_leave_open_is_tried",
    "compile": "train/test_compiled.py::test_a_compiled_run_trains_the_same_weights",
    "teacher": "train/test_distill.py::test_a_teacher_changes_what_is_learned_and_not_where_it_begins",
    "distill_share": "train/test_distill.py::test_the_loss_of_one_label_is_the_formula",
    "distill_temperature": "train/test_distill.py::test_the_loss_of_one_label_is_the_formula",
    "trackers": "plugins/test_trackers.py::test_tensorboard_shows_a_resumed_run_as_one",
    "tracker_options": "train/test_tracking.py::test_options_go_to_the_only_one_or_to_the_one_that_is_named",
    "license_allow": "test_licenses.py::test_data_is_refused_by_name_before_it_is_prepared",
    "folds": "folds/test_cross_validation.py::test_every_fold_is_a_run_of_its_own",
    "fold": "folds/test_cross_validation.py::test_a_fold_alone_is_the_fold_inside",
    "fsdp": "train/test_world.py::test_weights_are_divided_where_they_are_to_be",
    "sync_batchnorm": "train/test_world.py::test_norms_that_see_all_batches_have_the_weights_of_plain_ones",
}
"""Option -> the test that shows what it does."""


@pytest.fixture(scope="module")
def traces(catalogue: Catalogue, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """Train with some options set, and return all that a run says of itself, to the bit; each run once."""
    folder = tmp_path_factory.mktemp("runs")

    @functools.cache
    def of(given: str) -> bytes:
        options = {**BASE, "dataset": str(pictures), **eval(given, {})}
        path = folder / str(len(list(folder.iterdir())))
        run = start_run(catalogue, resolve_options(catalogue, options, None, None), path)
        return run.metrics_file.read_bytes() + run.best_file.read_bytes()

    return lambda **given: of(repr(given))


@pytest.mark.parametrize("option", CHANGES)
def test_it_makes_another_run(traces: Traces, option: str) -> None:
    value, besides = CHANGES[option]
    assert traces(**besides, **{option: value}) != traces(**besides)


@pytest.mark.parametrize("option", SAME)
def test_it_makes_the_same_run(traces: Traces, option: str) -> None:
    assert traces(**{option: SAME[option]}) == traces()


def test_none_is_forgotten() -> None:
    assert set(TrainConfig.model_fields) == set(EXACTLY) | set(CHANGES) | set(SAME)
    for named in EXACTLY.values():
        file, _, test = named.partition("::")
        assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(), named


def test_a_share_of_the_batches_is_mixed(catalogue: Catalogue) -> None:
    images, target = torch.rand(8, 3, 32, 32), torch.arange(8) % 4

    def mixed(share: float) -> int:
        rig = make_rig(catalogue, mixup=0.5, mix_prob=share)
        found = 0
        for rig.state.step in range(60):
            # timm mixes in place.
            found += not torch.equal(rig.plan.mix(images.clone(), target, rig.state)[0], images)
        return found

    assert mixed(0.0) == 0
    assert mixed(1.0) == 60
    assert 18 < mixed(0.5) < 42


@pytest.mark.parametrize("layout", [pytest.param("nchw", marks=pytest.mark.slow), "nhwc"])
def test_workers_threads_and_layout_are_those_asked_for(
    catalogue: Catalogue, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    seen: list[tuple[int, bool, bool]] = []
    workers: list[int] = []
    real = TrainLoader.epoch
    forms = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}

    def epoch(self: TrainLoader, *arguments: Any, **given: Any) -> Any:
        workers.append(self.workers)
        return real(self, *arguments, **given)

    class Look(Watch):
        def step(self, state: TrainState) -> None:
            weight = state.model.get_parameter("layer1.0.conv1.weight")
            wanted, other = forms[layout], forms["nchw" if layout == "nhwc" else "nhwc"]
            seen.append(
                (
                    torch.get_num_threads(),
                    weight.is_contiguous(memory_format=wanted),
                    weight.is_contiguous(memory_format=other),
                )
            )

    monkeypatch.setattr(TrainLoader, "epoch", epoch)
    threads = torch.get_num_threads()
    given = {**BASE, "dataset": str(pictures), "epochs": 1, "layout": layout, "workers": 3, "threads": 2}
    try:
        run: Run = start_run(catalogue, resolve_options(catalogue, given, None, None), tmp_path / "run", Look())
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {(2, True, False)}
    assert workers == [3]
    assert run.record().chosen["threads"] == 2
