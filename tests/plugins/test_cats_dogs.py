"""Kaggle's cats and dogs, from an archive laid out like the real one, with the kinds of broken files that it holds."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DatasetInvalid
from zoo.testing import DatasetContract
from zoo_plugins import cats_dogs as module
from zoo_plugins.cats_dogs import cats_dogs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Answer

EACH = 450


def encoded(label: int, number: int, *, format: str = "JPEG", side: int = 12) -> bytes:
    """A picture with stripes that lie for cats and stand for dogs."""
    rng = np.random.default_rng([label, number])
    stripes = np.sin(np.arange(side) * 1.5 + rng.uniform(0, 6)) * 70
    grey = np.broadcast_to(stripes if label else stripes[:, None], (side, side)) + rng.normal(128, 10, (side, side))
    content = io.BytesIO()
    Image.fromarray(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, -1)).save(content, format)
    return content.getvalue()


def broken() -> dict[str, bytes]:
    """What stands in such archives instead of a picture."""
    jpeg, png = encoded(0, 10**6, side=64), encoded(0, 10**6, format="PNG", side=64)
    return {
        "Cat/666.jpg": b"",
        "Cat/10404.jpg": jpeg[: len(jpeg) // 2],
        "Cat/text.jpg": b"no picture\n",
        "Cat/page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "Dog/11702.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "Dog/cut.png": png[: len(png) // 2],
        "Dog/zeros.jpg": bytes(500),
        "Dog/head.jpg": jpeg[:20],
    }


def pack(path: Path, *, each: int = EACH, extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MSR-LA - 3467.docx", b"the licence")
        archive.writestr("readme[1].txt", b"read me")
        for label, folder in enumerate(("Cat", "Dog")):
            archive.writestr(f"PetImages/{folder}/Thumbs.db", b"\xd0\xcf\x11\xe0")
            for number in range(each):
                archive.writestr(f"PetImages/{folder}/{number}.jpg", encoded(label, number))
        for name, content in (extra or {}).items():
            archive.writestr(f"PetImages/{name}", content)
    return path


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("cats-dogs") / "small.zip", each=40)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestCatsDogs(DatasetContract):
    name = "cats-dogs"

    @pytest.fixture
    def options(self, small_archive: Path) -> dict[str, Any]:
        return {"archive": str(small_archive)}


def test_it_trains_and_every_broken_file_is_named(
    cli: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    archive = pack(tmp_path / "cats.zip", extra=broken())
    options = ["--epochs", 2, "--lr", 3e-3, "--set", "image_size=16", "--augment", "none", "--runs", "runs"]
    answer = cli(
        "train", "tiny", "--dataset", "cats-dogs", "--dataset-option", f"archive={archive}", *options, "--name", "cd"
    )
    assert answer.code == 0, answer.stderr
    run = json.loads(Path("runs/cd/run.json").read_text())
    assert {"/".join(Path(name).parts[-2:]) for name in run["skipped_images"]} == set(broken())
    assert all(run["skipped_images"].values())
    assert run["classes"] == ["cat", "dog"]
    assert "left out" in answer.stderr


def test_labels_follow_the_folders(tmp_path: Path, small_archive: Path) -> None:
    data = cats_dogs(tmp_path / "root", archive=str(small_archive))
    assert data.classes == ("cat", "dog")
    train = data.splits["train"]
    assert train.labels.tolist() == [0] * 40 + [1] * 40
    assert [Path(str(image)).parent.name for image in train.images] == ["Cat"] * 40 + ["Dog"] * 40
    assert small_archive.is_file()


@pytest.mark.usefixtures("no_network")
def test_without_a_network_both_ways_are_told(tmp_path: Path) -> None:
    text = refusal(lambda: cats_dogs(tmp_path / "root"))
    for part in (module.URL, "browser", "--dataset-option archive=FILE", "Name or service not known"):
        assert part in text


@pytest.mark.usefixtures("no_network")
def test_once_unpacked_neither_network_nor_archive_is_needed(tmp_path: Path, small_archive: Path) -> None:
    first = cats_dogs(tmp_path / "root", archive=str(small_archive))
    again = cats_dogs(tmp_path / "root")
    gone = cats_dogs(tmp_path / "root", archive="no longer there.zip")
    assert first.splits["train"].images == again.splits["train"].images == gone.splits["train"].images


def test_what_was_downloaded_is_unpacked_and_removed(
    tmp_path: Path, small_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(url: str, into: Path, *, sha256: str) -> None:
        assert url == module.URL
        into.parent.mkdir(parents=True)
        into.write_bytes(small_archive.read_bytes())

    monkeypatch.setattr(module, "download", bring)
    assert len(cats_dogs(tmp_path / "root").splits["train"]) == 80
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["unpacked"]


def test_other_archives_are_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    root, archive = tmp_path / "root", tmp_path / "other.zip"
    assert "cannot be read" in refusal(lambda: cats_dogs(root, archive=str(archive)))
    assert "cannot be read" in refusal(lambda: cats_dogs(root, archive=str(tmp_path)))
    assert "check the path" in refusal(lambda: cats_dogs(root, archive="~nobody-at-all/x.zip"))
    archive.write_bytes(b"no zip at all")
    assert "no zip archive" in refusal(lambda: cats_dogs(root, archive=str(archive)))
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("PetImages/Cat/0.jpg", encoded(0, 0))
        opened.writestr("PetImages/Dog/Thumbs.db", b"")
    text = refusal(lambda: cats_dogs(root, archive=str(archive)))
    assert "no pictures in PetImages/Dog" in text
    assert module.URL in text
    assert not root.exists()
