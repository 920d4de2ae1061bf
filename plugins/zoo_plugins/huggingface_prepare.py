"""What runs in the huggingface dataset's own process: load with `datasets`, find image and label, write both down."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import DatasetInvalid, first_line
from zoo_plugins.huggingface import DONE, LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
FORMATS = {".parquet": "parquet", ".arrow": "arrow"}
SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
    "unknown": "",
}
"""The hub's words for licences, where upper case alone does not make them SPDX identifiers."""
MOST_NAMED = 12


def prepare(place: Path, question: Mapping[str, Any]) -> list[str]:
    """Leave labels and, last of all, DONE in `place`, and tables beside it; return what a person should hear of it."""
    loaded = _loaded(place, question)
    splits = _splits([*loaded], question)
    features = loaded[splits["train"]].features
    image, label = _image_column(features, question["image"]), _label_column(features, question["label"])
    labels = _Labels(loaded[splits["train"]], label)
    arrays: dict[str, np.ndarray] = {}
    files: dict[str, list[str]] = {}
    notes: list[str] = []
    for ours, theirs in splits.items():
        table = loaded[theirs]
        if table.features[label] != features[label]:
            raise DatasetInvalid(f"{theirs} has other classes than {splits['train']} in column {label!r}; mend it")
        rows, codes = _usable(table, image, label, labels)
        if len(rows) < len(table):
            left = f"{len(table) - len(rows)} of {len(table)} rows of {theirs}"
            notes.append(f"{question['name']}: {left} have no image or no label and are left out")
        if len(rows):
            arrays |= {f"{ours}-rows": rows, f"{ours}-labels": codes}
            files[ours] = [_from(place.parent, Path(file["filename"])) for file in table.cache_files]
    if "train" not in files:
        raise DatasetInvalid(f"{question['name']} has no row with image and label in {splits['train']}; name others")
    with (place / f"{LABELS}.part").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    (place / f"{LABELS}.part").replace(place / LABELS)
    facts = {"classes": labels.classes, "multi_label": labels.several, "column": image, "files": files}
    _write(place / DONE, json.dumps({**facts, **_origin(loaded[splits["train"]], question)}))
    return notes


def _from(root: Path, file: Path) -> str:
    """Return a path that stays right when `root` is moved."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file.absolute())


def _write(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    with part.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def _loaded(place: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return each split as `datasets` has it."""
    import datasets

    where, config, cache = question["name"], question["config"] or None, str(place.parent / "datasets")
    local = Path(where)
    if not question["is_local"]:
        return dict(datasets.load_dataset(where, config, cache_dir=cache, revision=question["revision"] or None))
    if local.is_file():
        if local.suffix.lower() not in FORMATS:
            raise DatasetInvalid(f"{where} is neither parquet nor arrow; name a folder, or a file of one of these")
        return dict(datasets.load_dataset(FORMATS[local.suffix.lower()], data_files=where, cache_dir=cache))
    if (local / "dataset_dict.json").is_file() or (local / "state.json").is_file():
        saved = datasets.load_from_disk(where)
        return dict(saved) if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    return dict(datasets.load_dataset(where, config, cache_dir=cache))


def _splits(names: list[str], question: Mapping[str, Any]) -> dict[str, str]:
    """Return our name -> theirs, with train first."""
    asked = {ours: name for ours, name in question["splits"].items() if name}
    for ours, name in asked.items():
        if name not in names:
            raise DatasetInvalid(f"{question['name']} has no split {name!r} for {ours}_split; it has {_listed(names)}")
    found = dict(asked)
    for name in names:
        ours = SPLIT_OF.get(name.lower(), "")
        if not ours or ours in asked or name in asked.values():
            continue
        if ours in found:
            raise DatasetInvalid(
                f"{question['name']} has splits {found[ours]!r} and {name!r}; name one with {ours}_split="
            )
        found[ours] = name
    if "train" not in found and len(names) == 1:
        found = {"train": names[0]}
    if "train" not in found:
        raise DatasetInvalid(
            f"{question['name']} has no split named train; name one with train_split=, of {_listed(names)}"
        )
    if len(set(found.values())) < len(found):
        raise DatasetInvalid(f"one split of {question['name']} was named twice; name each once")
    return {ours: found[ours] for ours in ("train", "val", "test") if ours in found}


