"""Downloads and archives: whatever happens, what stands under the name is right and whole, or one line says why not."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import http.server
import io
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest

from zoo.disk import fetch
from zoo.errors import DatasetInvalid, EnvironmentBroken
from zoo.plugin import download, extract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTENT = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path, with one fault for each of the coming answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.ranges = CONTENT, '"one"', True
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/data.bin"

    def handle_error(self, *_: object) -> None:
        """Stay silent about connections that we or the client cut."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.asked.append(asked)
        fault = server.faults.pop(0) if server.faults else ""
        if fault.isdigit() or fault.startswith("to "):
            self.send_response(302 if fault.startswith("to ") else int(fault))
            if fault.startswith("to "):
                self.send_header("Location", fault[3:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = int(asked[6:].split("-")[0]) if asked and server.ranges else 0
        if self.headers.get("If-Range", server.etag) != server.etag and fault != "ignore if-range":
            begin = 0
        body, whole = server.content[begin:], len(server.content)
        self.send_response(206 if begin else 200)
        if begin:
            first = begin + 7 if fault == "wrong range" else begin
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "drop" else body)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_S", (0.01, 0.01, 0.01))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "below" / "data.bin"


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def start(server: Server, into: Path) -> None:
    """Leave half a download behind."""
    server.faults = ["drop", "404"]
    refusal(lambda: download(server.url, into))
    server.asked.clear()
    assert 0 < into.with_name("data.bin.part").stat().st_size < len(CONTENT)


def assert_whole(into: Path) -> None:
    assert into.read_bytes() == CONTENT
    assert [file.name for file in into.parent.iterdir()] == [into.name]


def test_a_file_comes_once(server: Server, into: Path) -> None:
    assert download(server.url, into, sha256=DIGEST.upper()) == into
    assert_whole(into)
    download(server.url, into, sha256=DIGEST)
    download(server.url, into)
    assert server.asked == [""]
    into.write_bytes(b"another file")
    download(server.url, into, sha256=DIGEST)
    assert_whole(into)


@pytest.mark.parametrize(
    "faults",
    [["drop"], ["drop", "drop", "503"], ["503", "429", "500"], ["drop", "416"], ["drop", "wrong range"]],
    ids=str,
)
def test_what_passes_is_survived(server: Server, into: Path, faults: list[str]) -> None:
    server.faults = list(faults)
    download(server.url, into, sha256=DIGEST)
    assert_whole(into)
    assert server.asked[0] == ""
    assert (f"bytes={len(CONTENT) // 2}-" in server.asked) == ("drop" in faults)


def test_the_next_call_goes_on(server: Server, into: Path) -> None:
    start(server, into)
    told: list[tuple[int, int]] = []
    download(server.url, into, progress=lambda done, total: told.append((done, total)))
    assert_whole(into)
    assert server.asked == [f"bytes={len(CONTENT) // 2}-"]
    assert told[0] == (len(CONTENT) // 2, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("fault", ["", "ignore if-range"])
def test_a_changed_file_starts_over(server: Server, into: Path, fault: str) -> None:
    server.content = CONTENT[::-1]
    start(server, into)
    server.content, server.etag, server.faults = CONTENT, '"two"', [fault]
    download(server.url, into)
    assert_whole(into)


def test_another_address_starts_over(server: Server, into: Path) -> None:
    server.content = CONTENT[::-1]
    start(server, into)
    server.content = CONTENT
    download(f"{server.url}?other", into)
    assert_whole(into)
    assert server.asked == [""]


def test_a_server_without_ranges_or_names_starts_over(server: Server, into: Path) -> None:
    server.ranges = False
    server.faults = ["drop"]
    download(server.url, into)
    assert_whole(into)
    into.unlink()
    server.ranges, server.etag = True, ""
    start(server, into)
    download(server.url, into)
    assert_whole(into)
    # Halves of two states could not be told apart.
    assert server.asked == [""]


def test_a_download_that_only_lacked_its_name_needs_no_server(server: Server, into: Path) -> None:
    start(server, into)
    into.with_name("data.bin.part").write_bytes(CONTENT)
    download(server.url, into)
    assert_whole(into)
    assert server.asked == []


def test_a_wrong_checksum_is_told_and_put_aside(server: Server, into: Path) -> None:
    text = refusal(lambda: download(server.url, into, sha256="0" * 64))
    for part in (server.url, "0" * 64, DIGEST, "data.bin.bad", "try again"):
        assert part in text
    assert [file.name for file in into.parent.iterdir()] == ["data.bin.bad"]
    download(server.url, into, sha256=DIGEST)


def test_a_connection_that_always_drops_is_told_in_the_end(server: Server, into: Path) -> None:
    server.faults = ["drop"] * 9
    text = refusal(lambda: download(server.url, into))
    assert "4 times" in text
    assert "goes on from there" in text
    assert not into.exists()
    server.faults = []
    download(server.url, into)
    assert_whole(into)


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (["404"], "404"),
        (["to file:///etc/passwd"], "file:///etc/passwd"),
        (["to ftp://127.0.0.1/x"], "ftp://127.0.0.1/x"),
        (["204"], "204"),
        (["503"] * 4, "503"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_in_one_line(server: Server, into: Path, faults: list[str], words: str) -> None:
    server.faults = faults
    assert words in refusal(lambda: download(server.url, into))
    assert not into.exists()


def test_a_redirect_is_followed(server: Server, into: Path) -> None:
    server.faults = [f"to {server.url}/elsewhere"]
    download(server.url, into)
    assert_whole(into)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "nonsense", "http://", "http://x/a\nb", "http://x/a b"]
)
def test_other_addresses_are_refused(url: str, into: Path) -> None:
    assert "http" in refusal(lambda: download(url, into))


def test_no_network_names_the_address_and_the_reason(into: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/x"
        text = refusal(lambda: download(url, into))
    assert url in text
    assert "refused" in text
    assert not list(into.parent.iterdir())


def test_an_empty_file_is_a_file(server: Server, into: Path) -> None:
    server.content = b""
    assert download(server.url, into).read_bytes() == b""


def test_a_full_disk_is_told_before_it_is_full(server: Server, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(EnvironmentBroken, match=r"needs 0\.3 MB and has 0\.0 MB free"):
        download(server.url, into)


def test_a_disk_that_fills_is_told_and_the_next_call_goes_on(server: Server, into: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EnvironmentBroken, match="too large; free space"):
            download(server.url, into)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not into.exists()
    download(server.url, into)
    assert_whole(into)
    assert len(server.asked) == 2
    assert server.asked[1]


def test_two_processes_do_not_write_one_file(server: Server, into: Path) -> None:
    start(server, into)
    fcntl = pytest.importorskip("fcntl")
    with into.with_name("data.bin.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another process" in refusal(lambda: download(server.url, into))
    download(server.url, into)
    assert_whole(into)


def test_a_killed_download_leaves_no_file_and_goes_on(server: Server, into: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from zoo.plugin import download\n"
        "download(sys.argv[1], pathlib.Path(sys.argv[2]), "
        "progress=lambda done, total: done > 0 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run([sys.executable, "-c", code, server.url, str(into)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not into.exists()
    download(server.url, into, sha256=DIGEST)
    assert_whole(into)


def test_progress_is_one_line_and_only_on_a_terminal(
    server: Server, into: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    download(server.url, into)
    assert capsys.readouterr() == ("", "")
    into.unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    download(server.url, into)
    out, err = capsys.readouterr()
    assert out == ""
    assert "0.3 of 0.3 MB" in err
    assert err.count("\n") == 1


# Archives


def make_zip(path: Path, members: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            info = zipfile.ZipInfo(name.rstrip("#"))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, content)
    return path


def make_tar(path: Path, members: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname, info.mode = len(content), tarfile.REGTYPE, "/etc/passwd", 0o4755
            if name == members[-1][0]:
                info.type = kind
                info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return path


def make_any(kind: str, path: Path, members: list[tuple[str, bytes]]) -> Path:
    if kind == "tar":
        return make_tar(path, members)
    # Zip's own dictionary of names cannot hold one twice.
    names: dict[str, bytes] = {}
    for name, content in members:
        names[name + "#" * (name in names)] = content
    return make_zip(path, names)


def assert_nothing_left(tmp_path: Path, archive: Path) -> None:
    assert [file.name for file in tmp_path.iterdir()] == [archive.name]


GOOD = [("./a/one.txt", b"1" * 100), ("a/b/zwei ü\n.txt", b"22"), ("empty", b"")]


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_archives_unpack_completely(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "archive"
    archive = make_zip(path, {**dict(GOOD), "folder/": b""}) if mode == "zip" else make_tar(path, GOOD, mode=mode)
    into = tmp_path / "below" / "out"
    assert extract(archive, into) == into
    assert {str(f.relative_to(into)): f.read_bytes() for f in into.rglob("*") if f.is_file()} == {
        "a/one.txt": b"1" * 100,
        "a/b/zwei ü\n.txt": b"22",
        "empty": b"",
    }
    assert not any(file.stat().st_mode & 0o7111 for file in into.rglob("*") if file.is_file())
    assert [file.name for file in into.parent.iterdir()] == ["out"]
    archive.unlink()
    assert extract(archive, into) == into


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["../x"], "leads out"),
        (["a/../../x"], "leads out"),
        (["a/.."], "leads out"),
        (["/tmp/x"], "absolute"),
        (["C:/x"], "absolute"),
        (["C:x"], "absolute"),
        (["a\\x"], "backslash"),
        (["..\\x"], "backslash"),
        (["x", "x"], "twice"),
        (["x", "./x"], "twice"),
        (["x", "x/y"], "twice"),
        (["x/y", "x"], "twice"),
        (["Cat/1.jpg", "cat/2.jpg"], "case"),
        (["1.jpg", "1.JPG"], "case"),
        (["é", "e\u0301"], "case or the encoding"),
        (["n" * 300], "cannot write"),
    ],
    ids=str,
)
def test_names_that_do_harm_are_refused(tmp_path: Path, kind: str, names: list[str], words: str) -> None:
    archive = make_any(kind, tmp_path / "archive", [("good", b"1"), *((name, b"2") for name in names)])
    text = refusal(lambda: extract(archive, tmp_path / "out"))
    assert words in text
    assert repr(names[-1]) in text
    assert_nothing_left(tmp_path, archive)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.FIFOTYPE, "FIFO"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
    ],
)
def test_links_and_devices_in_tars_are_refused(tmp_path: Path, kind: bytes, words: str) -> None:
    archive = make_tar(tmp_path / "archive", [("good", b"1"), ("evil", b"")], kind)
    text = refusal(lambda: extract(archive, tmp_path / "out"))
    assert words in text
    assert "'evil'" in text
    assert_nothing_left(tmp_path, archive)


@pytest.mark.parametrize(("mode", "words"), [(0o120777, "symbolic link"), (0o010644, "FIFO"), (0o020644, "device")])
def test_links_and_devices_in_zips_are_refused(tmp_path: Path, mode: int, words: str) -> None:
    archive = make_zip(tmp_path / "archive", {"good": b"1", "evil": b"/etc/passwd"}, {"evil": mode})
    assert words in refusal(lambda: extract(archive, tmp_path / "out"))
    assert_nothing_left(tmp_path, archive)


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "archive", {"evilX.txt": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"evilX", b"evil\0"))
    assert "NUL" in refusal(lambda: extract(archive, tmp_path / "out"))
    assert_nothing_left(tmp_path, archive)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, kind: str) -> None:
    bomb = make_any(kind, tmp_path / "archive", [("good", b"1"), ("zeros", bytes(5_000_000))])
    assert 100 * bomb.stat().st_size < 5_000_000
    for limits in ({}, {"max_bytes": 10, "max_ratio": 1e9}):
        text = refusal(lambda limits=limits: extract(bomb, tmp_path / "out", **limits))  # type: ignore[misc]
        assert "'zeros'" in text
        assert "limit" in text
        assert_nothing_left(tmp_path, bomb)
    assert "more than 1" in refusal(lambda: extract(bomb, tmp_path / "out", max_members=1, max_ratio=1e9))
    extract(bomb, tmp_path / "out", max_ratio=1e9)


def test_a_few_plain_files_are_no_bomb(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "archive", {"plain.bmp": bytes(900_000)})
    assert 100 * archive.stat().st_size < 900_000
    extract(archive, tmp_path / "out")


def test_zeros_after_the_end_of_a_tar_are_counted(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "archive", [("good", b"1")])
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(50_000_000)))
    assert "limit" in refusal(lambda: extract(archive, tmp_path / "out"))
    assert_nothing_left(tmp_path, archive)


