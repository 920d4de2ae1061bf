"""Nothing phones home: train and export with the network cut, and the kernel itself saw no attempt to leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.records.artifact import Artifact

# Python's own hook sees every name look-up and connection of Python code; the kernel's counters see the C++ libraries'
# too: in a network namespace with nothing in it, each attempt to leave counts as a packet without a route.
WORK = """
import json, os, sys
from pathlib import Path

attempts = []

def hook(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        attempts.append(f"{event} {arguments[0]}")
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        attempts.append(f"{event} {arguments[1]}")

def left():
    lines = Path("/proc/net/snmp").read_text().splitlines() + Path("/proc/net/snmp6").read_text().splitlines()
    ip = dict(zip(lines[0].split()[1:], map(int, lines[1].split()[1:])))
    ip6 = {l.split()[0]: int(l.split()[1]) for l in lines if l.startswith("Ip6")}
    return ip["OutRequests"] + ip["OutNoRoutes"] + ip6["Ip6OutNoRoutes"]

sys.addaudithook(hook)
from zoo.cli.app import app

def zoo(*arguments):
    try:
        app(list(arguments))
    except SystemExit as exc:
        assert not exc.code, (arguments, exc.code)

begin = left()
zoo("train", "tiny", "--dataset", "digits", "--epochs", "1", "--name", "n", "--json")
zoo("export", "n", "--onnx", "--int8", "--max-drop", "100", "--min-speedup", "0", "--json")
zoo("export", "n", "--torchscript", "--max-drop", "100", "--json")
zoo("predict", "image.png", "--using", "n/onnx-int8", "--json")
result = {"attempts": list(attempts), "left": left() - begin}
import socket
try:
    socket.create_connection(("192.0.2.1", 9), timeout=1)
except OSError:
    pass
result["control"] = {"attempts": len(attempts), "left": left() - begin}
Path("result.json").write_text(json.dumps(result))
"""


def isolated() -> list[str]:
    """The command that runs another in an empty network namespace; as root, or through a user namespace."""
    command = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.fail("this test needs Linux network namespaces (util-linux' unshare); run it where they are allowed")
    return command


@pytest.mark.slow
def test_train_export_and_predict_make_no_connection_attempt(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8), 99).save(tmp_path / "image.png")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "NO_ALBUMENTATIONS", "HF_"))}
    env["HOME"] = str(tmp_path)
    done = subprocess.run(
        [*isolated(), sys.executable, "-c", WORK], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["attempts"] == []
    assert result["left"] == 0
    assert result["control"]["attempts"] > 0, "the hook sees nothing: this test proves nothing"
    assert result["control"]["left"] > 0, "the counters see nothing: this test proves nothing"


def test_a_machine_without_a_gpu_gets_no_warning(onnx_artifact: Artifact, tmp_path: Path) -> None:
    code = "import numpy, pathlib, sys; from zoo.runtime.session import OnnxPredictor;"
    code += "print(OnnxPredictor(pathlib.Path(sys.argv[1]))(numpy.zeros((3, 32, 32, 3), numpy.uint8)).shape)"
    command = [sys.executable, "-W", "error", "-c", code, str(onnx_artifact.path / "model.onnx")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(3, 10)\n", "")
