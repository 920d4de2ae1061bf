"""How soon does training begin on 200,000 small files? Seconds, memory, and how many of them were opened by then.

The folder holds a sub-folder for each of ten classes and no splits, so that they have to be cut. Counted as `zoo train`
goes: from its first look at the folder to the first batch.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, SIDE, BATCH = 10, 64, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--files", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["ZOO_HOME"] = f"{scratch}/home"
        folder = write(Path(scratch) / "images", arguments.files)
        found = measure(folder)
    print(f"{arguments.files} JPEG files of {SIDE}x{SIDE}")
    for name, value in found.items():
        print(f"  {name:24} {value:.1f}")
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in found.items()}))


def write(folder: Path, count: int) -> Path:
    """Write files that all differ, in content and mostly in length: a picture, and a comment inside the file."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng) for _ in range(200)]
    for label in range(CLASSES):
        place = folder / f"class{label}"
        place.mkdir(parents=True)
        for number in range(count // CLASSES):
            picture = pictures[int(rng.integers(len(pictures)))]
            comment = f"{label} {number}".encode() + b" " * int(rng.integers(2000))
            block = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
            (place / f"{number:06}.jpg").write_bytes(picture[:2] + block + picture[2:])
    return folder


def jpeg(rng: np.random.Generator) -> bytes:
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    buffer = io.BytesIO()
    small.resize((SIDE, SIDE)).save(buffer, "JPEG", quality=int(rng.integers(60, 95)))
    return buffer.getvalue()


def measure(folder: Path) -> dict[str, float]:
    from zoo.catalogue import Catalogue
    from zoo.catalogue.made.dataset import open_dataset
    from zoo.data.loader import TrainLoader
    from zoo.data.prepared import prepare
    from zoo_plugins.augmentations import standard

    opened = count_opened(folder)
    memory, begin = peak_megabytes(), time.perf_counter()
    dataset = open_dataset(Catalogue.read(), str(folder), {})
    listed = time.perf_counter() - begin
    data = prepare(dataset, str(folder), seed=0)
    indexed, before, index_memory = time.perf_counter() - begin, len(opened), peak_megabytes() - memory
    train = data.splits["train"]
    loader = TrainLoader(split=train, augmentation=lambda: standard(32, 32), size=(32, 32), batch_size=BATCH, seed=0)
    next(iter(loader.epoch(0)))
    return {
        "listed_seconds": listed,
        "indexed_seconds": indexed,
        "first_batch_seconds": time.perf_counter() - begin,
        "index_megabytes": index_memory,
        "peak_megabytes": peak_megabytes(),
        "opened_for_the_index": before,
        "opened_by_first_batch": len(opened),
        "train_share": len(train) / sum(map(len, data.splits.values())),
    }


def count_opened(folder: Path) -> set[str]:
    """Note every file below `folder` that this process opens from now on."""
    opened: set[str] = set()

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(folder)):
            opened.add(str(arguments[0]))

    sys.addaudithook(note)
    return opened


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
