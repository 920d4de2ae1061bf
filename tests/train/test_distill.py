"""A finished run teaches another: it sees the right pixels, the loss is the formula, and nothing of it moves."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from zoo.catalogue.made import dataset as source
from zoo.contracts.preprocess import Preprocess
from zoo.contracts.shipped import Normalise
from zoo.data.loader import evaluation_batches
from zoo.data.prepared import PreparedData
from zoo.disk.files import sha256
from zoo.errors import Interrupted, LicenseRefused, OptionInvalid
from zoo.plugin import Dataset, Split
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.records.trained import load_trained, shipped_model
from zoo.training import parts
from zoo.training.learn.distill import Distillation, divergence, make_distillation
from zoo.training.learn.teacher import Teacher, check_classes, check_teacher, find_teacher, tell_teacher
from zoo.training.machine.choose import choose
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

from .drawn import OPTIONS, draw_dataset, mixes_labels
from .rig import batch, make_rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer
    from .rig import Rig

SMALL: dict[str, Any] = {"model": "test_resnet", "image_size": 32, "pretrained": False, "augment": "light"}
OTHER = Preprocess(size=(48, 48), mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 0.2))


class Listen(Watch):
    """Takes note of every line; asks to stop once after a given step of a given epoch."""

    def __init__(self, *place: int) -> None:
        self.place = place
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)

    def step(self, state: TrainState) -> None:
        if (state.epoch, state.step) == self.place:
            self.place = ()
            raise Interrupted


def distillation(backbone: torch.nn.Module, size: int, **given: Any) -> Distillation:
    """Return one whose teacher has the student's normalisation."""
    plain: dict[str, Any] = {"scale": torch.ones(3, 1, 1), "shift": torch.zeros(3, 1, 1), "share": 0.5}
    plain |= {"temperature": 2.0, "multi_label": False, "size": (size, size), **given}
    return Distillation(backbone=backbone.eval().requires_grad_(False), **plain)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    found: np.ndarray = powers / powers.sum(1, keepdims=True)
    return found


def test_the_loss_of_one_label_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(5, 4)) * 3, rng.normal(size=(5, 4)) * 3
    wanted, said = softmax(teacher / 3), softmax(student / 3)
    by_hand = 0.7 * 1.25 + 0.3 * 9 * (wanted * np.log(wanted / said)).sum(1).mean()
    lesson = distillation(torch.nn.Identity(), 1, share=0.3, temperature=3.0)
    found = lesson.loss(torch.tensor(1.25), torch.tensor(student), torch.tensor(teacher).float())
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_the_loss_of_several_labels_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(5, 4)) * 3, rng.normal(size=(5, 4)) * 3
    wanted, said = 1 / (1 + np.exp(-teacher / 3)), 1 / (1 + np.exp(-student / 3))
    each = wanted * np.log(wanted / said) + (1 - wanted) * np.log((1 - wanted) / (1 - said))
    lesson = distillation(torch.nn.Identity(), 1, share=0.3, temperature=3.0, multi_label=True)
    found = lesson.loss(torch.tensor(1.25), torch.tensor(student), torch.tensor(teacher).float())
    assert float(found) == pytest.approx(0.7 * 1.25 + 0.3 * 9 * each.mean(), rel=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_who_says_what_the_teacher_says_has_nothing_to_learn(multi_label: bool) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 50
    student = logits.clone().requires_grad_()
    found = divergence(student, logits, multi_label)
    found.backward()  # type: ignore[no-untyped-call]
    assert float(found.detach()) == pytest.approx(0, abs=1e-6)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-6


@pytest.fixture(scope="module")
def taught_rig(catalogue: Catalogue) -> Callable[..., tuple[Rig, Rig]]:
    """Make a student's rig, and one whose network, larger by 16 pixels, teaches it."""

    def make(size: int = 48, **given: Any) -> tuple[Rig, Rig]:
        student = make_rig(catalogue, **given)
        teacher = make_rig(catalogue, model="test_resnet", size=size)
        for parameter in teacher.model.parameters():
            parameter.data.add_(0.05)
        student.plan = replace(student.plan, distillation=distillation(teacher.model, size))
        return student, teacher

    return make


def test_nothing_of_the_teacher_moves_or_is_kept(taught_rig: Callable[..., tuple[Rig, Rig]]) -> None:
    student, teacher = taught_rig(ema_decay=0.9, accumulate=2)
    teachers, students = teacher.copy_of_weights(), student.copy_of_weights()
    student.train(*(batch(seed=seed) for seed in range(2)))
    assert student.moved(students)
    assert all(value.equal(teachers[name]) for name, value in teacher.model.state_dict().items())
    assert not teacher.model.training
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    trained = {id(p) for group in student.state.optimizer.param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in student.model.parameters()}
    payload = student.state.to_payload()
    assert payload["model"].keys() == payload["ema"].keys() == students.keys()


def test_the_teacher_sees_the_students_own_batch(taught_rig: Callable[..., tuple[Rig, Rig]]) -> None:
    seen: list[torch.Tensor] = []

    def look(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].clone())

    student, teacher = taught_rig(size=32, mixup=0.5, cutmix=1.0)
    student.model.register_forward_pre_hook(look)
    teacher.model.register_forward_pre_hook(look)
    student.train(batch())
    assert seen[0].equal(seen[1])
    assert not seen[0].equal(student.plan.to_input(batch()[0]))


