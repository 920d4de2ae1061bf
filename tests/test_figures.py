"""`zoo bench --figures`: what a device measured, brought back beside what is measured here."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from zoo.errors import OptionInvalid
from zoo.exporting.measured import bring_back
from zoo.records.artifact import Artifact
from zoo.runtime.golden import replay
from zoo.runtime.measure import measure, write_back
from zoo.runtime.model import Model

from .bundles import unpacked_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Answer


@pytest.fixture
def own(onnx_artifact: Artifact, tmp_path: Path) -> Artifact:
    """An artifact that may be changed."""
    shutil.copytree(onnx_artifact.path, tmp_path / "run/export/onnx-fp32")
    return Artifact(tmp_path / "run/export/onnx-fp32")


@pytest.fixture
def device(own: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of its bundle on a device, measured there twice; three starts of Python each are left out."""
    monkeypatch.setattr("zoo.runtime.measure.cold_start", lambda model: 300.0)
    folder = unpacked_bundle(own, tmp_path)
    model = Model(folder)
    for _ in range(2):
        write_back(folder, {**measure(model, seconds=0.05), "selftest": replay(model).to_json()})
    return folder


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_they_are_kept_once_and_the_artifact_stays_whole(own: Artifact, device: Path) -> None:
    assert bring_back(device, [own]) == (own, 2)
    assert bring_back(device / "artifact.json", [own]) == (own, 0)
    found = own.manifest()
    assert [told.model_dump(mode="json") for told in found.measured] == json.loads(
        (device / "artifact.json").read_text()
    )["measured"]
    own.check_files(found)


def test_bench_prints_them_beside_its_own(cli: Callable[..., Answer], own: Artifact, device: Path) -> None:
    change(device / "artifact.json", measured=[
        {**told, "machine": {**told["machine"], "processor": "Board [bold]7[/bold]"}}
        for told in json.loads((device / "artifact.json").read_text())["measured"]
    ])  # fmt: skip
    answer = cli("bench", own.path, "--seconds", "0.1", "--figures", device)
    assert answer.code == 0, answer.stderr
    assert answer.stdout.count("Board [bold]7[/bold]") == 2
    assert answer.stdout.count("passed") == 2
    told = json.loads(cli("bench", own.path, "--seconds", "0.1", "--json").stdout)
    assert [one["machine"]["processor"] for one in told["artifacts"][0]["devices"]] == ["Board [bold]7[/bold]"] * 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: change(file, measured=[]), "holds no figures; run `python -m zoo_runtime bench`"),
        (lambda file: change(file, files={"model.onnx": "0" * 64}), "was measured with another model than"),
        (lambda file: change(file, measured=[{"p50": "fast"}]), "holds figures that cannot be read: 0.p50"),
        (lambda file: change(file, model_file=3), r"is no artifact.json of a device \(KeyError"),
        (lambda file: file.write_text("[" * 100_000), "is no artifact.json of a device"),
        (lambda file: file.unlink(), r"cannot be read \(No such file or directory\); copy it from the device"),
    ],
)
def test_another_file_is_refused_and_nothing_changes(
    own: Artifact, device: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    before = (own.path / "artifact.json").read_bytes()
    spoil(device / "artifact.json")
    with pytest.raises(OptionInvalid, match=reason):
        bring_back(device / "artifact.json", [own])
    assert (own.path / "artifact.json").read_bytes() == before
