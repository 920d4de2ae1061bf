"""The huggingface dataset: any image dataset that the `datasets` package loads, from the hub or from local files.

Importing and using `datasets` leaves marks on a process: caches and telemetry that only the environment decides on
before its import, loggers, locks, an HTTP session. So it runs once, in a process of its own with an environment of its
own (`huggingface_prepare`); what is read here afterwards are the Arrow files that it leaves, with pyarrow alone.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from zoo.errors import DatasetInvalid, EnvironmentBroken, first_line
from zoo.plugin import Dataset, Image, Split

ZOO_API = 1
RULES = 1
"""Counts up when the same data would be prepared otherwise."""
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
DONE, LABELS = "prepared.json", "labels.npz"
INSTALL = 'dataset huggingface needs the package datasets; run `pip install "edgezoo[huggingface]"`'
LOCAL = "or name local data: --dataset-option name=DIR (images, parquet or save_to_disk) or name=FILE.parquet"


def huggingface(  # noqa: PLR0913 - the options are the user's
    root: Path,
    *,
    name: str = "",
    config: str = "",
    image: str = "",
    label: str = "",
    revision: str = "",
    train_split: str = "",
    val_split: str = "",
    test_split: str = "",
) -> Dataset:
    """Load an image dataset from the Hugging Face hub, or from a folder or parquet file; no code of its own is run.

    Args:
        root: Where downloads and tables are kept, about twice the data's size; once they are, no network is needed.
        name: On the hub, as in beans or timm/mini-imagenet; or a folder of images, of parquet files or of save_to_disk.
        config: Which of its configurations, where it has several.
        image: The column with the image; found by its type if empty.
        label: The column with the class, or a list of classes; found by its type if empty.
        revision: A branch, tag or commit on the hub; main if empty.
        train_split: Its name for the training images; train, or the only one, if empty.
        val_split: Its name for the validation images; validation, valid or val if empty, else cut from train.
        test_split: Its name for the test images; test if empty, else cut from train.

    Raises:
        DatasetInvalid: not installed, out of reach, no image or label column, or several of them; in one line.
    """
    if not name:
        raise DatasetInvalid("no dataset was named; write --dataset-option name=beans, " + LOCAL.removeprefix("or "))
    local = _local(name)
    question = {
        "name": str(local) if local else name,
        "is_local": bool(local),
        "config": config,
        "image": image,
        "label": label,
        "revision": revision,
        "splits": {"train": train_split, "val": val_split, "test": test_split},
    }
    facts = json.dumps([RULES, question, _stamp(local) if local else ""], sort_keys=True)
    place = root / hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()[:16]
    if not (place / DONE).is_file():
        _refuse_out_of_reach(name, is_local=bool(local))
        _prepare(place, question)
    return _read(root, place)


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Image]):
    """Images in Arrow files that are mapped, not read: each is copied out when it is asked for."""

    files: tuple[str, ...]
    column: str
    rows: np.ndarray
    """int64 [N]: counted through all files."""

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        if isinstance(index, slice):
            return Rows(self.files, self.column, self.rows[index])
        chunks, starts = self._chunks
        row = int(self.rows[index])
        number = int(np.searchsorted(starts, row, side="right")) - 1
        value = chunks[number][row - int(starts[number])].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        return content if content is not None else Path(value["path"])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_chunks"}

    @functools.cached_property
    def _chunks(self) -> tuple[list[Any], np.ndarray]:
        """The column's pieces, and the row with which each begins."""
        import pyarrow as pa

        tables = [pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in self.files]
        chunks = [chunk for table in tables for chunk in table.column(self.column).chunks]
        return chunks, np.cumsum([0, *map(len, chunks)])[:-1]


def _local(name: str) -> Path | None:
    """Return the place of local data; None for a name on the hub."""
    try:
        path = Path(name).expanduser().absolute()
        if path.exists():
            return path.resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # expanduser raises RuntimeError for an unknown user
        raise DatasetInvalid(f"{name!r} cannot be found: {first_line(exc)}; check the path") from exc
    if not HUB_NAME.fullmatch(name) or name.startswith(".") or name.endswith((".parquet", ".arrow")):
        raise DatasetInvalid(f"{name!r} is no file, no folder and no name on the hub; check it")
    return None


