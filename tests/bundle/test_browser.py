"""The page of a bundle, used in Chromium as a person uses it, beside the device's own runtime."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from zoo.exporting.export import export_run
from zoo.exporting.job import ExportSpec
from zoo.runtime.model import Model

from ..bundles import unpacked_bundle
from ..pages import FAKE_GPU, choose, opened, ready, self_test, top5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run

pytestmark = pytest.mark.slow
CLOSE = 1e-3
"""Of what a page shows, which is rounded to hundredths of a percent."""


def unpack(catalogue: Catalogue, artifact: Artifact, folder: Path) -> Path:
    return unpacked_bundle(artifact, folder, catalogue.target("browser"))


@pytest.fixture(scope="module")
def bundle(catalogue: Catalogue, onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny model on digits, fp32; not to be changed."""
    return unpack(catalogue, onnx_artifact, tmp_path_factory.mktemp("fp32"))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Pictures of odd sizes: JPEG, one that lies on its side, PNG with holes, GIF, WebP."""
    rng = np.random.default_rng(3)
    files = []
    for number, name in enumerate(("plain.jpg", "turned.jpg", "holes.png", "few.gif", "lossy.webp")):
        picture = Image.fromarray(rng.integers(0, 256, (7 + number, 9, 3), np.uint8)).resize((171 - number, 93))
        exif = Image.Exif()
        exif[0x112] = 6 if name == "turned.jpg" else 1
        if name == "holes.png":
            picture.putalpha(Image.fromarray(rng.integers(0, 256, (5, 5), np.uint8)).resize(picture.size))
        picture.save(tmp_path / name, exif=exif)
        files.append(tmp_path / name)
    return files


def assert_answers(page: Page, model: Model, files: list[Path]) -> None:
    """Hold the cards of files against the runtime's answers."""
    for file in files:
        shown, (wanted,) = top5(page, file.name), model.predict(file)
        assert [name for name, _ in shown] == [name for name, _ in wanted.top]
        assert np.allclose([p for _, p in shown], [p for _, p in wanted.top], atol=CLOSE)


def drop(page: Page, files: list[Path]) -> None:
    """Drop files onto the page."""
    contents = [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files]
    code = """(contents) => {
      const transfer = new DataTransfer();
      const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      for (const [name, text] of contents) transfer.items.add(new File([bytes(text)], name));
      return transfer;
    }"""
    transfer = page.evaluate_handle(code, contents)
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", event, {"dataTransfer": transfer})


def test_it_answers_as_the_runtime_does_what_is_chosen_or_dropped(bundle: Path, photos: list[Path]) -> None:
    with opened(bundle) as page:
        assert ready(page) == "Ready, on 2 threads"
        assert len(page.workers) == 1
        verdict = self_test(page)
        assert verdict.startswith("PASS: ")
        assert "(limit 0.0001)" in verdict
        choose(page, *photos[:2])
        drop(page, photos[2:])
        assert_answers(page, Model(bundle), photos)
        assert page.inner_text("#machine").startswith("Memory: WebAssembly ")
        assert "ms in the network" in page.inner_text("#results")


def test_a_keyboard_is_enough(bundle: Path) -> None:
    with opened(bundle) as page:
        ready(page)
        for wanted in ("Choose files", "Use the camera", "Self-test"):
            page.keyboard.press("Tab")
            assert page.locator(":focus").inner_text() == wanted
        page.keyboard.press("Enter")
        page.locator("#verdict[data-state=pass]").wait_for()


def test_the_camera_runs_from_one_click_to_the_next(bundle: Path) -> None:
    with opened(bundle) as page:
        ready(page)
        assert page.evaluate("document.getElementById('video').srcObject") is None
        page.get_by_role("button", name="Use the camera").click()
        assert len(top5(page, "Camera")) == 5
        page.get_by_role("button", name="Stop the camera").click()
        page.locator("#video").wait_for(state="hidden")
        assert page.evaluate("document.getElementById('video').srcObject") is None


