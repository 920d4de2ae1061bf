"""The page's JavaScript and the device's Python: the same pixels, level for level, and the same limits."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.contracts.precision import PRECISIONS
from zoo.runtime.golden import limit_of
from zoo.runtime.pixels import INTERPOLATIONS, prepare

from ..conftest import ROOT
from ..tools import tool

if TYPE_CHECKING:
    from pathlib import Path

WEB = ROOT / "zoo/deploy/bundle/web"
PICTURES = 60
CROPS = ("center", "squash", "border")
LOOK = """
import { readFileSync, writeFileSync } from "node:fs";
const { prepare } = await import(process.argv[2]);
const [cases, pixels] = [JSON.parse(readFileSync("cases.json")), readFileSync("pixels")];
let place = 0;
const out = cases.map(([height, width, view]) => {
  const data = pixels.subarray(place, (place += height * width * 3));
  return Buffer.from(prepare({ data, width, height }, view).data);
});
writeFileSync("prepared", Buffer.concat(out));
"""


def node(code: str, folder: Path, *arguments: object) -> str:
    (folder / "code.mjs").write_text(code)
    command = [tool("node"), "code.mjs", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def odd_sizes() -> list[tuple[int, int]]:
    """From a single pixel to very wide and very tall, where the order of Pillow's two passes turns round."""
    rng = np.random.default_rng(7)
    fixed = [(1, 1), (1, 301), (307, 1), (2, 3), (401, 17), (13, 509), (97, 97), (331, 120)]
    return fixed + [(int(h), int(w)) for h, w in rng.integers(5, 420, (PICTURES - len(fixed), 2))]


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Noise, or black and white, whose overshoot every pass has to clip."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return (noise if seed % 2 else (noise > 127) * 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_it_resizes_and_crops_as_pillow_does(interpolation: str, tmp_path: Path) -> None:
    cases, pixels, wanted = [], [], []
    for number, (height, width) in enumerate(odd_sizes()):
        view: dict[str, Any] = {"size": [61 + number, 96], "crop": CROPS[number % 3], "interpolation": interpolation}
        view["crop_fraction"] = (1.0, 0.95, 0.875)[number // 3 % 3]
        image = picture(height, width, number)
        cases.append([height, width, view])
        pixels.append(image.tobytes())
        wanted.append(prepare(image, tuple(view["size"]), view["crop"], view["crop_fraction"], interpolation))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "pixels").write_bytes(b"".join(pixels))
    node(LOOK, tmp_path, WEB / "pixels.mjs")
    found = (tmp_path / "prepared").read_bytes()
    for case, expected in zip(cases, wanted, strict=True):
        size = expected.size
        got, found = np.frombuffer(found[:size], np.uint8).reshape(expected.shape), found[size:]
        assert np.array_equal(got, expected), case
    assert not found


def test_runtime_and_page_have_the_limits_of_the_table(tmp_path: Path) -> None:
    code = """
const { limitOf } = await import(process.argv[2]);
console.log(JSON.stringify(process.argv.slice(3).map((name) => limitOf(name))));
"""
    wanted = {name: row.golden_limit for name, row in PRECISIONS.items()}
    assert {name: limit_of(name) for name in wanted} == wanted
    assert json.loads(node(code, tmp_path, WEB / "model.mjs", *wanted)) == [*wanted.values()]


def test_it_reads_an_npz_as_numpy_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"labels": np.arange(3, dtype=np.int64), "artifact": rng.random((3, 4), np.float32)}
    arrays["images"] = rng.integers(0, 256, (3, 5, 7, 3)).astype(np.uint8)
    code = """
import { readFileSync } from "node:fs";
const { readNpz } = await import(process.argv[2]);
const found = await readNpz(new Uint8Array(readFileSync(process.argv[3])));
const plain = ([name, { data, shape }]) => [name, { data: Array.from(data, Number), shape }];
console.log(JSON.stringify(Object.fromEntries(Object.entries(found).map(plain))));
"""
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
        found = json.loads(node(code, tmp_path, WEB / "npz.mjs", tmp_path / "arrays.npz"))
        for name, array in arrays.items():
            assert found[name]["shape"] == list(array.shape)
            assert np.array_equal(np.array(found[name]["data"], array.dtype), array.ravel()), name
