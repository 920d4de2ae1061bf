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
    assert found.path == Path("two/n")


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