HOSTILE: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "text.jpg": (lambda jpeg, png: b"no picture at all", "is not an image of a known format"),
    "page.png": (lambda jpeg, png: b"<script>alert(1)</script>", "is not an image of a known format"),
    "nothing.png": (lambda jpeg, png: b"", "is empty"),
    "half.jpg": (lambda jpeg, png: jpeg[: len(jpeg) // 2], "is truncated"),
    "half.png": (lambda jpeg, png: png[: len(png) // 2], "is truncated"),
    "spoilt.png": (lambda jpeg, png: png[:90] + bytes(99) + png[189:], "is damaged"),
    "huge.png": (lambda jpeg, png: png[:16] + b"\0\0\x27\x10\0\0\x27\x10" + png[24:], "is damaged"),
}


def test_a_hostile_file_gets_a_line_and_the_next_one_an_answer(
    bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    jpeg, png = photos[0].read_bytes(), photos[2].read_bytes()
    with opened(bundle) as page:
        ready(page)
        for name, (spoil, reason) in HOSTILE.items():
            (tmp_path / name).write_bytes(spoil(jpeg, png))
            choose(page, tmp_path / name)
            card = page.locator("#results > li").filter(has=page.get_by_role("heading", name=name, exact=True))
            assert reason in card.locator(".bad").inner_text()
        choose(page, photos[0])
        assert_answers(page, Model(bundle), photos[:1])
        assert page.locator("#status").get_attribute("data-state") == "ready"


def test_without_the_headers_it_runs_on_one_thread_and_says_why(bundle: Path) -> None:
    with opened(bundle, isolated=False) as page:
        assert ready(page) == "Ready, on 1 thread; more need the headers that serve.py sends"
        assert not page.workers
        assert self_test(page).startswith("PASS: ")


def test_it_runs_on_a_graphics_processor(bundle: Path, photos: list[Path]) -> None:
    with opened(bundle, *FAKE_GPU) as page:
        ready(page)
        page.select_option("#device", "webgpu")
        page.locator("#status[data-state=busy]").wait_for()
        assert ready(page) == "Ready, on the graphics processor"
        assert self_test(page).startswith("PASS: ")
        choose(page, photos[0])
        assert_answers(page, Model(bundle), photos[:1])


@pytest.mark.parametrize(
    "name", ["model.onnx", "artifact.json", "ort/ort-wasm-simd-threaded.wasm", "ort/ort.wasm.min.mjs"]
)
def test_a_changed_bit_is_named_before_anything_is_read(
    catalogue: Catalogue, onnx_artifact: Artifact, tmp_path: Path, name: str
) -> None:
    folder = unpack(catalogue, onnx_artifact, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with opened(folder) as page:
        page.locator("#status[data-state=failed]").wait_for()
        assert page.inner_text("#status").startswith(f"{name} is not what the bundle was made with")
        assert page.get_by_role("button", name="Choose files").is_disabled()


def test_other_answers_than_the_proofs_fail(catalogue: Catalogue, onnx_artifact: Artifact, tmp_path: Path) -> None:
    """The golden vectors of other images, with checksums that are right."""
    from zoo.deploy.bundle.make import digests
    from zoo.runtime.sums import SUMS, read_sums, sums_text

    folder = unpack(catalogue, onnx_artifact, tmp_path)
    with np.load(folder / "golden.npz") as arrays:
        changed = {name: arrays[name] for name in arrays}
    changed["artifact"] = changed["artifact"][::-1]
    np.savez_compressed(folder / "golden.npz", **changed)
    sums = read_sums(folder) | digests({"golden.npz": (folder / "golden.npz").read_bytes()})
    (folder / SUMS).write_text(sums_text(sums))
    with opened(folder) as page:
        ready(page)
        assert self_test(page).startswith("FAIL: ")


SPECS = {
    "int8-weights": ExportSpec(format="onnx", precision="int8-weights"),
    "resize, unknown": ExportSpec(format="onnx", precision="fp32", resize=True, unknown=0.05),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_other_kinds_of_files(
    catalogue: Catalogue, trained_run: Run, photos: list[Path], tmp_path: Path, spec: ExportSpec
) -> None:
    artifact, manifest = export_run(catalogue, trained_run, spec)
    assert manifest.report.accepted, manifest.report.reasons
    folder = unpack(catalogue, artifact, tmp_path)
    assert (folder / "ort/ort.jspi.min.mjs").exists() is (manifest.precision == "fp32")
    model = Model(folder)
    with opened(folder) as page:
        ready(page)
        assert self_test(page).startswith("PASS: ")
        choose(page, *photos)
        assert_answers(page, model, photos)
        unknown = sum(bool(answer.unknown) for answer in model.predict(photos))
        assert page.locator("#results .unknown").count() == unknown
