"""`import zoo`: light, the same as the commands, typed. Its page and its notebook run in `test_wheel.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import zoo

from .conftest import ROOT, run_python

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Answer

QUICK: dict[str, Any] = {"epochs": 1, "threads": 1, "image_size": 8, "progress": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("door") / "runs"


@pytest.fixture(scope="module")
def run(runs: Path) -> zoo.Run:
    return zoo.train("test_resnet", "digits", name="door", runs=runs, pretrained=False, **{**QUICK, "image_size": 32})


@pytest.fixture(scope="module")
def artifact(run: zoo.Run) -> zoo.Artifact:
    return zoo.export(run, "onnx", precision="fp32", progress=False)


def test_importing_it_loads_its_errors_only() -> None:
    done = run_python(
        "import sys; before = set(sys.modules); import zoo; zoo.errors.ZooError; dir(zoo)\n"
        "print(sorted(n for n in set(sys.modules) - before if n.partition('.')[0] == 'zoo'))\n"
        "assert not {'numpy', 'pydantic', 'torch', 'typer', 'rich'} & set(sys.modules)",
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['zoo', 'zoo.errors']"


def test_every_name_is_there_and_nothing_else() -> None:
    assert [name for name in zoo.__all__ if getattr(zoo, name, None) is None] == []
    assert dir(zoo) == zoo.__all__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        zoo.trian  # type: ignore[attr-defined] # noqa: B018


def test_rooms_do_not_take_the_place_of_functions() -> None:
    """A package that is imported becomes an attribute of the one above it."""
    assert not set(zoo.__all__) & {path.stem for path in (ROOT / "zoo").iterdir()} - {"errors"}


def test_command_and_function_write_the_same_bytes(
    cli: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--epochs", "1", "--threads", "1", "--image-size", "32", "--no-pretrained", "--lr", "0.01", "--name", "n"]
    answer = cli("train", "test_resnet", "--dataset", "digits", *words, "--runs", "one")
    assert answer.code == 0, answer.stderr
    options: dict[str, Any] = {**QUICK, "image_size": 32, "pretrained": False, "lr": 0.01}
    found = zoo.train("test_resnet", "digits", name="n", runs="two", **options)
    for name in ("best.safetensors", "metrics.jsonl"):
        assert (tmp_path / "one/n" / name).read_bytes() == (tmp_path / "two/n" / name).read_bytes()
    one, two = (json.loads((tmp_path / folder / "n/run.json").read_text()) for folder in ("one", "two"))
    assert {**one, "created": ""} == {**two, "created": ""}
    assert found.path == tmp_path / "two/n"


def test_progress_is_lines_for_a_function_and_never_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    options = {**QUICK, "image_size": 32, "pretrained": False, "progress": lines.append}
    zoo.train("test_resnet", "digits", name="n", runs=tmp_path, **options)
    assert any(line.startswith("epoch   1/1  train loss") for line in lines)
    assert capsys.readouterr() == ("", "")
    zoo.evaluate("n", runs=tmp_path, progress=True)
    zoo.evaluate(None, runs=tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "using " in captured.err


def test_an_evaluation_is_what_the_command_prints(run: zoo.Run, runs: Path, cli: Callable[..., Answer]) -> None:
    result = zoo.evaluate(run, split="val", progress=False)
    assert result.top1 == run.record().metrics["val"]["top1"]
    assert result.map is None
    assert sum(map(sum, result.confusion or ())) == result.images == sum(c.images for c in result.per_class.values())
    assert result.per_class["3"].threshold is None
    printed = json.loads(cli("eval", "door", "--split", "val", "--runs", runs, "--json").stdout)
    assert printed == json.loads(json.dumps({**result.to_json(), "subject": printed["subject"]}))
    with pytest.raises(zoo.errors.OptionInvalid, match="train, val, test"):
        zoo.evaluate(run, split="tests")


def test_several_labels_have_figures_of_their_own() -> None:
    from zoo.evaluation.metrics import label_metrics
    from zoo.exporting.evaluate import Evaluation

    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], np.uint8)
    metrics = label_metrics(labels, labels.astype(np.float32), ("a", "b", "c"), np.full(3, 0.5))
    result = Evaluation.of(Path("runs/n"), "test", metrics)
    assert result.top1 is None
    assert result.confusion is None
    assert result.map == result.exact == 1.0
    assert result.per_class["c"].ap is None
    assert result.to_json() == {"subject": "runs/n", "split": "test", **metrics}
    assert "1.000" in result._repr_html_()


def test_a_refused_file_raises_with_what_was_measured(run: zoo.Run) -> None:
    with pytest.raises(zoo.errors.ProofFailed, match="speed over fp32") as refused:
        zoo.export(run, "onnx", precision="fp32", min_speedup=1000.0, progress=False)
    assert refused.value.report.accepted is False
    assert refused.value.artifact.rejected
    assert "REFUSED" in refused.value.artifact._repr_html_()


def test_predictions_are_the_device_s_own(artifact: zoo.Artifact, tmp_path: Path) -> None:
    from PIL import Image

    from zoo.runtime.model import Model

    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    by_path, by_name, by_bytes, by_array = zoo.predict(
        artifact, [tmp_path / "a.png", str(tmp_path / "a.png"), data, pixels], top=4, progress=False
    )
    (device,) = Model(artifact.path).predict(tmp_path / "a.png", top=4)
    assert by_path == by_name == device
    assert by_path.top == by_bytes.top == by_array.top
    assert zoo.predict(artifact, pixels)[0].top[:1] == by_array.top[:1]
    html = zoo.predict(artifact, [pixels] * 30)._repr_html_()
    assert html.count("<img") == 24
    assert "and 6 more" in html


def test_a_bundle_is_made_and_verified(artifact: zoo.Artifact, tmp_path: Path) -> None:
    from zoo.exporting.reproof import Reproof

    bundle = zoo.bundle(artifact, target="host", out=tmp_path / "a.tar.gz", progress=False)
    proof = zoo.verify(bundle)
    assert proof == zoo.verify(tmp_path / "a.tar.gz") == zoo.verify(str(bundle.path))
    again = zoo.verify(artifact, golden=True, progress=False)
    assert isinstance(again, Reproof)
    assert again.problems == ()
    assert all("<table" in thing._repr_html_() for thing in (bundle, proof, again))
    with pytest.raises(zoo.errors.OptionInvalid, match="only bundles"):
        zoo.verify(artifact, key="key.pem")


def test_a_change_is_refused_with_what_was_found(artifact: zoo.Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.exporting.reproof.replay", lambda golden, predict: 0.5)
    with pytest.raises(zoo.errors.ProofFailed, match=r"golden vectors differ by 0\.5") as refused:
        zoo.verify(artifact, golden=True, progress=False)
    assert refused.value.report.golden_difference == 0.5
    assert "differ by 0.5" in refused.value.report._repr_html_()


def test_what_is_on_the_disk_is_had_again(run: zoo.Run, artifact: zoo.Artifact, runs: Path) -> None:
    (runs / "half").mkdir(exist_ok=True)
    assert zoo.load("door", runs=runs).path == zoo.load(run.path).path == run.path
    assert zoo.load("door/onnx-fp32", runs=runs).path == artifact.path
    assert [found.name for found in zoo.runs(runs)] == ["door"]
    assert zoo.runs(runs, "x*") == []
    for name, words in (("nowhere", "no run is named"), ("half", "half")):
        with pytest.raises(zoo.errors.RunInvalid, match=words):
            zoo.load(name, runs=runs)
    shown = run._repr_html_()
    assert shown is not None
    assert "top-1" in shown
    assert "<svg" in shown
    assert zoo.Run(runs / "half")._repr_html_() is None
    assert "door" in zoo.runs(runs)._repr_html_()


def test_what_there_is_has_rows(tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text('[models.mine]\nbackbone = "timm/test_resnet"\ndescription = "<mine>"\n')
    (mine,) = zoo.models("mine", catalogue=tmp_path / "registry.toml")
    assert (mine.backbone, mine.source) == ("timm/test_resnet", "registry")
    assert "&lt;mine&gt;" in zoo.models("mine", catalogue=tmp_path / "registry.toml")._repr_html_()
    assert "onnx" in [row.name for row in zoo.exporters()]
    assert "digits" in [row.name for row in zoo.datasets()]
    assert {"standard", "tiny", "raspberry-pi-5", "tensorboard"} <= {
        row.name for rows in (zoo.augmentations(), zoo.recipes(), zoo.targets(), zoo.trackers()) for row in rows
    }
    assert zoo.models("no such*") == []


def test_wrong_words_are_told_in_one_line(run: zoo.Run, tmp_path: Path) -> None:
    wrong: list[tuple[type[zoo.errors.ZooError], str, Callable[[], object]]] = [
        (zoo.errors.OptionInvalid, "did you mean epochs", lambda: zoo.train("tiny", "digits", epocs=3)),
        (zoo.errors.OptionInvalid, "lr", lambda: zoo.train("tiny", "digits", lr="fast", progress=False)),
        (zoo.errors.UnknownName, "tiny", lambda: zoo.train("tinny", "digits")),
        (zoo.errors.OptionInvalid, "training needs a dataset", lambda: zoo.train("tiny")),
        (zoo.errors.DatasetInvalid, "not a folder", lambda: zoo.train("tiny", tmp_path / "nowhere")),
        (zoo.errors.UnknownName, "onnx", lambda: zoo.export(run, "onx")),
        (zoo.errors.OptionInvalid, "max-drop", lambda: zoo.export(run, max_drop=-1)),
        (zoo.errors.UnknownName, "raspberry", lambda: zoo.bundle(target="rasberry-pi-5")),
        (zoo.errors.ImageUnreadable, "nowhere.png", lambda: zoo.predict(run, tmp_path / "nowhere.png")),
        (zoo.errors.RunInvalid, "no run is named", lambda: zoo.evaluate("nowhere", runs=tmp_path)),
        (zoo.errors.OptionInvalid, "pattern", lambda: zoo.models(3)),  # type: ignore[arg-type]
    ]
    for kind, words, call in wrong:
        with pytest.raises(kind, match=words) as told:
            call()
        assert "\n" not in str(told.value)


WRONG_KINDS: list[tuple[str, str]] = [
    ("zoo.train(3, 'digits')", "model of zoo.train is 3; give a text"),
    ("zoo.train('tiny', [1])", "dataset of zoo.train is [1]; give a text or a path"),
    ("zoo.train('tiny', '')", "dataset of zoo.train is '', which names nothing"),
    ("zoo.train('tiny', 'digits', name='../x')", "is no name for a run"),
    ("zoo.train('tiny', 'digits', name='a\\nb')", "is no name for a run"),
    ("zoo.train('tiny', 'digits', name='x' * 300)", "is too long"),
    ("zoo.train('tiny', 'digits', runs=5)", "runs of zoo.train is 5; give a text or a path"),
    ("zoo.train('tiny', 'digits', progress='loud')", "progress of zoo.train is 'loud'"),
    ("zoo.train('tiny', 'digits', lr=True)", "option lr = True"),
    ("zoo.train('tiny', 'digits', epochs='many')", "write a whole number, or auto"),
    ("zoo.train('tiny', 'digits', learning_rate=1)", "did you mean lr?"),
    ("zoo.train('tiny', 'digits', monitor='acc')", "--monitor acc is no figure"),
    ("zoo.train('tiny', 'digits', device='gpu')", "--device gpu is none of PyTorch's"),
    ("zoo.evaluate(3)", "subject of zoo.evaluate is 3; give a run or an artifact or a text or a path"),
    ("zoo.export('door', calibrate='no')", "calibrate of zoo.export is 'no'; give True or False"),
    ("zoo.export('door', max_drop=float('inf'))", "max_drop of zoo.export is inf; give a finite number"),
    ("zoo.export('door', min_speedup=-1.0)", "--min-speedup -1.0 must be 0 or more"),
    ("zoo.export('door', unknown_by='enery')", "--unknown-by 'enery' is none"),
    ("zoo.export('door', prune_epochs=1.5)", "prune_epochs of zoo.export is 1.5; give a whole number"),
    ("zoo.export('door', prune_epochs=-1)", "--prune-epochs -1 must be 0 or more"),
    ("zoo.export('door', options=3)", "options of zoo.export is 3; give a dictionary"),
    ("zoo.predict('door', [np.zeros((2, 2, 3), np.uint8)], top=0)", "top = 0: give 1 or more classes"),
    ("zoo.predict('door', None)", "the image is a NoneType"),
    ("zoo.predict('door', [b'x', 3])", "image 1 is a int"),
    ("zoo.predict('door', np.zeros((8, 8, 3)))", "the image is an array of float64 [8, 8, 3]"),
    ("zoo.predict('door', np.zeros((0, 8, 3), np.uint8))", "the image is an array of uint8 [0, 8, 3]"),
    ("zoo.bundle(out='x.py')", "give it a name that ends in .tar.gz"),
    ("zoo.bundle(ort='no')", "ort of zoo.bundle is 'no'; give True or False"),
    ("zoo.verify(golden='no')", "golden of zoo.verify is 'no'"),
    ("zoo.load(3)", "name of zoo.load is 3"),
    ("zoo.runs('')", "folder of zoo.runs is ''"),
    ("zoo.models(3)", "pattern of zoo.models is 3; give a text"),
    ("zoo.datasets(catalogue=3)", "catalogue of zoo.datasets is 3"),
]


@pytest.mark.parametrize(("call", "told"), WRONG_KINDS)
def test_another_kind_of_thing_is_refused_at_once(call: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.training.start.ALONE", None)  # nothing may come so far
    with pytest.raises(zoo.errors.OptionInvalid) as refused:
        eval(call, {"zoo": zoo, "np": np})
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_anything_like_bytes_or_a_list_is_an_image_or_several(artifact: zoo.Artifact, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    wanted = zoo.predict(artifact, pixels)[0].top
    for images in (bytearray(data), memoryview(data), (pixels,), (each for each in [pixels])):
        assert [answer.top for answer in zoo.predict(artifact, images)] == [wanted]  # type: ignore[arg-type]
    assert zoo.predict(artifact, []) == []


def test_another_folder_later_changes_nothing(run: zoo.Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    found = [zoo.load("runs/door"), zoo.load("door"), *zoo.runs("runs")]
    monkeypatch.chdir("/")
    assert {thing.path for thing in found} == {run.path}
    assert run.path.is_absolute()


def test_runs_and_paths_stand_for_their_names(run: zoo.Run, tmp_path: Path) -> None:
    options = {**QUICK, "image_size": 32, "runs": tmp_path}
    child = zoo.train(parent=run, name="child", lr=1e-4, **options)
    assert child.record().config["parent"] == str(run.path)
    with pytest.raises(zoo.errors.CheckpointInvalid, match="no such weights file"):
        zoo.train("test_resnet", "digits", weights=tmp_path / "nowhere.safetensors", **options)


def test_one_process_trains_one_run_at_a_time(tmp_path: Path) -> None:
    told: list[str] = []

    def train_another(line: str) -> None:
        try:
            zoo.train("test_resnet", "digits", name="b", runs=tmp_path, pretrained=False, **{**QUICK, "image_size": 32})
        except zoo.errors.EnvironmentBroken as exc:
            told.append(str(exc))

    options = {**QUICK, "image_size": 32, "progress": train_another}
    zoo.train("test_resnet", "digits", name="a", runs=tmp_path, pretrained=False, **options)
    assert told
    assert "another run is being trained in this process" in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_progress_function_that_fails_is_told_and_costs_nothing(tmp_path: Path) -> None:
    def fail(line: str) -> None:
        raise RuntimeError("no screen")

    options = {**QUICK, "image_size": 32, "epochs": 2, "progress": fail}
    with pytest.warns(UserWarning, match="hears no more: RuntimeError: no screen") as seen:
        run = zoo.train("test_resnet", "digits", name="n", runs=tmp_path, pretrained=False, **options)
    assert run.finished
    assert len(seen) == 1


@pytest.mark.parametrize("progress", ["False", pytest.param("lines.append", marks=pytest.mark.slow)])
def test_ctrl_c_saves_and_raises_interrupted(progress: str, tmp_path: Path) -> None:
    code = f"""
