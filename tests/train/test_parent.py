"""A run that goes on from a finished one: its options are the defaults, its weights the start, its data the same."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.disk.files import sha256
from zoo.disk.weights import load_weights
from zoo.errors import LicenseRefused, OptionInvalid, RunInvalid
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.parent import check_parent
from zoo.training.session import start_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved

    from ..conftest import Answer


def asked(catalogue: Catalogue, run: Run, **given: Any) -> Resolved:
    return resolve_options(catalogue, {"parent": run.path.name, **given}, None, None, run.path.parent)


def test_options_are_those_of_the_run_but_for_its_beginning(catalogue: Catalogue, trained_run: Run) -> None:
    found = asked(catalogue, trained_run, augment="none")
    before = trained_run.record().config
    for name in ("model", "dataset", "ema_decay", "seed", "epochs", "label_smoothing"):
        assert getattr(found.config, name) == before[name]
        assert found.origins[name] == f"run {trained_run.name}"
    assert found.config.lr == pytest.approx(0.1 * before["lr"])
    assert (found.config.pretrained, found.config.warmup_epochs, found.origins["lr"]) == (False, 0.0, "--from")
    assert (found.config.augment, found.origins["augment"]) == ("none", "command line")
    assert found.config.parent == str(trained_run.path.resolve())
    assert found.origins["threads"] == "default"
    rounding = asked(catalogue, trained_run, qat=True)
    assert (rounding.config.epochs, rounding.config.precision, rounding.origins["epochs"]) == (2, "fp32", "--qat")


def test_a_recipe_that_is_named_lies_over_the_run(catalogue: Catalogue, trained_run: Run) -> None:
    given = {"parent": str(trained_run.path)}
    found = resolve_options(catalogue, given, "edge-small", None)
    assert found.origins["lr"] == "recipe edge-small"
    assert found.config.model == trained_run.record().model


def test_it_starts_from_the_weights_and_says_so(catalogue: Catalogue, trained_run: Run, tmp_path: Path) -> None:
    run = start_run(catalogue, asked(catalogue, trained_run, epochs=1, lr=1e-12, ema_decay=0.0), tmp_path / "run")
    before, after = load_weights(trained_run.best_file), load_weights(run.best_file)
    moved = max(float((before[name] - after[name]).abs().max()) for name in before if name.endswith("weight"))
    assert moved < 1e-6
    record, old = run.record(), trained_run.record()
    assert record.parent["run"] == str(trained_run.path.resolve())
    assert record.parent["weights"] == sha256(trained_run.best_file)
    assert record.parent["best_val_top1"] == old.metrics["best_val_top1"]
    assert (record.preprocess, record.classes, record.licenses) == (old.preprocess, old.classes, old.licenses)


def test_what_would_flatter_it_or_cannot_fit_is_refused(catalogue: Catalogue, trained_run: Run) -> None:
    for given, told in (
        ({"seed": 1}, "hold out"),
        ({"folds": 5, "fold": 1}, "hold out"),
        ({"model": "test_resnet"}, "leave MODEL out"),
        ({"weights": "x.safetensors"}, "leave --weights"),
        ({"pretrained": True}, "brings the weights"),
    ):
        with pytest.raises(OptionInvalid, match=told):
            check_parent(asked(catalogue, trained_run, **given).config)


def test_another_dataset_has_options_of_its_own_and_the_same_classes(
    cli: Callable[..., Answer], trained_run: Run, tmp_path: Path
) -> None:
    """As `zoo data from-log` lays pictures out."""
    rng = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / "new" / str(label)).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"new/{label}/{number}.png")
    changed = Run(tmp_path / "changed")
    shutil.copytree(trained_run.path, changed.path)
    record = json.loads(changed.record_file.read_text())
    record["config"] |= {"dataset": "shapes", "dataset_options": {"count": "6"}, "folds": 0}
    changed.record_file.write_text(json.dumps(record))
    answer = cli("train", "--from", changed.path, "--dataset", "new", "--epochs", 1, "--name", "on", "--json")
    assert answer.code == 0, answer.stderr
    (tmp_path / "new/3").rename(tmp_path / "aside")
    refused = cli("train", "--from", trained_run.path, "--dataset", "new", "--epochs", 1)
    assert refused.code == 1
    assert f"--from digits knows '3', and dataset '{tmp_path / 'new'}' does not; add images of it" in refused.error
    (tmp_path / "aside").rename(tmp_path / "new/3")
    shutil.copytree(tmp_path / "new/3", tmp_path / "new/three")
    assert "does not know 'three'" in cli("train", "--from", trained_run.path, "--dataset", "new").error


def test_a_licence_goes_on_with_the_weights(catalogue: Catalogue, trained_run: Run, tmp_path: Path) -> None:
    copied = Run(tmp_path / "copied")
    shutil.copytree(trained_run.path, copied.path)
    record = json.loads(copied.record_file.read_text())
    record["licenses"]["weights"] = "CC-BY-NC-4.0"
    copied.record_file.write_text(json.dumps(record))
    with pytest.raises(LicenseRefused, match="CC-BY-NC"):
        check_parent(asked(catalogue, copied, license_allow=("MIT", "Apache-2.0")).config)
    run = start_run(catalogue, asked(catalogue, copied, epochs=1), tmp_path / "run")
    assert run.record().licenses["weights"] == "CC-BY-NC-4.0"


def test_a_run_that_is_not_there_or_not_finished_is_told_in_one_line(
    cli: Callable[..., Answer], catalogue: Catalogue, trained_run: Run, tmp_path: Path
) -> None:
    assert "no run is named 'nothing'" in cli("train", "--from", "nothing").error
    (tmp_path / "runs" / "half").mkdir(parents=True)
    assert "holds no finished run" in cli("train", "--from", "half", "--runs", tmp_path / "runs").error
    broken = Run(tmp_path / "broken")
    shutil.copytree(trained_run.path, broken.path)
    record = json.loads(broken.record_file.read_text())
    record["config"]["lr"] = "fast"
    broken.record_file.write_text(json.dumps(record))
    with pytest.raises(RunInvalid, match="damaged"):
        asked(catalogue, broken)