def test_of_images_that_grow_the_teacher_sees_its_own_size(taught_rig: Callable[..., tuple[Rig, Rig]]) -> None:
    sizes: list[tuple[int, ...]] = []
    student, teacher = taught_rig(image_size=64, image_size_start=32)
    for model in (teacher.model, student.model):
        model.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    student.train(batch(size=64))
    assert sizes == [(48, 48), (32, 32)]


def test_a_batch_becomes_what_the_teachers_own_preprocessing_makes_of_it(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, size=48)
    record = None
    for size in ((48, 48), (32, 40)):
        preprocess = Preprocess(size=size)
        images = np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)
        teacher = _Loaded(run=Run(Path("teacher")), record=record, weights="", backbone=rig.model.eval())  # type: ignore[arg-type]
        lesson = make_distillation(teacher, rig.config, choose(rig.config), preprocess, multi_label=False)
        assert lesson is not None
        found = lesson.answers(Normalise(preprocess.mean, preprocess.std)(torch.from_numpy(images)))
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        if size != OTHER.size:
            pixels = torch.nn.functional.interpolate(pixels, OTHER.size, mode="bilinear", antialias=True)
        with torch.no_grad():
            wanted = rig.model(Normalise(OTHER.mean, OTHER.std)(pixels.permute(0, 2, 3, 1)))
            unlike = rig.model(Normalise(preprocess.mean, preprocess.std)(pixels.permute(0, 2, 3, 1)))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        assert (found - unlike).abs().max() > 0.01


class _Loaded(Teacher):
    """A teacher that likes its pixels in another way than any student here."""

    @property
    def preprocess(self) -> Preprocess:
        return OTHER