def _image_column(features: Any, asked: str) -> str:
    from datasets import Image, Value

    def holds_images(feature: Any) -> bool:
        if isinstance(feature, dict):
            return {"bytes"} <= feature.keys() <= {"bytes", "path"}
        return isinstance(feature, Image) or feature in (Value("binary"), Value("large_binary"))

    if not asked:
        return _only([name for name, feature in features.items() if isinstance(feature, Image)], "image", features)
    if asked not in features or not holds_images(features[asked]):
        raise DatasetInvalid(f"there is no column {asked!r} of images; the columns are {_described(features)}")
    return asked


def _label_column(features: Any, asked: str) -> str:
    from datasets import ClassLabel

    if not asked:
        found = [name for name, feature in features.items() if isinstance(_element(feature), ClassLabel)]
        return _only(found, "label", features)
    if asked not in features or not _is_label(_element(features[asked])):
        raise DatasetInvalid(f"there is no column {asked!r} of classes; the columns are {_described(features)}")
    return asked


def _element(feature: Any) -> Any:
    """Return the type of a list's elements, or the type itself."""
    from datasets import LargeList, List

    return feature.feature if isinstance(feature, List | LargeList) else feature


def _is_label(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    kinds = ("string", "large_string", "int", "uint", "bool")
    return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and feature.dtype.startswith(kinds))


def _only(found: list[str], option: str, features: Any) -> str:
    if len(found) == 1:
        return found[0]
    kinds = {"image": "an Image", "label": "a ClassLabel"}
    told = f"several are {kinds[option]}: {_listed(found)}" if found else f"none is {kinds[option]}"
    raise DatasetInvalid(
        f"which column is the {option}? {told}; name one with --dataset-option {option}=, among {_described(features)}"
    )


def _described(features: Any) -> str:
    kinds = {name: getattr(feature, "dtype", None) or type(feature).__name__ for name, feature in features.items()}
    return ", ".join(f"{name} ({kind})" for name, kind in [*kinds.items()][:MOST_NAMED])


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:MOST_NAMED])) + (" and more" if len(names) > MOST_NAMED else "")


class _Labels:
    """The classes of a column, and what its values say in them."""

    def __init__(self, table: Any, column: str) -> None:
        from datasets import ClassLabel

        feature = table.features[column]
        element = _element(feature)
        self.column, self.several = column, element is not feature
        if isinstance(element, ClassLabel):
            self.classes: list[str] = list(element.names)
            self.codes: dict[Any, int] = {number: number for number in range(len(self.classes))}
            self.unlabelled: tuple[Any, ...] = (None, -1)
        else:
            values = {one for value in _values(table, column) if value is not None for one in self.list_of(value)}
            known = sorted(values - {None})
            self.classes, self.codes = [str(value) for value in known], {value: n for n, value in enumerate(known)}
            self.unlabelled = (None,)
        if len(self.classes) < 2:
            found = _listed(self.classes) or "none"
            raise DatasetInvalid(f"column {column!r} needs at least 2 classes, found: {found}; name another")

    def list_of(self, value: Any) -> list[Any]:
        """Return the labels of one row."""
        return value if self.several else [value]

    def of(self, value: Any, row: int) -> list[int] | None:
        """Return a row's classes; None if nobody labelled it."""
        values = None if value is None else self.list_of(value)
        if values is None or any(one in self.unlabelled for one in values):
            return None
        unknown = [one for one in values if one not in self.codes]
        if unknown:
            raise DatasetInvalid(
                f"row {row} has {unknown[0]!r} in column {self.column!r}, which no training row has; mend it"
            )
        return [self.codes[one] for one in values]


def _values(table: Any, column: str) -> list[Any]:
    """Return a column as the files have it: what is loaded has never been shuffled or filtered."""
    return table.data.column(column).to_pylist()  # type: ignore[no-any-return]