def _stamp(place: Path) -> str:
    """Return what changes when a local file does, or any below a folder."""
    stamp = hashlib.sha256()
    below = (Path(top, file) for top, _, names in os.walk(place) for file in names)
    for file in [place] if place.is_file() else sorted(below):
        try:
            facts = file.stat()
        except OSError:  # a link that leads nowhere
            continue
        stamp.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return stamp.hexdigest()


def _refuse_out_of_reach(name: str, *, is_local: bool) -> None:
    from zoo_plugins.hub import unreachable

    try:
        importlib.metadata.version("datasets")
    except importlib.metadata.PackageNotFoundError as exc:
        raise DatasetInvalid(INSTALL) from exc
    if is_local:
        return
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    offline = next((key for key in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if _is_set(key)), "")
    reason = f"{offline} is set" if offline else unreachable(endpoint)
    if reason:
        raise DatasetInvalid(
            f"{name} has not been fetched yet and {endpoint} is out of reach ({reason}); go online once, {LOCAL}"
        )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


def _prepare(place: Path, question: dict[str, Any]) -> None:
    """Let a process of its own leave tables, labels and, last of all, DONE in `place`."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write in {place}: {exc.strerror or exc}; free space or choose another place"
        ) from exc
    # -P: a folder "datasets" where the user stands must not be taken for the package.
    command = [sys.executable, "-P", "-m", "zoo_plugins.huggingface_prepare", str(place), json.dumps(question)]
    done = _run(command, _environment(place.parent))
    lines = done.stdout.decode(errors="replace").splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError) as exc:
        said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        raise DatasetInvalid(
            f"{question['name']} could not be loaded: the datasets package ended with exit code {done.returncode}"
            f"{f' ({said[-1]})' if said else ''}; try again"
        ) from exc
    if answer["error"]:
        raise (EnvironmentBroken if answer["is_environment"] else DatasetInvalid)(answer["error"])
    for note in answer["notes"]:
        print(note, file=sys.stderr)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,
        check=False,
    )


def _environment(root: Path) -> dict[str, str]:
    """Return ours, with every cache below `root`, without telemetry, and quiet where nobody looks."""
    ours = {name: str(root / name.split("_")[1].lower()) for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE")}
    ours |= {name: str(root / "more") for name in ("HF_MODULES_CACHE", "HF_ASSETS_CACHE", "HF_XET_CACHE")}
    ours |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_DATASETS_IN_MEMORY_MAX_SIZE": "0"}
    ours |= {"USE_TORCH": "0", "USE_TF": "0", "USE_JAX": "0"}
    if not sys.stderr.isatty():
        ours |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**os.environ, **ours}


def _read(root: Path, place: Path) -> Dataset:
    """Describe what was prepared; `datasets` is not needed for it."""
    try:
        facts = json.loads((place / DONE).read_text())
        with np.load(place / LABELS, allow_pickle=False) as kept:
            splits = {
                split: Split(
                    images=Rows(tuple(str(root / file) for file in files), facts["column"], kept[f"{split}-rows"]),
                    labels=kept[f"{split}-labels"],
                )
                for split, files in facts["files"].items()
            }
        for split in splits.values():
            split.images[0]
    except ImportError as exc:
        raise DatasetInvalid(INSTALL) from exc
    except Exception as exc:  # damaged files make zipfile, json, numpy and pyarrow raise a dozen kinds of errors
        raise DatasetInvalid(
            f"{place}, or a table in {root}, is damaged ({first_line(exc)}); remove both and try again"
        ) from exc
    return Dataset(
        classes=tuple(facts["classes"]),
        splits=splits,
        multi_label=facts["multi_label"],
        license=facts["license"],
        homepage=facts["homepage"],
        citation=facts["citation"],
    )
