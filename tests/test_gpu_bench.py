"""bench/gpu.py: whatever a row does costs only that row, results are kept, and the page says what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.gpu_rows import packages, page
from bench.gpu_rows.report import DONE, FAILED, NOT_RUN
from bench.gpu_rows.results import SCHEMA, Result, Results
from bench.gpu_rows.runner import Runner
from bench.gpu_rows.table import ROWS, Row, matching

from .conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

BENCH = ROOT / "bench/gpu.py"
HEAVY = ("torch", "timm", "numpy", "onnx", "onnxruntime", "zoo")
FAKES = '''
"""A device that does what devices do."""

import os
import signal
import subprocess
import sys
import time


class OutOfMemoryError(RuntimeError):
    pass


def right(report):
    report.figure("ratio", 0.98765432)
    report.figure("same bits", True)
    report.figure("device", report.device)


def counted(report):
    with open(os.environ["FAKE_CALLS"], "a") as file:
        file.write("x")


def crashes(report):
    report.figure("before", 1)
    os.abort()


def hangs(report):
    # What a row starts must not outlive it.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    report.figure("child", child.pid)
    time.sleep(600)


def out_of_memory(report):
    report.figure("batch", 1024)
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\\nGPU 0 has a total capacity")


def garbage(report):
    print("\\x00 {not json" * 1000)
    report.file.write_text("{not json")


def foreign(report):
    report.file.write_text('{"state": "splendid", "figures": {}}')
    sys.stdout.flush()
    os._exit(0)


def overwritten(report):
    report.file.write_text("[1]")
    os._exit(0)


def partial(report):
    report.figure("first half", 0.5)
    os._exit(0)


def killed(report):
    report.figure("before", 2)
    os.kill(os.getpid(), signal.SIGKILL)


def exits(report):
    print("something was wrong", file=sys.stderr)
    sys.exit(7)


def after(report):
    import atexit

    atexit.register(lambda: os._exit(3))


def absent(report):
    from bench.gpu_rows.report import NotRun

    raise NotRun("torchvision decodes no JPEG on a GPU here")
'''


def row(name: str, **more: Any) -> Row:
    values: dict[str, Any] = {"question": "?", "call": f"fake_rows:{name}", "limit": 60.0, "cards": 0, **more}
    return Row(name=name, **values)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runner]:
    (tmp_path / "fake_rows.py").write_text(FAKES)
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    (tmp_path / "scratch").mkdir()

    def made(**more: Any) -> Runner:
        values = {"folder": tmp_path / "scratch", "budget": 300.0, "paths": (tmp_path,), "note": lambda text: None}
        return Runner(**{**values, **more})

    return made


def results(file: Path | None = None, cards: int = 0) -> Results:
    found = Results(file)
    found.go_on({"cards": [f"Fake {number}" for number in range(cards)], "processor": "Fake CPU"})
    return found


def test_what_a_row_tells_is_kept(runner: Callable[..., Runner]) -> None:
    found = runner().run(row("right", cards=1))
    assert found.state == DONE
    assert found.figures == {"ratio": 0.9877, "same bits": True, "device": "cuda"}
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("name", "reason", "figures"),
    [
        ("crashes", "crashed with SIGABRT", {"before": 1}),
        ("out_of_memory", "out of memory: CUDA out of memory. Tried to allocate 20.00 GiB", {"batch": 1024}),
        ("garbage", "", {}),
        ("foreign", "it wrote no result", {}),
        ("overwritten", "it wrote no result", {}),
        ("partial", "it ended before it was done", {"first half": 0.5}),
        ("killed", "killed by SIGKILL", {"before": 2}),
        ("exits", "exit code 7: something was wrong", {}),
        ("after", "exit code 3: it said nothing", {}),
        ("nowhere", "AttributeError: module 'fake_rows' has no attribute 'nowhere'", {}),
    ],
)
def test_what_a_row_does_costs_only_its_row(
    runner: Callable[..., Runner], name: str, reason: str, figures: dict[str, Any]
) -> None:
    found = results()
    runner().run_all([row(name), row("right")], found)
    # What it prints is nobody's result: a row that printed garbage and then ended well has answered.
    assert found.rows[name].state == (DONE if name == "garbage" else FAILED)
    assert found.rows[name].reason == reason
    assert found.rows[name].figures == figures
    assert found.rows["right"].state == DONE


def test_a_row_that_hangs_is_ended_with_all_that_it_started(runner: Callable[..., Runner]) -> None:
    found = runner().run(row("hangs", limit=3.0))
    assert found.state == FAILED
    assert found.reason == "no end within 3 s"
    child = Path(f"/proc/{found.figures['child']}/stat")
    for _ in range(200):  # a signal takes its time on a busy machine
        if _gone(child):
            break
        time.sleep(0.05)
    assert _gone(child)


def _gone(stat: Path) -> bool:
    """Tell whether a process has ended; it may wait for whoever adopted it to take notice."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def test_what_cannot_be_asked_says_why(runner: Callable[..., Runner]) -> None:
    found = runner().run(row("absent"))
    assert (found.state, found.reason) == (NOT_RUN, "torchvision decodes no JPEG on a GPU here")


