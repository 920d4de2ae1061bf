"""What devices measured: brought back in their `artifact.json`, and kept in the artifact's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from zoo.disk.files import write_json
from zoo.errors import OptionInvalid
from zoo.records.manifest import Measured
from zoo.runtime.manifest import MANIFEST
from zoo.runtime.measure import MEASURED, MOST_KEPT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.records.artifact import Artifact

MOST_BYTES = 50_000_000
"""Of a file that somebody brings."""


def bring_back(file: Path, artifacts: Sequence[Artifact]) -> tuple[Artifact, int]:
    """Take the figures out of a device's `artifact.json` into that of the artifact that runs there.

    Args:
        file: The device's file, or the folder that it lies in.
        artifacts: Those that it may be of; the model file's checksum tells.

    Returns:
        The artifact, and how many figures are new.

    Raises:
        OptionInvalid: the file is none, holds no figures, or is of another model.
    """
    file = file / MANIFEST if file.is_dir() else file
    model, brought = _read(file)
    for artifact in artifacts:
        manifest = artifact.manifest()
        if manifest.files.get(manifest.model_file) == model:
            break
    else:
        names = ", ".join(str(artifact.path) for artifact in artifacts)
        raise OptionInvalid(f"{file} was measured with another model than {names}; name the artifact that it is of")
    own = artifact.path / MANIFEST
    values: dict[str, Any] = json.loads(own.read_bytes())
    there = values.get(MEASURED, [])
    new = [figures for figures in brought if figures not in there]
    if new:
        values[MEASURED] = sorted([*there, *new], key=lambda figures: str(figures["date"]))[-MOST_KEPT:]
        write_json(own, values)
    return artifact, len(new)


def _read(file: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the checksum of the model file, and the figures as they are."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise OptionInvalid(f"{file} is no artifact.json of a device: it is larger than {MOST_BYTES / 1e6:g} MB")
        values = json.loads(file.read_bytes())
        model, figures = str(values["files"][values["model_file"]]), values.get(MEASURED, [])
        TypeAdapter(tuple[Measured, ...]).validate_python(figures)
    except ValidationError as exc:
        where = ".".join(map(str, exc.errors()[0]["loc"]))
        raise OptionInvalid(f"{file} holds figures that cannot be read: {where}: {exc.errors()[0]['msg']}") from exc
    except OSError as exc:
        raise OptionInvalid(f"{file} cannot be read ({exc.strerror or exc}); copy it from the device") from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise OptionInvalid(f"{file} is no artifact.json of a device ({type(exc).__name__}: {exc})") from exc
    if not figures:
        raise OptionInvalid(f"{file} holds no figures; run `python -m zoo_runtime bench` on the device, then copy it")
    return model, figures
