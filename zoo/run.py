"""A run directory: its layout, its record `run.json`, and finding one by name, by path, or the newest."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo.config import TrainConfig
from zoo.contracts.preprocess import Preprocess
from zoo.disk.files import write_json, write_text
from zoo.errors import CheckpointInvalid, EnvironmentBroken, RunInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from zoo.catalogue import Catalogue

SCHEMA = 1
FOLD = re.compile(r"fold-[1-9]\d*")
"""The folder of one fold, inside the folder of all."""


class RunRecord(BaseModel):
    """`run.json`: a run is finished exactly when this file exists."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    model: str
    dataset: str
    classes: tuple[str, ...]
    multi_label: bool = False
    thresholds: dict[str, float] = {}
    """Label -> the probability from which on it is said, tuned on the validation images; only if multi-label."""
    class_weights: dict[str, float] = {}
    """Class -> what it weighed in the training loss; empty if all weighed the same."""
    teacher: dict[str, str | float] = {}
    """The run that taught this one: its folder, model, the SHA-256 of its weights and its best figure; mostly empty."""
    parent: dict[str, str | float] = {}
    """The run that this one went on from: its folder, the SHA-256 of its weights, their licence, its best figure."""
    preprocess: dict[str, Any]
    config: dict[str, Any]
    origins: dict[str, str] = {}
    chosen: dict[str, str | int] = {}
    """What `auto` came to: device, precision, layout, threads."""
    metrics: dict[str, Any]
    versions: dict[str, str]
    plugins: dict[str, str] = {}
    """Kind -> the distribution whose plugin the names above meant."""
    seed: int
    dataset_fingerprint: str = ""
    dataset_sizes: dict[str, int] = {}
    skipped_images: dict[str, str] = {}
    licenses: dict[str, str] = {}
    parameters: int = 0
    git_commit: str = ""
    created: str = ""