@pytest.mark.parametrize(
    ("cards", "needed", "reason"),
    [(0, 1, "no GPU"), (0, 2, "no GPU"), (1, 2, "it takes 2 GPUs, and here is one"), (1, 1, ""), (4, 2, "")],
)
def test_cards_that_are_not_there(runner: Callable[..., Runner], cards: int, needed: int, reason: str) -> None:
    found = results(cards=cards)
    runner().run_all([row("counted", cards=needed)], found)
    assert found.rows["counted"].reason == reason
    assert found.rows["counted"].state == (NOT_RUN if reason else DONE)


def test_a_package_that_is_not_there(runner: Callable[..., Runner]) -> None:
    refused = runner().refused(row("right", needs=("json", "no_such_package")), 0)
    assert refused == Result(state=NOT_RUN, reason="needs no_such_package")


def test_a_budget_that_is_used_up(runner: Callable[..., Runner]) -> None:
    found = results()
    runner(budget=1.0).run_all([row("counted"), row("right", cards=1)], found)
    assert found.rows["counted"] == Result(state=NOT_RUN, reason="no time left")
    # What could not be asked with all the time of the world says that.
    assert found.rows["right"].reason == "no GPU"


def test_the_budget_ends_a_row_before_its_own_limit(runner: Callable[..., Runner]) -> None:
    assert runner(budget=6.0).run(row("hangs", limit=500.0)).reason in ("no end within 5 s", "no end within 6 s")


def test_rows_that_are_there_stay(runner: Callable[..., Runner], tmp_path: Path) -> None:
    calls, file = tmp_path / "calls", tmp_path / "out.json"
    runner().run_all([row("counted"), row("partial"), row("right", cards=1)], results(file))
    kept = results(file)
    states = {name: one.state for name, one in kept.rows.items()}
    assert states == {"counted": DONE, "partial": FAILED, "right": NOT_RUN}
    assert kept.keeps("counted")
    assert kept.keeps("partial")
    assert not kept.keeps("right")
    runner().run_all([row("counted")], kept)
    assert calls.read_text() == "x"
    runner().run_all([row("counted")], kept, again=True)
    assert calls.read_text() == "xx"


def test_each_row_is_on_the_disk_before_the_next_begins(runner: Callable[..., Runner], tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    seen: list[int] = []
    rows = [row("counted"), row("absent")]
    runner(note=lambda text: seen.append(len(json.loads(file.read_text())["rows"]))).run_all(rows, results(file))
    assert seen == [1, 2]


def test_results_of_another_machine_are_not_mixed(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    results(file).add("right", Result(state=DONE))
    with pytest.raises(SystemExit, match="of another machine"):
        results(file, cards=1)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 9, "machine": {}, "rows": {}}'])
def test_a_file_that_is_none_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "out.json").write_text(text)
    with pytest.raises(SystemExit, match="name another --out"):
        Results(tmp_path / "out.json")


