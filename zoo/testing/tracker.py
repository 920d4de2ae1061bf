"""What a tracker promises: it hears a run, keeps it, and disturbs nothing."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zoo.disk.files import sha256
from zoo.testing.contract import Contract, changes
from zoo.testing.fresh import Outcome, fresh, watching_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONFIG: dict[str, object] = {
    "model": "tiny",
    "dataset": "digits",
    "dataset_options": {"variant": "full"},
    "epochs": 3,
    "lr": 0.002,
    "pretrained": False,
    "trackers": ["this"],
}
COUNTS = (1, 12, 24)
"""Epochs of the runs whose sizes are compared; many, since what a library writes beside them varies by some bytes."""
# Ever shorter numbers: a tracker that keeps only the last of them keeps less and less.
EPOCHS: tuple[dict[str, float | int], ...] = tuple(
    {
        "epoch": epoch,
        "lr": round(0.0023456789 / epoch, 12 - 3 * epoch),
        "train_loss": round(2.0123456789 / epoch, 10 - 3 * epoch),
        "train_top1": round(0.3123456789 * epoch, 10 - 3 * epoch),
        "val_loss": round(2.1123456789 / epoch, 10 - 3 * epoch),
        "val_top1": round(0.3223456789 * epoch, 10 - 3 * epoch),
        "seconds": 1.5,
        "images_per_second": 800.0,
        "best": True,
    }
    for epoch in (1, 2, 3)
)
FINAL: dict[str, object] = {"epochs": 3, "best_val_top1": 0.93, "test": {"top1": 0.92, "per_class": {"0": {"f1": 0.9}}}}
REPORT: dict[str, object] = {"accepted": True, "artifact_top1": 0.93, "latency_ms": {"artifact": {"p50": 0.5}}}
OWN_FILES = ("run.json", "metrics.jsonl", "best.safetensors")


class TrackerContract(Contract):
    """The promises of a tracker; point its `options` to somewhere local if it would call a server."""

    kind = "tracker"

    @pytest.fixture
    def keeps_in_run(self) -> bool:
        """Whether it keeps what it hears in the run's folder; one that tells a server or a terminal does not."""
        return True

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        """A run's folder with files of zoo's own."""
        return make_run(tmp_path / "run")

    @pytest.fixture
    def make(self, loaded: Any, options: dict[str, Any]) -> Callable[[], Any]:
        """Make a tracker as zoo does."""
        return lambda: loaded(**options)

    @pytest.fixture
    def heard(self, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
        """What came of a whole run in a new process."""
        folder = tmp_path_factory.mktemp("heard")

        def hear_it() -> Outcome:
            make_run(folder / "run")
            return fresh(hear, self.name, options, str(folder / "run"), folder=folder)

        return self.once("heard", hear_it)

    def test_it_hears_a_whole_run(self, make: Callable[[], Any], run: Path) -> None:
        """`start`, each `epoch`, `end`; an `artifact` between a start and an end of their own, if it has that."""
        tell(make(), run)
        tracker = make()
        tracker.start(run, CONFIG)
        if hasattr(tracker, "artifact"):
            tracker.artifact(run / "export" / "onnx-fp32", REPORT)
        tracker.end({})

    def test_it_keeps_what_it_hears(self, heard: Outcome, keeps_in_run: bool) -> None:
        """Every epoch's numbers can be found in the run's folder afterwards."""
        kept = heard.result["kept"]
        if keeps_in_run:
            assert kept, f"after {COUNTS[-1]} epochs the run's folder holds nothing new; is `keeps_in_run` False?"
            sizes = heard.result["sizes"]
            assert sizes == sorted(set(sizes)), "what it keeps does not grow with each epoch"
        else:
            assert not kept, f"it keeps {kept[0]} in the run's folder, and `keeps_in_run` is False"

    def test_it_writes_only_below_the_run(self, heard: Outcome) -> None:
        """Not in the working folder, not in the home."""
        run = heard.result["run"]
        strays = [path for path in heard.result["written"] if path != run and not path.startswith(f"{run}/")]
        assert not strays, f"it wrote {strays[0]}, outside the run's folder"

    def test_it_says_nothing_on_stdout(self, heard: Outcome) -> None:
        """What programs read stands there."""
        assert not heard.stdout, f"it printed {heard.stdout[:80]!r} on stdout"

    def test_zoo_s_own_files_are_left_as_they_were(self, make: Callable[[], Any], run: Path) -> None:
        """run.json, metrics.jsonl and the weights."""
        before = {name: sha256(run / name) for name in OWN_FILES}
        tell(make(), run)
        changed = [name for name, was in before.items() if not (run / name).is_file() or sha256(run / name) != was]
        assert not changed, f"it changed {changed[0]}"

    def test_a_run_that_goes_on_loses_nothing(self, make: Callable[[], Any], run: Path, keeps_in_run: bool) -> None:
        """After a stop, another process starts on the same folder: what was kept stays."""
        tell(make(), run, epochs=EPOCHS[:2], final={})
        before = kept_files(run)
        tell(make(), run, epochs=EPOCHS[2:], final={})
        assert bool(before) == keeps_in_run, f"kept in the run's folder: {list(before) or 'nothing'}"
        after = kept_files(run)
        shrunk = [name for name, size in before.items() if after.get(name, 0) < size]
        assert not shrunk, f"{shrunk[0]} lost what was in it when the run went on"

    def test_a_run_may_end_before_its_first_epoch(self, make: Callable[[], Any], run: Path) -> None:
        """Stopped at once: no epoch, no metrics."""
        tell(make(), run, epochs=(), final={})

    def test_numbers_that_are_not_finite_are_taken(self, make: Callable[[], Any], run: Path) -> None:
        """A loss may be NaN in the epoch that ends a run."""
        tell(make(), run, epochs=({**EPOCHS[0], "train_loss": float("nan"), "val_loss": float("inf")},), final={})

    def test_it_does_nothing_before_the_start(self, loaded: Any, options: dict[str, Any], tmp_path: Path) -> None:
        """Making one only takes note of its options."""
        found = fresh(made, self.name, options, folder=tmp_path, offline=True)
        assert not found.result["written"], f"made but not started, it wrote {found.result['written'][0]}"
        assert not found.stdout

    def test_what_it_is_told_is_left_as_it_was(self, make: Callable[[], Any], run: Path) -> None:
        """The mappings are zoo's."""
        told: list[Any] = [copy.deepcopy(value) for value in (CONFIG, EPOCHS, FINAL)]
        tell(make(), run, config=told[0], epochs=told[1], final=told[2])
        assert told == [CONFIG, EPOCHS, FINAL], "it changed what it was told"

    def test_nothing_of_it_is_left_running(self, make: Callable[[], Any], run: Path) -> None:
        """After `end`, no thread keeps the process alive, and random states and working folder are as before."""
        before = set(threading.enumerate())
        found = changes(lambda: tell(make(), run))
        left = [t.name for t in threading.enumerate() if t not in before and not t.daemon]
        assert not left, f"thread {left[0]} runs on after `end`"
        assert not found, f"it {', '.join(found)}"


def make_run(folder: Path) -> Path:
    """Make a folder with files as a run has them."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"schema": 1}\n')
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in EPOCHS))
    (folder / "best.safetensors").write_bytes(b"weights")
    return folder


def tell(
    tracker: Any,
    run: Path,
    *,
    config: Mapping[str, object] = CONFIG,
    epochs: tuple[Mapping[str, float | int], ...] = EPOCHS,
    final: Mapping[str, object] = FINAL,
) -> None:
    """Tell a tracker a run."""
    tracker.start(run, config)
    for metrics in epochs:
        tracker.epoch(metrics)
    tracker.end(final)


def kept_files(run: Path) -> dict[str, int]:
    """Return name -> size of the files in a run's folder that are not zoo's."""
    files = [p for p in sorted(run.rglob("*")) if p.is_file()]
    return {str(p.relative_to(run)): p.stat().st_size for p in files if p.name not in OWN_FILES}


def filled_bytes(run: Path) -> int:
    """Return how much is in those files; a database's pages grow in steps, and what they do not hold yet is zero."""
    contents = [(run / name).read_bytes() for name in kept_files(run)]
    return sum(len(content) - content.count(0) for content in contents)


def hear(name: str, options: dict[str, Any], run: str) -> dict[str, Any]:
    """Tell a tracker runs of one epoch, and of some more; runs in a new process."""
    from zoo.catalogue import Catalogue

    make = Catalogue.read().get("tracker", name)
    sizes = []
    with watching_writes() as written:
        for count in COUNTS:
            place = Path(run).with_name(f"run-of-{count}") if count < COUNTS[-1] else Path(run)
            if count < COUNTS[-1]:
                make_run(place)
            epochs = tuple({**EPOCHS[number % len(EPOCHS)], "epoch": number + 1} for number in range(count))
            tell(make(**options), place, epochs=epochs)
            sizes.append(filled_bytes(place))
    beside = [str(Path(run).with_name(f"run-of-{count}")) for count in COUNTS[:-1]]
    own = [path for path in written if not path.startswith(tuple(beside))]
    return {"run": run, "written": own, "kept": list(kept_files(Path(run))), "sizes": sizes}


def made(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make a tracker and nothing else; runs in a new process."""
    from zoo.catalogue import Catalogue

    make = Catalogue.read().get("tracker", name)
    with watching_writes() as written:
        make(**options)
    return {"written": written}
