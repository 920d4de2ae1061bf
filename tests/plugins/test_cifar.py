"""CIFAR-10 and CIFAR-100, from small archives in the true format: what Python 2 pickled, read without running it."""

from __future__ import annotations

import io
import pickle
import socket
import struct
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from zoo.errors import DatasetInvalid
from zoo.testing import DatasetContract
from zoo_plugins import cifar
from zoo_plugins.cifar import cifar10, cifar100

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


PythonPickler: Any = vars(pickle)["_Pickler"]
"""The one written in Python, whose way with a type can be changed."""


class Python2(PythonPickler):  # type: ignore[misc]
    """Pickles as Python 2 and its numpy did: texts are strings of bytes, and numpy's inner module had its old name."""

    dispatch: ClassVar[dict[type, Any]] = dict(PythonPickler.dispatch)

    def save_text(self, text: bytes | str) -> None:
        content = text.encode("latin-1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[bytes] = dispatch[str] = save_text
    dispatch[type] = save_global


def pickled(value: object) -> bytes:
    content = io.BytesIO()
    Python2(content, 2).dump(value)
    return content.getvalue()


def batch(count: int, seed: int, **labels: int) -> dict[bytes, object]:
    """A batch in which the labels go round, and each picture's first red pixel is its number."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    rows[:, 0] = np.arange(count)
    found: dict[bytes, object] = {b"data": rows, b"filenames": [b"x.png"] * count, b"batch_label": b"a batch"}
    return found | {name.encode(): [n % classes for n in range(count)] for name, classes in labels.items()}


def files10() -> dict[str, bytes]:
    files = {f"data_batch_{n}": pickled(batch(40, n, labels=10)) for n in range(1, 6)}
    files |= {"test_batch": pickled(batch(20, 6, labels=10)), "readme.html": b"<html>"}
    meta = {b"label_names": NAMES, b"num_cases_per_batch": 40, b"num_vis": 3072}
    return {f"cifar-10-batches-py/{name}": content for name, content in files.items()} | {
        "cifar-10-batches-py/batches.meta": pickled(meta)
    }


def files100() -> dict[str, bytes]:
    meta = {
        b"fine_label_names": [b"fine%d" % n for n in range(100)],
        b"coarse_label_names": [b"coarse%d" % n for n in range(20)],
    }
    batches = {name: batch(200, seed, fine_labels=100, coarse_labels=20) for seed, name in enumerate(("train", "test"))}
    contents = {"meta": meta, **batches}
    return {f"cifar-100-python/{name}": pickled(content) for name, content in contents.items()}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def archive10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("cifar10") / "cifar-10-python.tar.gz", files10())


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestCifar10(DatasetContract):
    name = "cifar10"

    @pytest.fixture
    def options(self, archive10: Path) -> dict[str, Any]:
        return {"archive": str(archive10)}

    @pytest.fixture
    def states_license(self) -> bool:
        return False


def test_the_test_pickles_as_python_2_did() -> None:
    content = pickled(batch(2, 0, labels=10))
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content
    assert b"_codecs" not in content


def test_pictures_and_labels_are_the_archives(tmp_path: Path, archive10: Path) -> None:
    data = cifar10(tmp_path / "root", archive=str(archive10))
    assert data.classes == tuple(name.decode() for name in NAMES)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 200, "test": 20}
    assert data.splits["train"].labels.tolist() == [n % 10 for n in range(40)] * 5
    rows: Any = batch(40, 2, labels=10)[b"data"]
    image: Any = data.splits["train"].images[47]
    for place in ((0, 0), (3, 9), (31, 31)):
        at = place[0] * 32 + place[1]
        assert image[place].tolist() == [rows[7, at], rows[7, 1024 + at], rows[7, 2048 + at]]
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["decoded.npz"]


def test_cifar100_has_fine_and_coarse_classes(tmp_path: Path) -> None:
    archive = pack(tmp_path / "cifar-100-python.tar.gz", files100())
    fine = cifar100(tmp_path / "root", archive=str(archive))
    archive.unlink()
    coarse = cifar100(tmp_path / "root", coarse=True)
    assert (fine.classes[99], coarse.classes[19]) == ("fine99", "coarse19")
    assert fine.splits["test"].labels.tolist() == [n % 100 for n in range(200)]
    assert coarse.splits["test"].labels.tolist() == [n % 20 for n in range(200)]
    assert coarse.splits["train"].labels.dtype == np.int64


class Evil:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


HOSTILE = {
    "a command": pickle.dumps(Evil(eval, "open('hacked', 'w')"), 2),
    "numpy's loader": pickle.dumps(Evil(np.load, "x.npy"), 2),
    "an array of objects": pickle.dumps({b"data": np.array([[1]], dtype=object)}, 2),
    "a text": pickle.dumps("batch", 2),
    "nothing": b"",
    "a cut one": pickled(batch(5, 0, labels=10))[:-100],
    "no labels": pickled(batch(5, 0)),
    "labels beyond": pickled(batch(50, 0, labels=11)),
    "no data": pickled({b"labels": [0]}),
    "other shapes": pickled({b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]}),
    "floats": pickled({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}),
    "a huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a class instead of an array": pickled({b"data": np.ndarray, b"labels": [0, 1]}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_foreign_pickle_is_refused_and_runs_nothing(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = pack(tmp_path / "archive", {**files10(), "cifar-10-batches-py/data_batch_3": content})
    assert "data_batch_3" in refusal(lambda: cifar10(tmp_path / "root", archive=str(archive)))
    assert not list((tmp_path / "root").iterdir())
    assert not Path("hacked").exists()


@pytest.mark.parametrize("name", ["batches.meta", "test_batch"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    files = files10()
    del files[f"cifar-10-batches-py/{name}"]
    assert name in refusal(lambda: cifar10(tmp_path / "root", archive=str(pack(tmp_path / "archive", files))))


def test_other_archives_and_damaged_arrays_are_told(tmp_path: Path, archive10: Path) -> None:
    root = tmp_path / "root"
    assert "no file" in refusal(lambda: cifar10(root, archive=str(tmp_path / "nowhere")))
    assert "check the path" in refusal(lambda: cifar10(root, archive="~nobody-at-all/x"))
    assert "meta" in refusal(lambda: cifar100(root, archive=str(archive10)))
    root.mkdir(exist_ok=True)
    (root / "decoded.npz").write_bytes(b"no arrays")
    assert "remove it" in refusal(lambda: cifar10(root))


def test_without_a_network_both_ways_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    text = refusal(lambda: cifar100(tmp_path / "root"))
    assert cifar.CIFAR100.url in text
    assert "--dataset-option archive=FILE" in text


def test_a_downloaded_archive_with_another_checksum_is_put_aside(
    tmp_path: Path, archive10: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(url: str, into: Path) -> None:
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_bytes(archive10.read_bytes())

    monkeypatch.setattr(cifar, "download", bring)
    text = refusal(lambda: cifar10(tmp_path / "root"))
    assert cifar.CIFAR10.md5 in text
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["cifar-10-python.tar.gz.bad"]