class Run:
    """One run directory; what is in it is found through these paths only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_file = path / "run.json"
        self.metrics_file = path / "metrics.jsonl"
        self.best_file = path / "best.safetensors"
        self.checkpoint_file = path / "last.ckpt"
        self.previous_checkpoint_file = path / "previous.ckpt"
        self.report_file = path / "report.html"
        self.export_folder = path / "export"
        self.plan_file = path / "plan.json"
        self.folds_file = path / "folds.json"

    @property
    def name(self) -> str:
        """What it is called below the folder of all runs: the name of its folder, NAME/fold-2 for a fold of NAME."""
        path = self.path.absolute()
        return f"{path.parent.name}/{path.name}" if FOLD.fullmatch(path.name) else path.name

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.record_file.is_file()

    @property
    def holds_folds(self) -> bool:
        """Whether it is no run itself, but the folder of several that validate on different folds."""
        return self.plan_file.is_file() or bool(self.folds())

    def fold(self, number: int) -> Run:
        """Return the run of one fold, counted from 1; it need not exist."""
        return Run(self.path / f"fold-{number}")

    def folds(self) -> list[Run]:
        """Return the folds that are there, in order; a run that is none of several folds has none."""
        if self.finished or not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if FOLD.fullmatch(path.name) and path.is_dir()]
        return [Run(path) for path in sorted(found, key=lambda path: int(path.name.partition("-")[2]))]

    @property
    def resumable(self) -> bool:
        """Whether training began and did not come to its end."""
        if self.holds_folds:
            return not self.folds_file.is_file()
        return not self.finished and self.checkpoint_file.is_file()

    def record(self) -> RunRecord:
        """Read `run.json`.

        Raises:
            RunInvalid: there is none, or it is damaged or of a later schema.
        """
        if not self.finished:
            raise RunInvalid(self._why_unfinished())
        try:
            record = RunRecord.model_validate(json.loads(self.record_file.read_text()))
        except (OSError, ValueError, RecursionError) as exc:
            detail = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
            raise RunInvalid(f"{self.record_file} is damaged: {detail}; train again") from exc
        if record.schema_version > SCHEMA:
            raise RunInvalid(
                f"{self.record_file} has schema {record.schema_version}, newer than this zoo; upgrade edgezoo"
            )
        if not self.best_file.is_file():
            raise RunInvalid(f"{self.best_file} is missing; put it back or train again")
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; a process that dies lets go of it.

        Raises:
            RunInvalid: another process is training here.
            EnvironmentBroken: the folder cannot be written.
        """
        import filelock

        file = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(file, timeout=0)
            lock.acquire()
        except filelock.Timeout as exc:
            raise RunInvalid(
                f"{self.path} is being trained by another process; wait for it, or train under another --name"
            ) from exc
        except OSError as exc:
            raise EnvironmentBroken(
                f"cannot write {self.path}: {exc.strerror or exc}; free space or choose another place"
            ) from exc
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one epoch's line to metrics.jsonl."""
        try:
            with self.metrics_file.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as exc:
            raise EnvironmentBroken(
                f"cannot write {self.metrics_file}: {exc.strerror or exc}; free space or choose another place"
            ) from exc

    def restore_metrics(self, history: Sequence[Mapping[str, Any]], epochs: int) -> None:
        """Make metrics.jsonl what the checkpoint knows: no line more, none less, none cut off.

        Args:
            history: The lines; none in checkpoints of the first runs, whose file is cut to `epochs` instead.
            epochs: How many are complete.
        """
        found = self.metrics_file.read_text() if self.metrics_file.is_file() else ""
        lines = [json.dumps(line) for line in history] or found.splitlines()[:epochs]
        wanted = "".join(f"{line}\n" for line in lines)
        if found != wanted:
            write_text(self.metrics_file, wanted)

    def write_record(self, record: RunRecord) -> None:
        """Declare the run finished; the last file that training writes."""
        write_json(self.record_file, {**record.model_dump(mode="json", by_alias=True)})

    def shipped_model(self, catalogue: Catalogue) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Return the model that ships (eval mode, on the CPU, best weights) and the backbone inside it.

        Raises:
            RunInvalid: the run is not finished.
            CheckpointInvalid: the weights do not belong to the model.
        """
        from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
        from zoo.disk.weights import load_weights

        record = self.record()
        config = TrainConfig.model_validate(record.config)
        request = BackboneRequest(
            num_classes=len(record.classes), image_size=config.image_size, options=config.backbone_options
        )
        backbone, _ = build_backbone(catalogue, catalogue.backbone(record.model), request)
        try:
            backbone.load_state_dict(load_weights(self.best_file))
        except RuntimeError as exc:
            raise CheckpointInvalid(
                f"{self.best_file} does not fit {record.model}: {str(exc).splitlines()[-1].strip()}"
            ) from exc
        backbone.eval().requires_grad_(False)
        shipped = Preprocess.from_json(record.preprocess).wrap(backbone, multi_label=record.multi_label)
        return shipped.eval(), backbone

    def _why_unfinished(self) -> str:
        if not self.path.is_dir():
            return f"{self.path}: no such run; `zoo list runs` shows what there is"
        folds = self.folds()
        if folds:
            return f"{self.path} holds folds, each a run of its own; name one, for example {folds[0].name}"
        if self.checkpoint_file.is_file() or self.plan_file.is_file():
            return f"{self.path} is not finished; go on with `zoo train --resume --name {self.name}`"
        return f"{self.path} holds no finished run (no run.json); train one with `zoo train`"


def now() -> str:
    """Return the time as ISO 8601, in UTC, to the microsecond: runs made within a second keep their order."""
    return datetime.now(UTC).isoformat()


def list_runs(root: Path) -> list[Run]:
    """Return the finished runs below `root`, folds among them, the newest first; damaged ones are passed over."""
    found = []
    for run in (run for whole in _folders(root) for run in (whole, *whole.folds())):
        try:
            found.append((run.record().created, run))
        except RunInvalid:
            continue
    return [run for _, run in sorted(found, key=lambda pair: pair[0], reverse=True)]


def find_run(given: str | None, root: Path) -> Run:
    """Return the run of that path or name; the newest finished one if none is given.

    Raises:
        RunInvalid: there is none.
    """
    if given is None:
        runs = list_runs(root)
        if not runs:
            raise RunInvalid(f"no finished run in {root}; train one with `zoo train`, or name its folder with --runs")
        return runs[0]
    for path in (Path(given), root / given):
        if path.is_dir():
            return Run(path)
    names = [run.name for run in list_runs(root)]
    close = difflib.get_close_matches(given, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`zoo list runs` shows what there is"
    raise RunInvalid(f"no run is named {given!r} in {root}; {hint}")


def find_unfinished(name: str | None, root: Path) -> Run:
    """Return the run of that name, or the unfinished one that was written last; of folds, what holds them all.

    Raises:
        RunInvalid: there is none, or it is finished.
    """
    if name:
        run = find_run(name, root)
        if run.finished or run.folds_file.is_file():
            raise RunInvalid(f"{run.path} is finished; there is nothing to resume")
        return run
    unfinished = list(_unfinished(root))
    if not unfinished:
        raise RunInvalid(f"no unfinished run in {root}; start one with `zoo train MODEL --dataset NAME`")
    return max(unfinished, key=lambda pair: pair[0])[1]


def default_name(model: str, dataset: str) -> str:
    """Return MODEL-DATASET-TIME, with nothing that a folder's name could not hold."""
    stamp = datetime.now(UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    return re.sub(r"[^\w.+-]+", "_", f"{model}-{dataset}-{stamp}")


def _folders(root: Path) -> list[Run]:
    return [Run(path) for path in (root.iterdir() if root.is_dir() else []) if path.is_dir()]


def _unfinished(root: Path) -> Iterator[tuple[float, Run]]:
    """Yield what a resume can go on with, and when it was last written."""
    for whole in _folders(root):
        runs = [run for run in (whole, *whole.folds()) if run.checkpoint_file.is_file() and not run.finished]
        if whole.plan_file.is_file() and not whole.folds_file.is_file():
            files = [whole.plan_file, *(run.checkpoint_file for run in runs)]
            yield max(file.stat().st_mtime for file in files), whole
        else:
            yield from ((run.checkpoint_file.stat().st_mtime, run) for run in runs)