def _usable(table: Any, image: str, label: str, labels: _Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in the files, int64 [N], and labels, int64 [N] or uint8 [N, C], of all that have both."""
    has_image = _has_image(table.data.column(image), image)
    codes = [labels.of(value, row) for row, value in enumerate(_values(table, label))]
    kept = np.array([row for row, found in enumerate(codes) if found is not None and has_image[row]], dtype=np.int64)
    if not labels.several:
        return kept, np.array([codes[row] for row in kept], dtype=np.int64).reshape(-1)
    marks = np.zeros((len(kept), len(labels.classes)), np.uint8)
    for number, row in enumerate(kept):
        marks[number, codes[row]] = 1
    return kept, marks


def _has_image(column: Any, name: str) -> np.ndarray:
    """Return bool [rows of the files]: whether there are bytes, or a file; a file that is missing is named."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for chunk in column.chunks:
        if not pa.types.is_struct(chunk.type):
            found.append(pc.is_valid(chunk).to_numpy(zero_copy_only=False))
            continue
        valid = pc.is_valid(pc.struct_field(chunk, "bytes")).to_numpy(zero_copy_only=False).copy()
        if chunk.type.get_field_index("path") >= 0:
            paths = pc.struct_field(chunk, "path")
            for row in np.flatnonzero(~valid & pc.is_valid(paths).to_numpy(zero_copy_only=False)):
                path = paths[int(row)].as_py()
                if not Path(path).is_file():
                    raise DatasetInvalid(f"column {name!r} names {path!r}, which is no file here; fetch it first")
                valid[row] = True
        found.append(valid)
    return np.concatenate(found) if found else np.zeros(0, bool)


def _origin(table: Any, question: Mapping[str, Any]) -> dict[str, str]:
    """Return licence, homepage and citation as far as the data tells."""
    from huggingface_hub import DatasetCard, hf_hub_download

    name, stated = question["name"], ""
    try:
        readme = f"{name}/README.md"
        if not question["is_local"]:
            readme = hf_hub_download(name, "README.md", repo_type="dataset", revision=question["revision"] or None)
        stated = DatasetCard.load(readme, ignore_metadata_errors=True).data.get("license") or ""
    except Exception:  # a card is a courtesy; without one the licence is unknown
        pass
    found = [_spdx(one) for one in ([stated] if isinstance(stated, str) else stated)] if stated else []
    page = "" if question["is_local"] else f"https://huggingface.co/datasets/{name}"
    told = table.info.license or ""
    return {
        "license": " AND ".join(filter(None, found)) or (_spdx(told) if " " not in told else ""),
        "homepage": table.info.homepage or page,
        "citation": table.info.citation or "",
    }


def _spdx(stated: str) -> str:
    """Return the identifier for what the hub's users write, in lower case."""
    known = stated.lower()
    if not known or known in SPDX:
        return SPDX.get(known, "")
    standard = known.startswith(("cc-by", "cc0", "bsd-", "gpl-", "lgpl-", "agpl-", "mpl-"))
    return (known.upper() if not known.startswith("bsd") else stated) if standard else f"LicenseRef-{stated}"


def _why(exc: Exception, question: Mapping[str, Any]) -> str:
    """Return what the packages say in many words, in one line with a way on."""
    name = question["name"]
    cause = exc.__cause__ if type(exc).__name__.startswith("DatasetGeneration") and exc.__cause__ else exc
    lines = " ".join(line.strip() for line in str(cause).splitlines()[:2] if line.strip())
    if "scripts are no longer supported" in lines:
        return f"{name} is made by a script, which is not run; name another, or a revision with parquet files"
    if isinstance(cause, ConnectionError):
        return f"{name} is out of reach ({first_line(cause)}); go online, or name local data (name=DIR)"
    if type(cause).__name__ == "DatasetNotFoundError":
        return f"{first_line(cause)}; check the name, log in with `hf auth login` if it is private, or name local data"
    if "onfig" in lines:
        return f"{name}: {lines.rstrip('.')}; choose with --dataset-option config="
    return f"{name} cannot be loaded: {lines.rstrip('.') or type(cause).__name__}; check it"


def main(place: Path, question: Mapping[str, Any]) -> None:
    """Prepare, and tell on the last line of stdout how it went."""
    answer: dict[str, Any] = {"error": "", "is_environment": False, "notes": []}
    try:
        answer["notes"] = prepare(place, question)
    except DatasetInvalid as exc:
        answer["error"] = str(exc)
    except Exception as exc:  # `datasets` and the hub's client have a dozen unrelated roots of errors
        full = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)
        answer["is_environment"] = full
        answer["error"] = (
            f"cannot write in {place}: {exc.strerror}; free space or choose another place"
            if full and isinstance(exc, OSError)
            else _why(exc, question)
        )
    print(f"\n{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
