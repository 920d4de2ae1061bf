"""The huggingface dataset: local data in each of its forms, a hub of our own, and what is refused in one line."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DatasetInvalid
from zoo.testing import DatasetContract
from zoo.testing.toys import CLASSES, pictures
from zoo_plugins import huggingface as huggingface_module
from zoo_plugins.huggingface import huggingface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..conftest import Answer

COMMIT = "c" * 40
CARD = "---\nlicense: cc-by-4.0\n---\n# Pictures\n"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table(count: int = 40, *, seed: int = 0, **more: tuple[Any, list[Any]]) -> Any:
    """Return a `datasets.Dataset` of PNG bytes and classes; `more` columns are (type, values)."""
    import datasets

    images, labels = pictures(count, seed=seed)
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    columns = {"image": [{"bytes": png(i), "path": None} for i in images], "label": labels.tolist()}
    features |= {name: kind for name, (kind, _) in more.items()}
    columns |= {name: values for name, (_, values) in more.items()}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def parquet(place: Path, **tables: Any) -> Path:
    """Write each table as NAME.parquet and return the folder."""
    place.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        content.to_parquet(place / f"{name}.parquet")
    return place


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare in this process, which has `datasets` loaded: a new one takes seconds."""
    import datasets

    from zoo_plugins import huggingface_prepare

    def run(command: list[str], _: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            huggingface_prepare.main(Path(command[-2]), json.loads(command[-1]))
        return subprocess.CompletedProcess(command, 0, out.getvalue().encode(), b"")

    monkeypatch.setattr(huggingface_module, "_run", run)
    datasets.disable_progress_bars()


def refusal(root: Path, **options: str) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        huggingface(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class OfLocalData(DatasetContract):
    name = "huggingface"

    @pytest.fixture
    def states_license(self) -> bool:
        return False

    @pytest.fixture
    def options(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        return {"name": str(self.once("data", lambda: self.write(tmp_path_factory.mktemp("data")))), **self.more()}

    def write(self, folder: Path) -> Path:
        return parquet(folder, train=table(), test=table(12, seed=1))

    def more(self) -> dict[str, str]:
        return {}


class TestParquet(OfLocalData):
    @pytest.fixture
    def states_license(self) -> bool:
        return True

    def write(self, folder: Path) -> Path:
        (folder / "README.md").write_text(CARD)
        return super().write(folder)


@pytest.mark.slow
class TestImageFolder(OfLocalData):
    def write(self, folder: Path) -> Path:
        images, labels = pictures(40)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / CLASSES[label]).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / CLASSES[label] / f"{number}.png")
        return folder


@pytest.mark.slow
class TestSavedToDiskWithSeveralLabels(OfLocalData):
    def write(self, folder: Path) -> Path:
        import datasets

        tags = [[n % 4, (n + 1) % 4] for n in range(40)]
        kind = datasets.List(datasets.ClassLabel(names=["red", "blue", "round", "flat"]))
        datasets.DatasetDict(train=table(tags=(kind, tags))).save_to_disk(folder / "saved")
        return folder / "saved"

    def more(self) -> dict[str, str]:
        return {"label": "tags"}


# ---- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_encoded_bytes_come_back_with_their_labels(tmp_path: Path) -> None:
    train, val = table(9), table(5, seed=1)
    dataset = huggingface(tmp_path / "root", name=str(parquet(tmp_path / "d", train=train, validation=val)))
    images, labels = pictures(9)
    assert dataset.classes == CLASSES
    assert sorted(dataset.splits) == ["train", "val"]
    assert [*dataset.splits["train"].images] == [png(image) for image in images]
    assert dataset.splits["train"].labels.tolist() == labels.tolist()
    assert [*dataset.splits["val"].images][2] == png(pictures(5, seed=1)[0][2])
    assert len(pickle.dumps(dataset.splits["train"].images)) < 1000, "its bytes go along"
    part = dataset.splits["train"].images[3:5]
    assert [*pickle.loads(pickle.dumps(part))] == [png(image) for image in images[3:5]]


@pytest.mark.usefixtures("here")
def test_a_parquet_file_alone_is_all_train(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "d", validation=table(8))
    dataset = huggingface(tmp_path / "root", name=str(folder / "validation.parquet"))
    assert list(dataset.splits) == ["train"]
    assert len(dataset.splits["train"]) == 8


@pytest.mark.usefixtures("here")
def test_local_data_that_changed_is_read_anew(tmp_path: Path) -> None:
    place = parquet(tmp_path / "d", train=table(8))
    huggingface(tmp_path / "root", name=str(place))
    parquet(place, train=table(12))
    assert len(huggingface(tmp_path / "root", name=str(place)).splits["train"]) == 12


@pytest.mark.usefixtures("here")
def test_texts_and_numbers_are_classes_when_their_column_is_named(tmp_path: Path) -> None:
    import datasets

    words = (datasets.Value("string"), ["dog", "cat"] * 4)
    numbers = (datasets.Value("int64"), [10, 9] * 4)
    lists = (datasets.List(datasets.Value("string")), [["a", "b"], []] * 4)
    place = str(parquet(tmp_path / "d", train=table(8, words=words, numbers=numbers, lists=lists)))
    of_words = huggingface(tmp_path / "root", name=place, label="words")
    assert (of_words.classes, of_words.splits["train"].labels[:2].tolist()) == (("cat", "dog"), [1, 0])
    of_numbers = huggingface(tmp_path / "root", name=place, label="numbers")
    assert (of_numbers.classes, of_numbers.splits["train"].labels[:2].tolist()) == (("9", "10"), [1, 0])
    of_lists = huggingface(tmp_path / "root", name=place, label="lists")
    assert of_lists.multi_label
    assert of_lists.splits["train"].labels[:2].tolist() == [[1, 1], [0, 0]]


@pytest.mark.usefixtures("here")
def test_rows_without_image_or_label_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    whole = table(12).to_dict()
    whole["image"][0], whole["label"][1] = None, -1
    hidden = table(4).to_dict() | {"label": [-1] * 4}
    features = table(4).features
    tables = {
        "train": datasets.Dataset.from_dict(whole, features),
        "test": datasets.Dataset.from_dict(hidden, features),
    }
    dataset = huggingface(tmp_path / "root", name=str(parquet(tmp_path / "d", **tables)))
    assert list(dataset.splits) == ["train"]
    assert dataset.splits["train"].labels.tolist() == table(12)["label"][2:]
    assert dataset.splits["train"].images[0] == png(pictures(12)[0][2])
    said = capsys.readouterr()
    assert not said.out
    assert "2 of 12 rows of train" in said.err
    assert "4 of 4 rows of test" in said.err


@pytest.mark.usefixtures("here")
def test_a_saved_selection_keeps_its_order(tmp_path: Path) -> None:
    table(12).select([7, 1, 4, 2]).save_to_disk(tmp_path / "saved")
    dataset = huggingface(tmp_path / "root", name=str(tmp_path / "saved"))
    assert [*dataset.splits["train"].images] == [png(pictures(12)[0][n]) for n in (7, 1, 4, 2)]


@pytest.mark.usefixtures("here")
def test_plain_bytes_are_images_when_their_column_is_named(tmp_path: Path) -> None:
    import datasets

    scans = (datasets.Value("binary"), [b"%d" % n for n in range(8)])
    dataset = huggingface(tmp_path / "r", name=str(parquet(tmp_path / "d", train=table(8, scans=scans))), image="scans")
    assert [*dataset.splits["train"].images] == [b"%d" % n for n in range(8)]


@pytest.mark.usefixtures("here")
def test_splits_can_be_named(tmp_path: Path) -> None:
    import datasets

    tables = datasets.DatasetDict(full=table(8), dev=table(4, seed=1), extra=table(4, seed=2))
    tables.save_to_disk(tmp_path / "saved")
    place = str(tmp_path / "saved")
    assert "train_split=, of 'full', 'dev', 'extra'" in refusal(tmp_path / "root", name=place)
    dataset = huggingface(tmp_path / "root", name=place, train_split="full", val_split="dev")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 8, "val": 4}
    assert "no split 'ful'" in refusal(tmp_path / "root", name=place, train_split="ful")
    assert "twice" in refusal(tmp_path / "root", name=place, train_split="full", val_split="full")


