"""Does `zoo train` with all defaults learn better than timm's train.py, plain Adam and a linear probe?

    python bench/learn.py [--all | --rows NAME ...] [--photos FOLDER] [--timm-script train.py] [--results FILE] [--json]

Top-1 of test images, once a run; all sides get the same images and may choose their epoch by the same validation
images. zoo comes first, and its CPU seconds are what the others may spend (one thread; imports are left out).

- zoo: what `zoo train MODEL --dataset FOLDER` gives, with `--weights FILE` or `--no-pretrained`, else all defaults.
- probe: the same with `--probe`, where weights are pretrained; it needs less time and just tells how much.
- timm: timm's train.py with AdamW, a rate of 5e-4, batches of 16, cosine, smoothing 0.1, an epoch of warm-up if there
  are more than two, its own augmentation (but no mirrored digits), and as many epochs as fit by two short runs a row,
  one at least. The script is in no package: `git clone --depth 1 --branch v1.0.28
  https://github.com/huggingface/pytorch-image-models`, or the tag next to the installed timm; without it this side is
  left out.
- adam: a loop of PyTorch with Adam, batches of at most 32, a constant rate of 1e-3, of 1e-4 for pretrained weights, no
  augmentation: images are resized and cut as timm does for evaluation. It ends with the epoch that uses the time up.

Rows: photographs (`stamps_lite0_10`: EfficientNet-Lite0 with ImageNet's weights, 10 images of each class for training),
scikit-learn's digits with `tiny`, zoo's shapes and textures with test_resnet at 64 px; all but the first from random
weights. Seeds decide which images are for what, weights, order and augmentation. Intervals are Student's, 95 %;
differences are paired by seed. Figures of fewer than five seeds are hints.

It takes three to four times zoo's own seconds, which stand in the table: a minute of processor time for each seed of a
row of 100 images (rather less without timm), an hour for five seeds of `stamps_lite0_all`, a night for everything. So
small rows are the default, and with --results a bench that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from bench.learning.measure import SIDES, Bench
from bench.learning.result import Results
from bench.learning.rows import IN_MINUTES, ROWS, Row, matching
from bench.learning.table import figures, table_head, table_lines

SEEDS = 5


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(
            sides=tuple(given.sides),
            seeds=given.seeds,
            image_size=given.image_size,
            photos=given.photos and given.photos.resolve(),
            script=given.timm_script and given.timm_script.resolve(),
            results=Results(given.results or Path(scratch, "results.jsonl")),
        )
        found: dict[str, float] = {}
        chosen = rows(given)
        print(f"test top-1 in percent, mean ± half of the 95 % interval; seeds: {given.seeds}")
        print(table_head(SIDES))
        for row in chosen:
            sides = bench.measure(row)
            print("\n".join(table_lines(row, sides, SIDES)), flush=True)
            found |= figures(row, sides)
    if given.json:
        print(json.dumps({name: round(value, 2) for name, value in found.items()}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rows", nargs="+", metavar="NAME", help=f"names or globs [default: {' '.join(IN_MINUTES)}]")
    which.add_argument("--all", action="store_true", help="all rows")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="besides zoo, which sets the time")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--image-size", type=int, default=0, help="of all stamps [default: the network's own]")
    parser.add_argument("--photos", type=Path, help="a folder that `python -m bench.learning.photos FOLDER` made")
    parser.add_argument("--timm-script", type=Path, help="train.py of timm's repository")
    parser.add_argument("--results", type=Path, help="a file of JSON lines: what it holds is not run again")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def rows(given: argparse.Namespace) -> list[Row]:
    """Return the rows that were asked for and can be measured; say what is left out, and why."""
    chosen = matching(tuple(ROWS) if given.all else tuple(given.rows or IN_MINUTES))
    if given.timm_script is None and "timm" in given.sides:
        print("timm is left out: --timm-script says where its train.py is; see --help")
    if given.photos is None and any(row.weights for row in chosen):
        print("the stamps are left out: `python -m bench.learning.photos FOLDER`, then --photos FOLDER")
        chosen = [row for row in chosen if not row.weights]
    return chosen


if __name__ == "__main__":
    main()