def test_a_finished_run_answers_as_it_ships(catalogue: Catalogue, trained_run: Run) -> None:
    config = options(catalogue, teacher=str(trained_run.path), dataset="digits").config
    teacher = find_teacher(catalogue, config, "cpu")
    assert teacher is not None
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    student = Preprocess(size=(32, 32), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    lesson = make_distillation(teacher, config, choose(config), student, multi_label=False)
    assert lesson is not None
    answers = lesson.answers(Normalise(student.mean, student.std)(torch.from_numpy(images)))
    shipped, _ = shipped_model(catalogue, trained_run)
    torch.testing.assert_close(answers.softmax(1), shipped(torch.from_numpy(images)), atol=1e-5, rtol=1e-4)
    assert not any(part.training for part in teacher.backbone.modules())
    assert not any(parameter.requires_grad for parameter in teacher.backbone.parameters())


def options(catalogue: Catalogue, **given: Any) -> Any:
    return resolve_options(catalogue, {**SMALL, "device": "cpu", **given}, None, None)


def test_of_random_labels_a_student_learns_what_the_teacher_knows(
    catalogue: Catalogue, trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffled(*arguments: Any) -> Dataset:
        dataset = source.open_dataset(*arguments)
        train = dataset.splits["train"]
        labels = np.random.default_rng(0).permutation(train.labels)
        return replace(dataset, splits={"train": Split(images=train.images, labels=labels)})

    monkeypatch.setattr(parts, "open_dataset", shuffled)
    given = {"dataset": "digits", "teacher": str(trained_run.path), "distill_share": 1.0, "epochs": 4, "lr": 4e-3}
    run = start_run(catalogue, options(catalogue, **given, ema_decay=0.0, warmup_epochs=0), tmp_path / "run")
    shipped, backbone = shipped_model(catalogue, run)
    # The best weights are those that random labels chose.
    backbone.load_state_dict(torch.load(run.checkpoint_file, weights_only=True)["model"])
    trained = load_trained(catalogue, trained_run)
    agree = [
        trained.shipped(torch.from_numpy(images)).argmax(1) == shipped(torch.from_numpy(images)).argmax(1)
        for images, _ in evaluation_batches(trained.data.splits["test"], trained.preprocess, workers=0)
    ]
    assert float(torch.cat(agree).float().mean()) > 0.5


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a small dataset of several labels an image."""
    table = draw_dataset(tmp_path_factory.mktemp("marks"), count=240)
    return {"dataset": "csv", "dataset_options": {"file": str(table), **OPTIONS}, "batch_size": 16, "lr": 1e-2}


@pytest.fixture(scope="module")
def teacher(catalogue: Catalogue, marks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of several labels; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "teacher"
    return start_run(catalogue, options(catalogue, **marks, epochs=2, ema_decay=0.0), path)


@pytest.fixture
def own_teacher(teacher: Run, tmp_path: Path) -> Run:
    """A copy of it, to change."""
    return Run(Path(shutil.copytree(teacher.path, tmp_path / "runs" / "teacher")))


STUDENT: dict[str, Any] = {"epochs": 2, "ema_decay": 0.9, "accumulate": 2, "image_size": 64, "image_size_start": 32}


@mixes_labels
def test_a_stopped_student_ends_in_the_same_bits(
    catalogue: Catalogue, marks: dict[str, Any], teacher: Run, tmp_path: Path
) -> None:
    resolved = options(catalogue, **{**marks, **STUDENT, "teacher": str(teacher.path), "mixup": 0.4})
    watch = Listen()
    whole = start_run(catalogue, resolved, tmp_path / "whole", watch)
    with pytest.raises(Interrupted):
        start_run(catalogue, resolved, tmp_path / "stopped", Listen(1, 4))
    torch.manual_seed(999)
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert resumed.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
    best = teacher.record().metrics["best_val_map"]
    assert resumed.record().teacher == whole.record().teacher
    assert whole.record().teacher == {
        "run": str(teacher.path),
        "model": "test_resnet",
        "weights": sha256(teacher.best_file),
        "best_val_map": best,
    }
    told = f"teacher teaches (test_resnet, val mAP {100 * best:.2f} %): 50 % of the loss, at temperature 2"
    assert [line for line in watch.heard if "teach" in line] == [told]


def test_a_teacher_changes_what_is_learned_and_not_where_it_begins(
    catalogue: Catalogue, marks: dict[str, Any], teacher: Run, tmp_path: Path
) -> None:
    first: list[dict[str, torch.Tensor]] = []

    class Look(Watch):
        def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
            first.append({name: value.clone() for name, value in state.model.state_dict().items()})

    found = [
        start_run(catalogue, options(catalogue, **marks, epochs=1, teacher=path), tmp_path / name, Look())
        for name, path in (("alone", ""), ("taught", str(teacher.path)))
    ]
    assert all(value.equal(first[1][name]) for name, value in first[0].items())
    assert found[0].best_file.read_bytes() != found[1].best_file.read_bytes()
    assert found[0].record().teacher == {}


@pytest.fixture
def stopped(catalogue: Catalogue, marks: dict[str, Any], own_teacher: Run) -> Run:
    path = own_teacher.path.parent / "student"
    given = {**marks, "epochs": 1, "teacher": "teacher"}
    resolved = resolve_options(catalogue, {**SMALL, **given}, None, None, own_teacher.path.parent)
    with pytest.raises(Interrupted):
        start_run(catalogue, resolved, path, Listen(0, 2))
    return Run(path)


def test_a_resume_from_another_folder_finds_the_teacher(cli: Callable[..., Answer], stopped: Run) -> None:
    os.chdir(stopped.path)
    answer = cli("train", "--resume", "--name", stopped.path, "--json")
    assert answer.code == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert record["teacher"]["run"] == record["config"]["teacher"] == str(stopped.path.parent / "teacher")


def test_a_resume_refuses_other_weights(
    cli: Callable[..., Answer], stopped: Run, own_teacher: Run, trained_run: Run
) -> None:
    shutil.copy(trained_run.best_file, own_teacher.best_file)
    answer = cli("train", "--resume", "--runs", stopped.path.parent)
    assert answer.code == 1
    assert "has other weights than when this run began; put them back" in answer.error


def test_a_resume_tells_that_the_teacher_is_gone(cli: Callable[..., Answer], stopped: Run, own_teacher: Run) -> None:
    own_teacher.path.rename(own_teacher.path.with_name("moved"))
    answer = cli("train", "--resume", "--runs", stopped.path.parent)
    assert answer.code == 1
    assert "teacher teacher:" in answer.error
    assert "no such run" in answer.error


def test_the_option_is_told_with_its_origin(cli: Callable[..., Answer], trained_run: Run) -> None:
    given = ("--teacher", trained_run.path.name, "--runs", trained_run.path.parent, "--set", "distill_temperature=4")
    found = json.loads(cli("train", "tiny", "--dataset", "digits", *given, "--dry-run", "--json").stdout)
    assert found["teacher"] == {"value": str(trained_run.path), "origin": "command line"}
    assert found["distill_temperature"] == {"value": 4.0, "origin": "command line"}
    assert found["distill_share"] == {"value": 0.5, "origin": "default"}


def unfinish(run: Run) -> None:
    run.record_file.unlink()


def cut_record(run: Run) -> None:
    os.truncate(run.record_file, 100)


def cut_weights(run: Run) -> None:
    os.truncate(run.best_file, 5000)


def change(run: Run, **values: Any) -> None:
    run.record_file.write_text(json.dumps({**json.loads(run.record_file.read_text()), **values}))


DAMAGE: dict[str, tuple[Callable[[Run], None], str]] = {
    "unfinished": (unfinish, "is not finished"),
    "record": (cut_record, "run.json is damaged"),
    "weights": (cut_weights, "best.safetensors is not a whole safetensors file"),
    "no-weights": (lambda run: run.best_file.unlink(), "best.safetensors is missing"),
    "config": (lambda run: change(run, config={"speed": 3}), "run.json is damaged"),
    "preprocess": (lambda run: change(run, preprocess={}), "run.json is damaged"),
    "plugin": (lambda run: change(run, model="gone"), "gone"),
    "order": (lambda run: change(run, classes=["bar", "red", "dot"]), "calls class 0 'bar', and dataset 'csv' 'red'"),
    "one-label": (lambda run: change(run, multi_label=False), "learned one label an image, and dataset 'csv' has"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_teach_is_one_line_before_anything_begins(
    cli: Callable[..., Answer], marks: dict[str, Any], own_teacher: Run, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, told = DAMAGE[damage]
    spoil(own_teacher)
    monkeypatch.setattr(parts, "gather", lambda *_: pytest.fail("the images were looked at"))
    pairs = [word for key, value in marks["dataset_options"].items() for word in ("--dataset-option", f"{key}={value}")]
    answer = cli("train", "test_resnet", "--dataset", "csv", *pairs, "--teacher", "teacher", "--no-pretrained")
    assert answer.code == 1
    assert "teacher teacher" in answer.error
    assert told in answer.error
    assert [path.name for path in own_teacher.path.parent.iterdir()] == ["teacher"]


def test_a_teacher_of_more_classes_is_one_line(cli: Callable[..., Answer], pictures: Path, trained_run: Run) -> None:
    answer = cli("train", "test_resnet", "--dataset", pictures, "--teacher", trained_run.path, "--no-pretrained")
    assert answer.code == 1
    assert "knows '0', and dataset" in answer.error
    assert not list(Path.cwd().iterdir())


def test_a_teacher_that_is_not_there_is_one_line(cli: Callable[..., Answer]) -> None:
    answer = cli("train", "tiny", "--dataset", "digits", "--teacher", "nobody")
    assert answer.code == 1
    assert "no run is named 'nobody'" in answer.error
    assert not list(Path.cwd().iterdir())


def test_a_probe_has_no_steps_to_teach(cli: Callable[..., Answer], trained_run: Run) -> None:
    answer = cli("train", "test_resnet", "--dataset", "digits", "--teacher", trained_run.path, "--probe")
    assert answer.code == 1
    assert "--probe fits the labels in one go" in answer.error


def test_a_licence_is_passed_on(catalogue: Catalogue, own_teacher: Run) -> None:
    change(own_teacher, licenses={"code": "", "weights": "CC-BY-NC-4.0", "data": ""})
    given = {"dataset": "digits", "teacher": str(own_teacher.path)}
    check_teacher(catalogue, options(catalogue, **given).config)
    with pytest.raises(LicenseRefused, match=r"weights of teacher teacher is licensed CC-BY-NC"):
        check_teacher(catalogue, options(catalogue, **given, license_allow="MIT").config)


def test_a_search_takes_it_as_any_option(own_teacher: Run) -> None:
    from zoo.cli.tune import Asked, _plan

    asked = Asked(
        registry=None,
        folder=own_teacher.path.parent / "tune-it",
        given={"model": "tiny", "dataset": "digits", "teacher": "teacher"},
        recipe=None,
        config=None,
        search=("distill_temperature=1..4", "distill_share=0.5,0.9"),
        objective=(),
        trials=2,
        storage="",
        pruner="auto",
        jobs=1,
        seed=0,
    )
    plan = _plan(asked)
    plan.check()
    assert plan.resolve({"distill_share": 0.9}).config.teacher == str(own_teacher.path)


@pytest.mark.parametrize(
    ("given", "fingerprint", "splits", "told"),
    [
        ({}, "same", ("train",), ""),
        ({"seed": 1}, "same", ("train",), "it had seed 0, this run has seed 1"),
        ({"seed": 1}, "same", ("train", "val"), "learned from images that this run holds out"),
        ({"seed": 1}, "same", ("train", "val", "test"), ""),
        (
            {"folds": 5, "fold": 2},
            "same",
            ("train", "val", "test"),
            "it had the dataset's own splits, this run has seed 0, fold 2 of 5",
        ),
        ({}, "other", ("train", "val", "test"), "learned from other data (digits)"),
    ],
)
def test_who_has_seen_the_held_out_images_is_told(
    catalogue: Catalogue, trained_run: Run, given: dict[str, Any], fingerprint: str, splits: tuple[str, ...], told: str
) -> None:
    record = trained_run.record()
    known = Teacher(run=trained_run, record=record, weights="", backbone=torch.nn.Identity())
    own = {name: Split(images=[], labels=np.zeros(0, np.int64)) for name in splits}
    data = PreparedData(
        name="digits",
        classes=record.classes,
        splits={},
        fingerprint=record.dataset_fingerprint if fingerprint == "same" else fingerprint,
        rule="content",
        skipped={},
    )
    heard: list[str] = []
    config = options(catalogue, dataset="digits", **given).config
    tell_teacher(known, config, Dataset(classes=record.classes, splits=own), data, heard.append)
    assert heard[0].startswith(f"{trained_run.path.name} teaches (tiny, val top-1 ")
    assert len(heard) == 1 + bool(told)
    assert told in heard[-1]


def test_classes_must_be_the_same(trained_run: Run) -> None:
    record = trained_run.record()
    known = Teacher(run=trained_run, record=record, weights="", backbone=torch.nn.Identity())
    check_classes(known, Dataset(classes=record.classes, splits={}), "d")
    turned = (*record.classes[:8], record.classes[9], record.classes[8])
    with pytest.raises(OptionInvalid, match="calls class 8 '8', and dataset 'd' '9'"):
        check_classes(known, Dataset(classes=turned, splits={}), "d")