def test_the_schema_of_the_results(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    found = results(file, cards=1)
    found.add("step", Result(state=DONE, figures={"zoo over bare": 0.99}, seconds=12.5))
    assert json.loads(file.read_text()) == {
        "schema": SCHEMA,
        "machine": {"cards": ["Fake 0"], "processor": "Fake CPU"},
        "rows": {"step": {"state": "done", "reason": "", "figures": {"zoo over bare": 0.99}, "seconds": 12.5}},
    }
    assert not list(tmp_path.glob("*.part"))


def test_names_and_globs() -> None:
    assert [one.name for one in matching(["onnx-*", "step"], ROWS)] == ["step", "onnx-cuda", "onnx-tensorrt"]
    assert matching(None, ROWS) == list(ROWS.values())
    with pytest.raises(SystemExit, match="no row is named 'stepp'"):
        matching(["stepp"], ROWS)


def test_every_row_has_its_function_and_the_cards_have_nine_minutes() -> None:
    for one in ROWS.values():
        module, _, function = one.call.partition(":")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert f"\ndef {function}(report: Report) -> None:" in source, one.name
    assert all(one.limit < 540 for one in ROWS.values())
    # Rows that a machine without GPUs answers, in the two minutes that they have there.
    assert all(one.limit <= 60 for one in ROWS.values() if not one.cards)


def test_the_page_is_what_the_results_give() -> None:
    text = (ROOT / "docs/gpu.md").read_text()
    assert text == page.with_results(text, Results(ROOT / "docs/gpu.json"))


def test_what_is_written_by_hand_stays(tmp_path: Path) -> None:
    marks = [
        "# A title",
        *(begin + "from before" + end for begin, end in (page.RESULTS, page.IMPORTS)),
        "End",
    ]
    found = results(cards=1)
    found.add("step", Result(state=FAILED, reason="crashed with SIGABRT", figures={"told": "a | b"}))
    made = page.with_results("\n\n".join(marks), found)
    assert made.startswith("# A title\n")
    assert made.endswith("\nEnd")
    assert "from before" not in made
    assert "**failed: crashed with SIGABRT**<br>told: a \\| b" in made
    with pytest.raises(SystemExit, match="no lines"):
        page.with_results("nothing", found)


def test_what_is_taken_along_is_small_and_every_import_is_told() -> None:
    assert packages.megabytes() < packages.LIMIT
    needed = {module for one in ROWS.values() for module in one.needs}
    assert needed == set(packages.BY_MODULE)
    places = {package.place for package in packages.PACKAGES if set(package.modules) & set(ROWS["step"].needs)}
    assert places == {packages.EXPECTED, packages.TAKEN}


def test_zoo_is_found_where_it_is_not_installed(tmp_path: Path) -> None:
    # Without site-packages, as on a machine that has only the tree.
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from bench.gpu_rows.packages import made_known\n"
        "sys.path.insert(0, str(made_known(Path(sys.argv[1]), Path(sys.argv[2]))))\n"
        "import importlib.metadata as m\n"
        "print(sorted(e.name for e in m.distribution('edgezoo').entry_points if e.group == 'zoo.exporters'))"
    )
    command = [sys.executable, "-S", "-c", code, str(ROOT), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "['onnx', 'torchscript']"


def test_the_command_itself_imports_nothing_heavy() -> None:
    code = "import sys, runpy; sys.argv[1:] = ['--list']; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code.replace("sys.argv[0]", repr(str(BENCH)))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.splitlines()[0].split()[0] == next(iter(ROWS))


BLOCKED = """
import importlib.util, sys
from bench.gpu_rows.packages import BY_MODULE
from bench.gpu_rows.table import ROWS

row = ROWS[sys.argv[1]]
absent = set(BY_MODULE) - set(row.needs)
find = importlib.util.find_spec


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"absent: {name}", name=name)


# PyTorch looks for some of them only to know whether they are there.
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] in absent else find(name, *rest)
sys.meta_path.insert(0, Absent())
sys.argv = ["child", row.call, *sys.argv[2:], *(["rehearsal"] if row.cards else [])]
from bench.gpu_rows.child import main

main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["devices", "providers", "binding-cpu", "resume", "nccl", "fp16", "files"])
def test_a_row_imports_nothing_that_it_does_not_tell(tmp_path: Path, name: str) -> None:
    """And, of those for a GPU, its code runs, as far as a processor can run it."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-c", BLOCKED, name, str(out), str(tmp_path)]
    environment = {**os.environ, "ZOO_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(out.read_text())["state"] == DONE


@pytest.mark.slow
def test_the_real_command_without_a_card(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(BENCH), "--only", "providers", "resume-cpu", "step", "--out", str(out), "--json"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads(out.read_text())
    assert told["machine"]["cards"] == []
    states = {name: one["state"] for name, one in told["rows"].items()}
    assert states == {"providers": DONE, "resume-cpu": DONE, "step": NOT_RUN}
    assert told["rows"]["step"]["reason"] == "no GPU"
    assert told["rows"]["resume-cpu"]["figures"]["stopped and resumed: same bits"] is True
    assert "asked for CUDAExecutionProvider" in told["rows"]["providers"]["figures"]
