"""Trackers that break one promise each, named after what is wrong, and a good one."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any


class good:
    """Write one line an epoch.

    Args:
        file: Its name, in the run's folder.
    """

    def __init__(self, *, file: str = "log.txt") -> None:
        self.file = file

    def start(self, run: Path, config: Any) -> None:
        self.log = run / self.file
        self.log.touch()

    def epoch(self, metrics: Any) -> None:
        self.write(json.dumps(dict(metrics)))

    def end(self, metrics: Any) -> None:
        self.write(json.dumps(dict(metrics)))

    def write(self, line: str) -> None:
        with self.log.open("a") as log:
            log.write(line + "\n")


class remote(good):
    """Tell somebody else, for tests with `keeps_in_run` False."""

    def start(self, run: Path, config: Any) -> None: ...
    def write(self, line: str) -> None: ...


# What it hears.


class wants_a_metric_that_is_not_there(good):
    def epoch(self, metrics: Any) -> None:
        self.write(str(metrics["val_auc"]))


class has_no_end(good):
    end = None  # type: ignore[assignment]


class an_artifact_comes_too_late_for_it(good):
    handle: Any = None

    def epoch(self, metrics: Any) -> None:
        self.handle = self.log.open("a")
        self.handle.close()

    def artifact(self, folder: Path, report: Any) -> None:
        self.handle.write(folder.name)


class keeps_nothing(remote):
    pass


class keeps_only_the_last_epoch(good):
    def epoch(self, metrics: Any) -> None:
        self.log.write_text(json.dumps(metrics))

    def end(self, metrics: Any) -> None: ...


class keeps_only_the_end(good):
    def epoch(self, metrics: Any) -> None: ...


class keeps_only_its_first_epoch(good):
    def epoch(self, metrics: Any) -> None:
        if metrics["epoch"] == 1:
            super().epoch(metrics)


# Where it writes.


class writes_into_the_working_folder(good):
    def epoch(self, metrics: Any) -> None:
        Path("log.txt").write_text("epoch")


class writes_beside_the_run(good):
    def start(self, run: Path, config: Any) -> None:
        self.log = run / ".." / "all-runs.txt"


class prints_each_epoch(good):
    def epoch(self, metrics: Any) -> None:
        print(metrics["epoch"])


class writes_to_descriptor_one(good):
    def end(self, metrics: Any) -> None:
        os.write(1, b"done\n")


class adds_a_line_to_the_metrics(good):
    def end(self, metrics: Any) -> None:
        with (self.log.parent / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics))


class signs_the_run(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), "tracker": "me"}))


class moves_the_weights(good):
    def end(self, metrics: Any) -> None:
        (self.log.parent / "best.safetensors").rename(self.log.parent / "uploaded.safetensors")


class begins_with_an_empty_file(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        self.log.write_text("")


class clears_its_folder_at_the_start(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        self.log.unlink()
        self.log = run / f"log-{time.monotonic_ns()}.txt"
        for old in run.glob("log-*.txt"):
            old.unlink()
        self.log.touch()


# What a run may be.


class divides_by_the_epochs(good):
    epochs = 0

    def epoch(self, metrics: Any) -> None:
        self.epochs += 1

    def end(self, metrics: Any) -> None:
        self.write(f"{1 / self.epochs}")


class wants_the_final_accuracy(good):
    def end(self, metrics: Any) -> None:
        if not hasattr(self, "loss"):
            self.write(str(metrics["best_val_top1"]))

    def epoch(self, metrics: Any) -> None:
        self.loss = metrics["train_loss"]


class writes_strict_json(good):
    def epoch(self, metrics: Any) -> None:
        self.write(json.dumps(metrics, allow_nan=False))


class rounds_to_whole_numbers(good):
    def epoch(self, metrics: Any) -> None:
        self.write(str([int(value) for value in metrics.values()]))


# What it must not touch.


class opens_its_file_when_made(good):
    def __init__(self) -> None:
        super().__init__()
        Path("tracker.log").touch()
        Path("tracker.log").write_text("made")


class prints_when_made(good):
    def __init__(self) -> None:
        super().__init__()
        print("tracking")


class calls_when_made(good):
    def __init__(self) -> None:
        super().__init__()
        socket.getaddrinfo("localhost", 80)


class adds_the_time_to_the_metrics(good):
    def epoch(self, metrics: Any) -> None:
        metrics["time"] = time.time()
        super().epoch(metrics)


class takes_the_options_apart(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        config["dataset_options"].clear()


class takes_from_the_final_metrics(good):
    def end(self, metrics: Any) -> None:
        metrics.pop("test", None)


class leaves_a_thread(good):
    def end(self, metrics: Any) -> None:
        threading.Thread(target=time.sleep, args=(1.5,)).start()


class moves_into_the_run(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        os.chdir(run)


class draws_a_name_from_a_seed(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        random.seed(0)
        self.write(f"run-{random.randrange(1000)}")


class names_the_run_in_the_environment(good):
    def start(self, run: Path, config: Any) -> None:
        super().start(run, config)
        os.environ["TRACKED_RUN"] = str(run)


BROKEN = {
    "test_it_hears_a_whole_run": (
        "wants_a_metric_that_is_not_there",
        "has_no_end",
        "an_artifact_comes_too_late_for_it",
    ),
    "test_it_keeps_what_it_hears": (
        "keeps_nothing",
        "keeps_only_the_last_epoch",
        "keeps_only_the_end",
        "keeps_only_its_first_epoch",
    ),
    "test_it_writes_only_below_the_run": (
        "writes_into_the_working_folder",
        "writes_beside_the_run",
    ),
    "test_it_says_nothing_on_stdout": ("prints_each_epoch", "writes_to_descriptor_one"),
    "test_zoo_s_own_files_are_left_as_they_were": (
        "adds_a_line_to_the_metrics",
        "signs_the_run",
        "moves_the_weights",
    ),
    "test_a_run_that_goes_on_loses_nothing": ("begins_with_an_empty_file", "clears_its_folder_at_the_start"),
    "test_a_run_may_end_before_its_first_epoch": ("divides_by_the_epochs", "wants_the_final_accuracy"),
    "test_numbers_that_are_not_finite_are_taken": ("writes_strict_json", "rounds_to_whole_numbers"),
    "test_it_does_nothing_before_the_start": ("opens_its_file_when_made", "prints_when_made", "calls_when_made"),
    "test_what_it_is_told_is_left_as_it_was": (
        "adds_the_time_to_the_metrics",
        "takes_the_options_apart",
        "takes_from_the_final_metrics",
    ),
    "test_nothing_of_it_is_left_running": (
        "leaves_a_thread",
        "moves_into_the_run",
        "draws_a_name_from_a_seed",
        "names_the_run_in_the_environment",
    ),
    "test_it_says_what_it_is": ("only_a_signature_for_a_docstring",),
}
"""Promise -> what breaks it."""
FAULTS = {fault: promise for promise, faults in BROKEN.items() for fault in faults}
"""Fault -> the test that must fail for it."""

RAISES: dict[str, tuple[str, ...]] = {
    "wants_a_metric_that_is_not_there": ("KeyError",),
    "has_no_end": ("TypeError",),
    "an_artifact_comes_too_late_for_it": ("AttributeError",),
    "calls_when_made": ("OSError",),
    "divides_by_the_epochs": ("ZeroDivisionError",),
    "wants_the_final_accuracy": ("KeyError",),
    "writes_strict_json": ("ValueError",),
    "rounds_to_whole_numbers": ("ValueError",),
}
"""Fault -> the errors by which it shows, where it is not an assertion of the kit's."""

SOURCES = {
    "only_a_signature_for_a_docstring": "from dataclasses import dataclass\n\n\n@dataclass\nclass plugin:\n    x = 1\n"
}
"""Fault -> the source of its module, with `plugin` in it: what shows at import or in the signature."""
