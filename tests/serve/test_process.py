"""The processes: they start only with a proven model, swap it, survive a death, count together, end without loss."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from zoo.runtime.record import read_record

from .conftest import expected, make_artifact, picture, serving, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Answer
    from .conftest import Served

RED = picture(250, 40, 10)
PNG = {"content-type": "image/png"}


def ask(served: Served, data: bytes = RED) -> httpx.Response:
    return httpx.post(f"{served.url}/v1/predict", content=data, headers=PNG, trust_env=False, timeout=20)


def wait_for(what: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_command_prints_one_document_and_ends_with_0(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "serve", str(colours), "--port", "0", "--json", "--drain", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        said = ""
        while not said.endswith("}\n"):
            said += process.stdout.readline()
        ready = json.loads(said)
        assert ready["pid"] == process.pid
        answer = httpx.post(f"{ready['url']}/v1/predict", content=RED, headers=PNG, trust_env=False)
        assert answer.json()["model"] == ready["model"]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "", "")


def test_a_taken_port_is_one_line(cli: Callable[..., Answer], colours: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        answer = cli("serve", colours, "--port", other.getsockname()[1])
    assert answer.code == 1
    assert "cannot listen on 127.0.0.1 port" in answer.error
    assert "--port" in answer.error


def test_a_missing_extra_is_one_line(
    cli: Callable[..., Answer], colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.cli.serve.NEEDED", ("fastapi", "no_such_package"))
    answer = cli("serve", colours)
    assert answer.code == 1
    assert 'needs no-such-package; run `pip install "edgezoo[serve]"`' in answer.error


@pytest.mark.parametrize("fault", ["changed", "refused", "answers"])
def test_what_is_not_proven_is_not_served(tmp_path: Path, fault: str) -> None:
    folder = make_artifact(tmp_path / "bad")
    if fault == "changed":
        file = folder / "model.onnx"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif fault == "refused":
        folder = folder.rename(tmp_path / "bad.rejected")
    else:
        make_wrong(folder)
    command = [sys.executable, "-m", "zoo", "serve", str(folder), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    lines = sorted(set(done.stderr.splitlines()))
    assert done.returncode == (3 if fault == "answers" else 1), done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("zoo: ")
    assert {"changed": "checksum", "refused": "refused by its proof", "answers": "NOT the answers"}[fault] in lines[0]


def make_wrong(folder: Path) -> None:
    """Give an artifact the golden vectors of another one; its checksums are right."""
    from zoo.records.artifact import Artifact, checksums, write_manifest

    other = make_artifact(folder.parent / "other", order=(1, 2, 0))
    shutil.copy(other / "golden.npz", folder / "golden.npz")
    manifest = Artifact(folder).manifest()
    write_manifest(folder, manifest.model_copy(update={"files": checksums(folder)}))


def test_a_link_that_moves_swaps_the_model_in_all_processes(tmp_path: Path) -> None:
    good, other = make_artifact(tmp_path / "one"), make_artifact(tmp_path / "two", order=(2, 1, 0))
    bad = make_artifact(tmp_path / "bad", order=(1, 0, 2))
    make_wrong(bad)
    link = tmp_path / "current"
    link.symlink_to(good)
    classes: dict[str, str] = {}
    stop = threading.Event()
    with serving(link, tmp_path, workers=2) as served, concurrent.futures.ThreadPoolExecutor() as pool:
        first = served.model

        def keep_asking() -> set[tuple[str, str]]:
            seen = set()
            while not stop.is_set():
                values = ask(served).json()
                seen.add((values["model"], values["predictions"][0]["top"][0]["class"]))
            return seen

        asking = [pool.submit(keep_asking) for _ in range(2)]
        try:
            point(link, bad)
            wait_for(lambda: metric(served, 'zoo_swaps_total{outcome="refused"}') == 2)
            assert {ask(served).json()["model"] for _ in range(10)} == {first}
            assert "goes on answering" in served.stderr.read_text()
            point(link, other)
            wait_for(lambda: metric(served, 'zoo_swaps_total{outcome="swapped"}') == 2)
            assert {ask(served).json()["predictions"][0]["top"][0]["class"] for _ in range(10)} == {"blue"}
        finally:
            stop.set()
        for model, name in set().union(*(one.result() for one in asking)):
            assert classes.setdefault(model, name) == name
        assert len(classes) == 2


def point(link: Path, at: Path) -> None:
    """Move a link, atomically."""
    new = link.with_name("new")
    new.symlink_to(at)
    new.replace(link)


def metric(served: Served, name: str) -> float:
    text = httpx.get(f"{served.url}/metrics", trust_env=False).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_processes_count_together_and_one_that_dies_is_replaced(colours: Path, tmp_path: Path) -> None:
    with serving(colours, tmp_path, workers=2) as served:
        for _ in range(30):
            assert ask(served).status_code == 200
        assert metric(served, "zoo_images_total") == 30
        assert metric(served, "zoo_ready_workers") == 2
        dead = served.workers()[0]
        os.kill(dead, signal.SIGKILL)
        wait_for(lambda: metric(served, "zoo_ready_workers") == 2 and dead not in served.workers())
        # What it had counted is not forgotten.
        assert metric(served, "zoo_images_total") == 30
        assert ask(served).status_code == 200
        assert f"process {dead} of the server ended" in served.stderr.read_text()
        assert served.end() == 0


def test_processes_end_when_the_supervisor_is_killed(colours: Path, tmp_path: Path) -> None:
    with serving(colours, tmp_path, workers=2) as served:
        workers = served.workers()
        served.process.kill()
        served.process.wait()
        wait_for(lambda: not any(alive(pid) for pid in workers))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_drain_is_told_before_it_ends(colours: Path, tmp_path: Path) -> None:
    with (
        serving(colours, tmp_path, drain_seconds=1.0) as served,
        httpx.Client(base_url=served.url, trust_env=False) as kept,
    ):
        assert kept.get("/readyz").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        answer = kept.get("/readyz")
        assert (answer.status_code, answer.json(), answer.headers["connection"]) == (
            503,
            {"status": "draining"},
            "close",
        )
        # New connections are still answered, for the balancers that have not looked yet.
        assert ask(served).status_code == 200
        assert served.process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            ask(served)


@pytest.mark.skipif(sys.platform != "linux", reason="a packet filter of Linux")
def test_a_sealed_socket_keeps_who_is_connected_and_takes_nobody_else() -> None:
    from zoo.deploy.serve.process import seal

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with socket.create_connection(listening.getsockname()) as early:
            early.sendall(b"x")
            seal(listening)
            with pytest.raises(TimeoutError):
                socket.create_connection(listening.getsockname(), timeout=0.3)
            with listening.accept()[0] as accepted:
                assert accepted.recv(1) == b"x"
                accepted.sendall(b"y")
                assert early.recv(1) == b"y"


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_loses_nothing_that_was_let_in(colours: Path, tmp_path: Path, workers: int) -> None:
    """Clients on new and on kept connections ask until they are not let in any more."""
    with serving(colours, tmp_path, workers=workers, drain_seconds=0.3) as served:

        def one(number: int) -> tuple[int, list[str]]:
            done = 0
            lost: list[str] = []
            with httpx.Client(base_url=served.url, trust_env=False, timeout=20) as client:
                while True:
                    colour = (number * 10 % 256, done % 256, 90)
                    try:
                        answer = client.post("/v1/predict", content=picture(*colour), headers=PNG)
                    except httpx.ConnectError:
                        return done, lost
                    except httpx.TransportError as exc:
                        lost.append(f"{type(exc).__name__} {exc}")
                        continue
                    assert answer.status_code == 200, answer.text
                    assert np.allclose(told(answer.json()["predictions"][0]), expected(*colour), atol=1e-4)
                    done += 1
                    if number % 2:
                        client.close()
                        client = httpx.Client(base_url=served.url, trust_env=False, timeout=20)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            asking = [pool.submit(one, number) for number in range(16)]
            time.sleep(0.8)
            served.process.send_signal(signal.SIGTERM)
            found = [each.result() for each in asking]
        assert served.process.wait(20) == 0
    assert sum(done for done, _ in found) > 16
    assert not [text for _, lost in found for text in lost]


@pytest.mark.parametrize("name", ["log.jsonl", "log.sqlite"])
def test_the_log_has_every_answer(colours: Path, tmp_path: Path, name: str) -> None:
    log = tmp_path / "logs" / name
    with serving(colours, tmp_path, workers=2, log=str(log)) as served:
        for red in range(20):
            assert ask(served, picture(red, 200, 0)).status_code == 200
        assert served.end() == 0
    entries = list(read_record(log))
    assert len(entries) == 20
    assert {(e["model"], e["prediction"]) for e in entries} == {(served.model, "green")}


def test_a_log_that_cannot_be_written_stops_no_answer(colours: Path, tmp_path: Path) -> None:
    broken = tmp_path / "log.sqlite"
    broken.write_bytes(b"this is no database, " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(broken).execute("SELECT 1 FROM sqlite_master")
    with serving(colours, tmp_path, log=str(broken)) as served:
        for _ in range(3):
            assert ask(served).status_code == 200
        wait_for(lambda: metric(served, 'zoo_log_entries_total{outcome="failed"}') == 3)
        assert served.stderr.read_text().count("cannot be written") == 1
