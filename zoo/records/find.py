"""What a user names (a run, an artifact, a path, nothing) -> the run or the artifact that is meant."""

from __future__ import annotations

import difflib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts.words import checked
from zoo.disk.home import runs_root
from zoo.errors import ArtifactInvalid, OptionInvalid, RunInvalid
from zoo.records.artifact import Artifact, list_artifacts
from zoo.records.run import Run
from zoo.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


LONGEST_NAME = 200
"""Bytes; most file systems take 255, and files are first written under a longer name beside their own."""
Named = Run | Artifact | str | Path | None
"""What a function takes: the thing, what it is called, or None for the newest."""


@checked
def load(name: str | Path, *, runs: str | Path | None = None) -> Run | Artifact:
    """Return the artifact or the run of that path or name: `runs/cats`, `cats`, `cats/onnx-int8`.

    Args:
        name: Of what is on the disk.
        runs: The folder of all runs [default: $ZOO_RUNS, else ./runs].

    Raises:
        RunInvalid: there is none, or it is damaged.
        ArtifactInvalid: it is damaged.
    """
    root = runs_root(runs).absolute()
    found = _named_artifact(str(name), root)
    if found:
        found.manifest()
        return Artifact(found.path.absolute())
    run = Run(find_run(str(name), root).path.absolute())
    if not run.holds_folds:
        run.record()
    return run


def find_subject(given: Named, root: Path, note: Callable[[str], None]) -> Run | Artifact:
    """Return what was given, or what `find_any` makes of its name."""
    if isinstance(given, Run | Artifact):
        return given
    return find_any(None if given is None else str(given), root, note)


def find_trained(given: Run | str | Path | None, root: Path, note: Callable[[str], None]) -> Run:
    """Return the run that was given or named; the newest, which is told, if none was."""
    if isinstance(given, Run):
        return given
    found = find_run(None if given is None else str(given), root)
    if given is None:
        note(f"using {found.path}")
    return found


def find_artifact(given: str | None, root: Path, note: Callable[[str], None]) -> Artifact:
    """Return the artifact of that path, `RUN/onnx-int8`, or the newest of a run; of the newest run if none is given.

    Raises:
        ArtifactInvalid, RunInvalid: there is none.
    """
    found = find_any(given, root, note)
    if isinstance(found, Artifact):
        return found
    raise ArtifactInvalid(f"{found.path} has no artifact yet; make one with `zoo export {found.name} --onnx`")


def find_any(given: str | None, root: Path, note: Callable[[str], None]) -> Run | Artifact:
    """Return the same, or the run itself where it has no artifact yet; tell which one was chosen."""
    named = _named_artifact(given, root)
    if named:
        return named
    run = find_run(given, root)
    artifacts = list_artifacts(run.export_folder)
    chosen = artifacts[0] if artifacts else run
    if chosen is not run or given is None:
        note(f"using {chosen.path}")
    return chosen


def find_all_artifacts(given: Sequence[str], root: Path, note: Callable[[str], None]) -> list[Artifact]:
    """Return the named artifacts, and for a run (the newest if nothing is named) all of its artifacts."""
    found: list[Artifact] = []
    for name in given or (None,):
        named = _named_artifact(name, root)
        newest = named or find_artifact(name, root, note)
        found += [named] if named else reversed(list_artifacts(newest.path.parent))
    return found


def run_of(artifact: Artifact) -> Run:
    """Return the run that an artifact was exported from: the folder two above it.

    Raises:
        ArtifactInvalid: the artifact was moved out of its run.
    """
    run = Run(artifact.path.resolve().parent.parent)
    if not run.finished:
        raise ArtifactInvalid(f"{artifact.path} is not inside its run, whose data is needed; run this on the original")
    return run


def _named_artifact(given: str | None, root: Path) -> Artifact | None:
    """Return the artifact whose path, or RUN/NAME, was given; None if something else was, or nothing."""
    if given is None:
        return None
    run, _, name = given.rpartition("/")
    paths = (Path(given), root / given, root / run / "export" / name)
    return next((Artifact(path) for path in paths if (path / MANIFEST).is_file()), None)


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


def check_name(name: str) -> None:
    """Raise OptionInvalid for a run's name that could not be a folder's, or would lie elsewhere than among the runs."""
    path = Path(name)
    if not name.strip() or path.is_absolute() or {".", ".."} & {*path.parts, name} or not name.isprintable():
        raise OptionInvalid(f"name = {name!r} is no name for a run; write letters, digits, - and _, such as cats-2")
    if max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME:
        raise OptionInvalid(f"name = {name[:20]!r}... is too long; {LONGEST_NAME} bytes at most")


def refuse_taken(path: Path) -> None:
    """Raise RunInvalid if a run's folder holds something already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunInvalid(
            f"{path} already exists; choose another --name, or go on with `zoo train --resume --name {Run(path).name}`"
        )


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