@pytest.mark.slow
def test_once_prepared_neither_datasets_nor_a_process_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(parquet(tmp_path / "d", train=table(8)))
    before = huggingface(tmp_path / "root", name=place)
    monkeypatch.setattr(huggingface_module, "_run", lambda *_, **__: pytest.fail("started a process"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    again = huggingface(tmp_path / "root", name=place)
    assert [*again.splits["train"].images] == [*before.splits["train"].images]


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_several_or_no_columns_are_named(tmp_path: Path) -> None:
    import datasets

    fine = (datasets.ClassLabel(names=["a", "b"]), [0, 1] * 4)
    more = (datasets.Image(), [{"bytes": b"x", "path": None}] * 8)
    place = str(parquet(tmp_path / "two", train=table(8, fine=fine, thumbnail=more)))
    assert "'image', 'thumbnail'" in refusal(tmp_path / "root", name=place)
    told = refusal(tmp_path / "root", name=place, image="image")
    assert "'label', 'fine'" in told
    assert "--dataset-option label=" in told
    assert "no column 'nope'" in refusal(tmp_path / "root", name=place, image="nope")
    assert "no column 'image' of classes" in refusal(tmp_path / "root", name=place, image="image", label="image")
    none = str(parquet(tmp_path / "none", train=table(8).remove_columns("label")))
    assert "none is a ClassLabel" in refusal(tmp_path / "root", name=none)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert "name=beans" in refusal(tmp_path / "root")
    for name in ("./nowhere", str(tmp_path / "nowhere"), "a/b/c", "gone.parquet", "~nobody/x"):
        assert name in refusal(tmp_path / "root", name=name)
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(tmp_path / "root", name=str(tmp_path / "empty"))
    (tmp_path / "notes.txt").write_text("x")
    assert "neither parquet nor arrow" in refusal(tmp_path / "root", name=str(tmp_path / "notes.txt"))
    (tmp_path / "bad.parquet").write_text("x")
    assert "bad.parquet" in refusal(tmp_path / "root", name=str(tmp_path / "bad.parquet"))


@pytest.mark.usefixtures("here")
def test_a_script_is_never_run(tmp_path: Path) -> None:
    place = tmp_path / "evil"
    place.mkdir()
    (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "script" in refusal(tmp_path / "root", name=str(place))
    refusal(tmp_path / "root", name=str(place / "evil.py"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("here")
def test_damaged_tables_are_told(tmp_path: Path) -> None:
    place = str(parquet(tmp_path / "d", train=table(8)))
    huggingface(tmp_path / "root", name=place)
    (arrow,) = (tmp_path / "root").rglob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert "is damaged" in refusal(tmp_path / "root", name=place)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    assert 'pip install "edgezoo[huggingface]"' in refusal(tmp_path, name="beans")


def test_offline_with_nothing_fetched_both_ways_on_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for _ in range(2):
        told = refusal(tmp_path / "root", name="beans")
        assert "beans" in told
        assert "go online" in told
        assert "name=DIR" in told
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in told


# ---- a hub of our own ----------------------------------------------------------------------------------------------


class Hub(http.server.ThreadingHTTPServer):
    """Serves one dataset's files the way the hub does, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer({"paths": asked["paths"]} if isinstance(asked, dict) else None)

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def _answer(self, posted: dict[str, Any] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        self.server.agents.add(self.headers.get("User-Agent", ""))
        body, etag = self._found(path, posted)
        self.send_response(404 if body is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound" if "/resolve/" in path else "RepoNotFound")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Type", "application/json" if path.startswith("/api/") else "text/plain")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body or b"")

    def _found(self, path: str, posted: dict[str, Any] | None) -> tuple[bytes | None, str]:
        files = self.server.files
        api = "/api/datasets/someone/pictures"
        if path.startswith("/datasets/someone/pictures/resolve/"):
            content = files.get(path.split("/", 6)[6])
            return content, hashlib.sha1(content or b"").hexdigest()
        if path.startswith(f"{api}/paths-info/"):
            wanted = [name for name in (posted or {})["paths"] if name in files]
            return json.dumps([self._entry(name) for name in wanted]).encode(), ""
        if path.startswith(f"{api}/tree/"):
            return json.dumps([self._entry(name) for name in files]).encode(), ""
        if path == api or path.startswith(f"{api}/revision/"):
            told = {"id": "someone/pictures", "sha": COMMIT, "private": False, "gated": False, "disabled": False}
            lists = {"tags": [], "siblings": [{"rfilename": name} for name in files], "downloads": 0, "likes": 0}
            return json.dumps({**told, **lists}).encode(), ""
        return None, ""

    def _entry(self, name: str) -> dict[str, Any]:
        content = self.server.files[name]
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_dataset_on_the_hub_is_fetched_once_and_kept_below_the_root(hub: Hub, tmp_path: Path) -> None:
    folder = parquet(tmp_path / "d", train=table(8), test=table(4, seed=1))
    hub.files |= {f"{file.stem}-00000-of-00001.parquet": file.read_bytes() for file in folder.iterdir()}
    hub.files["README.md"] = CARD.encode()
    environment = dict(os.environ)
    dataset = huggingface(tmp_path / "root", name="someone/pictures")
    assert dict(os.environ) == environment
    assert [*dataset.splits["train"].images] == [png(image) for image in pictures(8)[0]]
    assert len(dataset.splits["test"]) == 4
    assert dataset.license == "CC-BY-4.0"
    assert dataset.homepage == "https://huggingface.co/datasets/someone/pictures"
    assert not (tmp_path / "hf-home").exists()
    assert not [asked for asked in hub.asked if "telemetry" in asked]
    fetched = [asked for asked in hub.asked if asked.startswith("GET") and asked.endswith(".parquet")]
    assert len(fetched) == 2
    hub.asked.clear()
    again = huggingface(tmp_path / "root", name="someone/pictures")
    assert hub.asked == []
    assert np.array_equal(again.splits["train"].labels, dataset.splits["train"].labels)
    huggingface(tmp_path / "root", name="someone/pictures", label="label")
    assert not [asked for asked in hub.asked if asked.startswith("GET") and asked.endswith(".parquet")]


@pytest.mark.slow
def test_what_the_hub_lacks_is_told(hub: Hub, tmp_path: Path) -> None:
    assert "someone/other" in refusal(tmp_path / "root", name="someone/other")
    hub.files["pictures.py"] = b"raise SystemExit('ran')"
    assert "script" in refusal(tmp_path / "root", name="someone/pictures")


@pytest.mark.slow
def test_it_trains(cli: Callable[..., Answer], tmp_path: Path) -> None:
    place = parquet(tmp_path / "d", train=table(96))
    options = ["--epochs", "1", "--no-pretrained", "--image-size", "32", "--batch-size", "16", "--device", "cpu"]
    answer = cli("train", "timm/test_resnet", "--dataset", "huggingface", "--dataset-option", f"name={place}", *options)
    assert answer.code == 0, answer.stderr
