"""What a user names (a run, an artifact, a path, nothing) -> the run or the artifact that is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.artifact import Artifact, list_artifacts
from zoo.errors import ArtifactInvalid
from zoo.run import Run, find_run
from zoo.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