import os, signal, threading, zoo
from zoo.training import session
lines, step = [], session.Watch
from zoo.training.progress import Stopping
before = Stopping.step
def interrupt(self, state):
    if state.step == 2:
        os.kill(os.getpid(), signal.SIGINT)
    before(self, state)
Stopping.step = interrupt
options = dict(epochs=1, threads=1, image_size=32, pretrained=False)
try:
    zoo.train("test_resnet", "digits", name="n", runs="runs", progress={progress}, **options)
except zoo.errors.Interrupted as exc:
    print("stopped", exc)
Stopping.step = before
try:
    zoo.train(resume=True, name="n", runs="runs", recipe="tiny", progress=False)
except zoo.errors.OptionInvalid as exc:
    print(exc)
run = zoo.train(resume=True, name="n", runs="runs", progress=False)
print(run.finished, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.splitlines()
    assert first.startswith("stopped stopped; go on with")
    assert second == "a resumed run keeps its options; leave the recipe tiny out, or train anew"
    assert last == "True True"


def test_a_run_whose_curves_are_lost_still_has_a_page(run: zoo.Run, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy/metrics.jsonl").write_text("{ no")
    shown = zoo.Run(tmp_path / "copy")._repr_html_()
    assert shown is not None
    assert "<svg" not in shown
    assert "<circle" in str(run._repr_html_())
