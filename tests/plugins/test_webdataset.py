"""The webdataset dataset: shards on disk, in memory and behind a web server, indexed by their headers and streamed."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import json
import pickle
import re
import socket
import tarfile
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DatasetInvalid
from zoo.testing import DatasetContract
from zoo.testing.toys import CLASSES, noise, pictures
from zoo_plugins import tar_shards
from zoo_plugins.tar_shards import expand
from zoo_plugins.webdataset import webdataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ..conftest import Answer

Members = "Iterable[tuple[str, bytes]]"


def tar(members: Iterable[tuple[str, bytes]], *, pax: bool = True) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as out:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def samples(count: int, *, seed: int = 0, first: int = 0) -> list[tuple[str, bytes]]:
    images, labels = pictures(count, seed=seed)
    pairs = enumerate(zip(images, labels, strict=True), first)
    return [m for n, (i, c) in pairs for m in ((f"{n:06d}.cls", b"%d" % c), (f"{n:06d}.png", png(i)))]


def two(first: bytes = b"0", second: bytes = b"1", *, suffix: str = "cls") -> list[tuple[str, bytes]]:
    """Two samples whose images are three and four bytes that nobody decodes."""
    return [("a.jpg", b"one"), (f"a.{suffix}", first), ("b.jpg", b"four"), (f"b.{suffix}", second)]


class OfShards(DatasetContract):
    name = "webdataset"

    @pytest.fixture
    def states_license(self) -> bool:
        return False

    @pytest.fixture
    def options(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        def write() -> Path:
            folder = tmp_path_factory.mktemp("shards")
            for number in range(3):
                (folder / f"train-{number:03d}.tar").write_bytes(self.shard(number))
            return folder

        return {"shards": f"{self.once('shards', write)}/train-{{000..002}}.tar", **self.more()}

    def shard(self, number: int) -> bytes:
        return tar(samples(40, seed=number))

    def more(self) -> dict[str, str]:
        return {}


class TestWebdataset(OfShards):
    pass


class TestWebdatasetOfSeveralLabels(OfShards):
    def shard(self, number: int) -> bytes:
        images, labels = pictures(40, seed=number)
        lists = [{"tags": sorted({CLASSES[label], CLASSES[n % 4]})} for n, label in enumerate(labels)]
        pairs = enumerate(zip(images, lists, strict=True))
        return tar(m for n, (i, c) in pairs for m in ((f"{n}.png", png(i)), (f"{n}.json", json.dumps(c).encode())))

    def more(self) -> dict[str, str]:
        return {"label": "json:tags"}


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., str]:
    """Write a shard and return its path."""

    def write(content: Iterable[tuple[str, bytes]] | bytes, name: str = "train.tar") -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else tar(content))
        return str(file)

    return write


def refusal(tmp_path: Path, **options: str) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        webdataset(tmp_path / "root", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what is read --------------------------------------------------------------------------------------------------


def test_numbers_are_classes_in_numeric_order(tmp_path: Path, shard: Callable[..., str]) -> None:
    members = [m for n in (10, 2, 0) for m in ((f"x/{n}.cls", b"%03d\n" % n), (f"x/{n}.jpg", b"image %d" % n))]
    dataset = webdataset(tmp_path / "root", shards=shard(members))
    assert dataset.classes == ("0", "2", "10")
    train = dataset.splits["train"]
    assert [*train.images] == [b"image 10", b"image 2", b"image 0"]
    assert train.labels.tolist() == [2, 1, 0]


def test_names_are_classes_in_alphabetic_order_and_val_follows_them(tmp_path: Path, shard: Callable[..., str]) -> None:
    train, val = shard(two(b"dog", b"cat")), shard([("z.cls", b"dog"), ("z.jpg", b"z")], "val.tar")
    dataset = webdataset(tmp_path / "root", shards=train, val_shards=val, test_shards=shard(two(b"cat", b"cat"), "t"))
    assert dataset.classes == ("cat", "dog")
    assert {name: split.labels.tolist() for name, split in dataset.splits.items()} == {
        "train": [1, 0],
        "val": [1],
        "test": [0, 0],
    }


def test_given_classes_name_numbers_or_order_names(tmp_path: Path, shard: Callable[..., str]) -> None:
    (tmp_path / "names.txt").write_text("ant\n\nbee\ncat\n")
    numbers = webdataset(tmp_path / "root", shards=shard(two(b"2", b"0")), classes=str(tmp_path / "names.txt"))
    assert (numbers.classes, numbers.splits["train"].labels.tolist()) == (("ant", "bee", "cat"), [2, 0])
    names = webdataset(tmp_path / "root", shards=shard(two(b"bee", b"ant"), "n.tar"), classes="bee, ant")
    assert (names.classes, names.splits["train"].labels.tolist()) == (("bee", "ant"), [0, 1])


def test_members_belong_together_up_to_the_first_dot_of_their_name(tmp_path: Path, shard: Callable[..., str]) -> None:
    members = [
        ("__index__", b"not a sample"),
        ("v1.0/a.SEG.png", b"a mask"),
        ("v1.0/a.JPG", b"image"),
        ("v1.0/a.cls", b"x"),
        ("v1.0/README", b""),
        ("v1.0/b.png", b"other image"),
        ("v1.0/b.cls", b"y"),
        ("../../escaped.png", b"outside"),
        ("../../escaped.cls", b"y"),
    ]
    dataset = webdataset(tmp_path / "root", shards=shard(members))
    assert [*dataset.splits["train"].images] == [b"image", b"other image", b"outside"]
    masks = webdataset(tmp_path / "root", shards=shard(members[1:4] + members[5:7]), image="seg.png;png")
    assert [*masks.splits["train"].images] == [b"a mask", b"other image"]


@pytest.mark.parametrize("pax", [True, False])
def test_long_and_foreign_names_are_read(pax: bool, tmp_path: Path, shard: Callable[..., str]) -> None:
    deep = "/".join(["a long folder's name, ünïcode"] * 12)
    members = [(f"{deep}/{name}", content) for name, content in two()]
    dataset = webdataset(tmp_path / "root", shards=shard(tar(members, pax=pax)))
    assert dataset.splits["train"].labels.tolist() == [0, 1]
    assert [*dataset.splits["train"].images] == [b"one", b"four"]


def test_several_labels_come_from_a_list_or_a_separator(tmp_path: Path, shard: Callable[..., str]) -> None:
    lists = shard(
        [*two(b'{"t": ["x", "y"]}', b'{"t": []}', suffix="json"), ("c.jpg", b""), ("c.json", b'{"t": ["y"]}')]
    )
    dataset = webdataset(tmp_path / "root", shards=lists, label="json:t")
    assert dataset.multi_label
    assert dataset.splits["train"].labels.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert dataset.splits["train"].labels.dtype == np.uint8
    texts = webdataset(
        tmp_path / "root", shards=shard(two(b"y|x", b"x", suffix="txt"), "s"), label="txt", separator="|"
    )
    assert texts.splits["train"].labels.tolist() == [[1, 1], [1, 0]]


def test_a_slice_is_as_lazy_as_the_whole(tmp_path: Path, shard: Callable[..., str], monkeypatch: Any) -> None:
    images = webdataset(tmp_path / "root", shards=shard(two())).splits["train"].images
    monkeypatch.setattr("zoo_plugins.webdataset.read", lambda *_: pytest.fail("fetched"))
    part = images[1:]
    monkeypatch.undo()
    assert [*part] == [b"four"]
    assert images[-1] == b"four"
    with pytest.raises(IndexError):
        images[2]


# ---- where shards are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://b/t-{008..010}.tar", ["s3://b/t-008.tar", "s3://b/t-009.tar", "s3://b/t-010.tar"]),
        ("s3://b/{9..10}.tar, s3://b/x.tar", ["s3://b/9.tar", "s3://b/10.tar", "s3://b/x.tar"]),
        ("gs://{a,b}/{0..1}", ["gs://a/0", "gs://a/1", "gs://b/0", "gs://b/1"]),
        ("https://h/a.tar?sig=*", ["https://h/a.tar?sig=*"]),
    ],
)
def test_addresses_are_spelled_out(text: str, found: list[str]) -> None:
    assert expand(text) == found


def test_patterns_stand_for_files_in_order(tmp_path: Path, shard: Callable[..., str]) -> None:
    names = [shard(two(), f"{n}.tar") for n in ("c", "a", "b")]
    assert expand(f"{tmp_path}/*.tar") == sorted(names)
    assert expand(shard(two(), "odd [name].tar")) == [f"{tmp_path}/odd [name].tar"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" , ", "names no shard"),
        ("a-{0..1.tar", "brace"),
        ("a-{x}.tar", "no range"),
        ("a-{5..1}.tar", "counts down"),
        ("s3://a,s3://a", "named twice"),
        ("/nowhere/*.tar", "fits no file"),
    ],
)
def test_doubtful_addresses_are_refused(text: str, told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path, shards=text)


@pytest.fixture
def memory() -> Iterator[Any]:
    import fsspec

    place = fsspec.filesystem("memory")
    yield place
    place.store.clear()


def test_shards_in_any_file_system_are_streamed(tmp_path: Path, memory: Any) -> None:
    for number in range(2):
        memory.pipe(f"/bucket/train-{number}.tar", tar(samples(8, seed=number)))
    by_range = webdataset(tmp_path / "root", shards="memory://bucket/train-{0..1}.tar")
    by_pattern = webdataset(tmp_path / "root", shards="memory://bucket/*.tar")
    expected = [content for number in range(2) for name, content in samples(8, seed=number) if name.endswith("png")]
    assert [*by_range.splits["train"].images] == [*by_pattern.splits["train"].images] == expected


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by range, and counts what it is asked and what it sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.sent = 0
        self.failing = 0
        self.knows_ranges = True
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def _answer(self, *, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.server.files.get(self.path)
        status, sent = 200 if body is not None else 404, body or b""
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part and body and self.server.knows_ranges:
            status, sent = 206, body[int(part[1]) : int(part[2]) + 1]
        if with_body and self.server.failing:
            self.server.failing -= 1
            status, sent = 503, b"busy"
        self.send_response(status)
        self.send_header("ETag", f'"{hash(body)}"')
        if part and status == 206:
            self.send_header("Content-Range", f"bytes {part[1]}-{part[2]}/{len(body or b'')}")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if with_body:
            # Counted first: who gets it may ask at once how much it was.
            self.server.sent += len(sent)
            self.wfile.write(sent)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(tar_shards, "BACKOFF_S", (0.01, 0.01))
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def large(count: int, size: int) -> list[tuple[str, bytes]]:
    contents = [noise(1, size, seed=n).tobytes()[:size] for n in range(count)]
    return [m for n, image in enumerate(contents) for m in ((f"{n}.cls", b"%d" % (n % 2)), (f"{n}.jpg", image))]


def test_indexing_leaps_over_the_images_and_a_second_start_asks_for_none(tmp_path: Path, server: Server) -> None:
    members = large(20, 300_000)
    server.files["/train.tar"] = tar(members)
    dataset = webdataset(tmp_path / "root", shards=f"{server.url}/train.tar")
    assert server.sent < 0.1 * len(server.files["/train.tar"])
    server.sent, server.asked[:] = 0, []
    again = webdataset(tmp_path / "root", shards=f"{server.url}/train.tar")
    assert (server.sent, server.asked) == (0, ["HEAD /train.tar"])
    copy = pickle.loads(pickle.dumps(again.splits["train"]))
    assert copy.images[7] == dataset.splits["train"].images[7] == members[15][1]
    assert server.sent == 600_000
    assert server.asked[1:] == ["GET /train.tar"] * 2
    kept = [*(tmp_path / "root").iterdir()]
    assert len(kept) == 1
    assert kept[0].stat().st_size < 5_000


def test_small_images_are_indexed_by_few_long_requests(tmp_path: Path, server: Server) -> None:
    server.files["/train.tar"] = tar(large(500, 1_000))
    webdataset(tmp_path / "root", shards=f"{server.url}/train.tar")
    assert len(server.asked) < 20
    assert server.sent < 1.1 * len(server.files["/train.tar"])


def test_a_shard_that_changed_is_indexed_anew_and_alone(tmp_path: Path, server: Server) -> None:
    server.files |= {f"/{n}.tar": tar(two(b"cat", b"dog")) for n in range(3)}
    shards = f"{server.url}/{{0..2}}.tar"
    webdataset(tmp_path / "root", shards=shards)
    server.files["/1.tar"] = tar(two(b"dog", b"cat"))
    server.asked.clear()
    dataset = webdataset(tmp_path / "root", shards=shards)
    assert dataset.splits["train"].labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert {asked for asked in server.asked if asked.startswith("GET")} == {"GET /1.tar"}


def test_a_damaged_index_is_made_anew(tmp_path: Path, shard: Callable[..., str]) -> None:
    options = {"shards": shard(two())}
    before = webdataset(tmp_path / "root", **options).splits["train"].labels
    (kept,) = (tmp_path / "root").iterdir()
    kept.write_text(kept.read_text()[:50])
    assert np.array_equal(webdataset(tmp_path / "root", **options).splits["train"].labels, before)


def test_a_server_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.files["/train.tar"] = tar(two())
    images = webdataset(tmp_path / "root", shards=f"{server.url}/train.tar").splits["train"].images
    server.failing = 2
    assert images[1] == b"four"
    server.failing = 3
    with pytest.raises(DatasetInvalid, match=r"train\.tar cannot be read \(it answers 503\)"):
        images[1]
    server.failing = 0


def test_a_shard_that_shrank_is_told(tmp_path: Path, shard: Callable[..., str]) -> None:
    file = shard(two())
    images = webdataset(tmp_path / "root", shards=file).splits["train"].images
    shard(b"x" * 100)
    with pytest.raises(DatasetInvalid, match="it has changed"):
        images[0]


def test_what_cannot_be_reached_is_told(tmp_path: Path, server: Server) -> None:
    assert "404" in refusal(tmp_path, shards=f"{server.url}/none.tar")
    server.files["/train.tar"], server.knows_ranges = tar(large(2, 100_000)), False
    assert "HTTP ranges" in refusal(tmp_path, shards=f"{server.url}/train.tar")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    assert f"127.0.0.1:{port}/a.tar cannot be read" in refusal(tmp_path, shards=f"http://127.0.0.1:{port}/a.tar")
    assert "does not exist" in refusal(tmp_path, shards="/nowhere/a.tar")
    assert "is a folder" in refusal(tmp_path, shards=str(tmp_path))
    told = refusal(tmp_path, shards="nosuch://a.tar")
    assert "nosuch://a.tar" in told
    assert "Protocol not known" in told


def test_a_protocol_whose_package_is_missing_is_told_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    told = refusal(tmp_path, shards="gs://bucket/a.tar")
    assert "gcsfs" in told


def test_without_fsspec_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    assert 'pip install "edgezoo[webdataset]"' in refusal(tmp_path, shards="a.tar")


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2")])
def test_compressed_shards_are_refused(pack: Any, name: str, tmp_path: Path, shard: Callable[..., str]) -> None:
    file = shard(pack(tar(two())), "train.tar.gz")
    told = refusal(tmp_path, shards=file)
    assert file in told
    assert f"compressed ({name})" in told
    assert "unpack" in told


WHOLE = tar(two())


@pytest.mark.parametrize("length", [0, 100, 512, 514, 1024, 1300, 2048, 2060, 3584, 4096])
def test_a_truncated_shard_is_never_taken_for_a_shorter_one(
    length: int, tmp_path: Path, shard: Callable[..., str]
) -> None:
    assert "train.tar" in refusal(tmp_path, shards=shard(WHOLE[:length]))


def test_damaged_and_joined_shards_are_refused(tmp_path: Path, shard: Callable[..., str]) -> None:
    assert "no tar file" in refusal(tmp_path, shards=shard(b"<html>" * 1000))
    damaged = bytearray(WHOLE)
    damaged[2048 + 148 : 2048 + 154] = b"999999"
    assert "is damaged: no header at byte 2048" in refusal(tmp_path, shards=shard(bytes(damaged)))
    assert "after its end mark" in refusal(tmp_path, shards=shard(WHOLE + tar([("c.jpg", b""), ("c.cls", b"0")])))
    assert "holds no sample" in refusal(tmp_path, shards=shard(tar([("README", b"x")])))


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([*two(), ("c.jpg", b"")], ["without a label", "'c.jpg'"]),
        ([*two(), ("c.cls", b"1")], ["without an image", "'c.cls'"]),
        ([*two(), ("a.jpg", b""), ("a.cls", b"1")], ["'a.cls'", "there before"]),
        ([*two(), ("b.cls", b"1")], ["'b.cls'", "there before"]),
        (two(b"0", b""), ["'b.cls'", "no class"]),
        (two(b"0", b"-1"), ["'b.cls'", "no class"]),
        (two(b"0", b"\xff"), ["'b.cls'", "UTF-8"]),
        (two(b"0", b"0"), ["at least 2 classes"]),
    ],
)
def test_samples_that_make_no_sense_are_named(
    members: list[tuple[str, bytes]], told: list[str], tmp_path: Path, shard: Callable[..., str]
) -> None:
    text = refusal(tmp_path, shards=shard(members))
    assert all(part in text for part in told), text


@pytest.mark.parametrize(
    ("second", "told"),
    [(b"{", "JSON"), (b'{"u": 1}', "JSON"), (b"[1]", "JSON"), (b'{"t": 1.5}', "1.5"), (b'{"t": ["x"]}', "a list")],
)
def test_json_without_the_label_is_named(second: bytes, told: str, tmp_path: Path, shard: Callable[..., str]) -> None:
    text = refusal(tmp_path, shards=shard(two(b'{"t": "x"}', second, suffix="json")), label="json:t")
    assert told in text
    assert "train.tar" in text


def test_labels_that_train_lacks_are_named(tmp_path: Path, shard: Callable[..., str]) -> None:
    train, val = shard(two(b"cat", b"dog")), shard([("z.jpg", b""), ("z.cls", b"emu")], "val.tar")
    told = refusal(tmp_path, shards=train, val_shards=val)
    assert "val.tar" in told
    assert "'z.jpg'" in told
    assert "'emu'" in told
    assert "'dog'" in refusal(tmp_path, shards=train, classes="cat,cow")
    assert "for train and for test" in refusal(tmp_path, shards=train, test_shards=train)


@pytest.mark.parametrize(
    "options", [{"image": ""}, {"label": ""}, {"label": "json:"}, {"label": "jpg"}, {"classes": "a"}]
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, str], tmp_path: Path, shard: Callable[..., str]
) -> None:
    assert next(iter(options)) in refusal(tmp_path, **{"shards": shard(two()), **options})
    assert "shards=" in refusal(tmp_path)


def test_a_negative_length_does_not_go_round_in_circles(tmp_path: Path, shard: Callable[..., str]) -> None:
    entry = tarfile.TarInfo("a.jpg")
    block = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(-1024, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]  # type: ignore[attr-defined]
    assert "train.tar" in refusal(tmp_path, shards=shard(WHOLE[:4096] + bytes(block) + bytes(20480)))


def test_nothing_is_left_open(tmp_path: Path, server: Server) -> None:
    server.files["/train.tar"] = tar(two())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = webdataset(tmp_path / "root", shards=f"{server.url}/train.tar").splits["train"].images
        threads = [threading.Thread(target=images.__getitem__, args=(n % 2,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_it_trains(cli: Callable[..., Answer], shard: Callable[..., str]) -> None:
    pattern = shard(samples(48), "train-0.tar").replace("-0", "-{0..1}")
    shard(samples(48, seed=1), "train-1.tar")
    options = ["--epochs", "1", "--no-pretrained", "--image-size", "32", "--batch-size", "16", "--device", "cpu"]
    answer = cli(
        "train", "timm/test_resnet", "--dataset", "webdataset", "--dataset-option", f"shards={pattern}", *options
    )
    assert answer.code == 0, answer.stderr