def test_a_tar_with_an_endless_name_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w:gz", format=tarfile.GNU_FORMAT) as opened:
        opened.addfile(tarfile.TarInfo("n" * 2_000_000))
    assert "header" in refusal(lambda: extract(archive, tmp_path / "out"))
    assert_nothing_left(tmp_path, archive)


def test_members_that_share_bytes_and_lying_sizes_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with zipfile.ZipFile(make_zip(archive, {"one": b"1" * 50, "two": b"1" * 50}), "a") as opened:
        opened.getinfo("two").header_offset = opened.getinfo("one").header_offset
        opened.writestr("three", b"")
    assert "shares its bytes" in refusal(lambda: extract(archive, tmp_path / "out"))
    archive.unlink()
    with zipfile.ZipFile(make_zip(archive, {"one": b"1" * 50}), "a") as opened:
        opened.getinfo("one").file_size = 40
        opened.writestr("three", b"")
    assert "damaged" in refusal(lambda: extract(archive, tmp_path / "out"))
    assert_nothing_left(tmp_path, archive)


def damaged(kind: str) -> Iterator[bytes]:
    """Every kind of archive, cut and with one byte turned, at many places."""
    content = random.Random(1).randbytes(3000)
    whole = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr("a/one", content)
            archive.writestr("two", content)
    else:
        with tarfile.open(fileobj=whole, mode="w") as tar:
            for name in ("a/one", "two"):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    plain = whole.getvalue()
    data = gzip.compress(plain) if kind == "gz" else bz2.compress(plain) if kind == "bz2" else plain
    # What a plain tar has after its two ends is padding.
    length = 2 * (512 + 3072) + 512 if kind == "tar" else len(data)
    for cut in range(0, length - 1, length // 40):
        yield data[:cut]


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "bz2"])
def test_a_cut_archive_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "archive"
    for data in damaged(kind):
        archive.write_bytes(data)
        assert str(archive) in refusal(lambda: extract(archive, tmp_path / "out"))
        assert_nothing_left(tmp_path, archive)


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz"])
def test_an_archive_with_turned_bits_never_shows_in_part(tmp_path: Path, kind: str) -> None:
    members = [("a/one", random.Random(1).randbytes(2000)), ("two", random.Random(2).randbytes(2000))]
    path = tmp_path / "archive"
    whole = (make_zip(path, dict(members)) if kind == "zip" else make_tar(path, members, mode=kind)).read_bytes()
    for place in random.Random(3).sample(range(min(len(whole), 6000)), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(DatasetInvalid):
            out = extract(path, tmp_path / "out")
            # A plain tar has no checksum of its content.
            assert sorted(f.stat().st_size for f in out.rglob("*") if f.is_file()) == [2000, 2000]
            subprocess.run(["rm", "-r", str(out)], check=True)
        assert_nothing_left(tmp_path, path)


@pytest.mark.parametrize("content", [b"", b"text", b"<html>404</html>", b"PK\x03\x04", b"\x1f\x8b"], ids=str)
def test_other_files_are_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    assert "zip" in refusal(lambda: extract(archive, tmp_path / "out"))
    assert "no file" in refusal(lambda: extract(tmp_path / "nowhere", tmp_path / "out"))
    assert_nothing_left(tmp_path, archive)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "archive", dict(GOOD))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(EnvironmentBroken, match="free space"):
        extract(archive, tmp_path / "out")
    assert_nothing_left(tmp_path, archive)


def test_killed_midway_nothing_stands_under_the_name(tmp_path: Path) -> None:
    pipe = make_tar(tmp_path / "archive", [(str(n), random.Random(n).randbytes(500)) for n in range(3000)])
    code = "import pathlib, sys; from zoo.plugin import extract; extract(*map(pathlib.Path, sys.argv[1:]))"
    running = subprocess.Popen([sys.executable, "-c", code, str(pipe), str(tmp_path / "out")])
    began = time.monotonic()
    while not (found := list(tmp_path.glob(".out.*/5*"))) and time.monotonic() - began < 60:
        time.sleep(0.001)
    running.kill()
    running.wait()
    assert found
    assert not (tmp_path / "out").exists() or len(list((tmp_path / "out").iterdir())) == 3000
    assert len(list(extract(pipe, tmp_path / "out").iterdir())) == 3000


def test_the_helpers_are_light_to_import() -> None:
    code = "import sys, zoo.disk.fetch, zoo.disk.unpack; "
    code += "print({'urllib.request', 'http.client', 'tarfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
