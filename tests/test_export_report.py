"""The page of an artifact: complete, self-contained, readable in both themes, the same bytes for the same artifact."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.errors import ArtifactInvalid, ContractBroken
from zoo.evaluation.examples import Example, most_flipped, most_moved
from zoo.evaluation.labelling import Box, Label, place
from zoo.evaluation.page import STYLE
from zoo.exporting.compare import compare
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.page.report import render_export
from zoo.plugin import Attempt, Made, Score
from zoo.records.artifact import Artifact
from zoo.records.golden import Golden
from zoo.records.manifest import Latency, Manifest, Refusal, Report, Tensor
from zoo.records.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue

    from .conftest import Answer

EMPTY = {"img", "meta", "br"}
EVIL = "</script><script>alert('&\"')</script>"


class Page(html.parser.HTMLParser):
    """What a browser would make of it; tags that are not closed where they should be are a fault."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["h2"]:
            self.titles.append(data)
        if self._open[-1:] != ["style"]:
            self.words += data + "\n"


def attempts(count: int) -> tuple[Attempt, ...]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        drop = float(rng.normal(0.5, 1)) if i % 5 else 40.0
        score = Score(images=64, top1=0.9 - drop / 100, drop=drop, agreement=0.97, cosine=0.99, cosine_p10=0.98)
        verdict = "chosen" if i == count - 1 else "over budget"
        found.append(Attempt(name=f"try {i}", verdict=verdict, score=score, speedup=float(rng.uniform(0.5, 3))))
    return (*found, Attempt(name="crash", verdict="it does not run")) if found else ()


def manifest(numbers: dict[str, Any], classes: tuple[str, ...], made: Made | None = None, **more: Any) -> Manifest:
    report = {"accepted": True, "reasons": (), "on_target": True, "speedup": 1.9, **more.pop("report", {})}
    timed = {name: Latency(p50=at, p95=at) for name, at in {"artifact": 1.0, "fp32": 1.9, "eager_fp32": 9.0}.items()}
    return Manifest(
        **{
            "format": "onnx",
            "precision": "int8",
            "target": "host",
            "classes": classes,
            "input": Tensor(name="image", dtype="uint8", shape=(None, 8, 8, 3)),
            "output": Tensor(name="probabilities", dtype="float32", shape=(None, len(classes))),
            "preprocess": {"size": [8, 8]},
            "files": {"model.onnx": "ab" * 32},
            "model_file": "model.onnx",
            "made": json.loads(json.dumps(asdict(made or Made()))),
            "lineage": {"run": "tiny-digits", "versions": {"python": "3.11"}},
            "licenses": {"code": "Apache-2.0"},
            "report": Report(
                split="val", size_bytes=10, latency_ms=timed, max_drop=1.0, min_speedup=1.0, **numbers, **report
            ),
            **more,
        }
    )


def answers(images: int = 200, classes: int = 3, *, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and two sets of probabilities that differ now and then."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, images)
    scores = rng.random((images, classes)) + 0.8 * np.eye(classes)[labels]
    other = np.abs(scores + noise * rng.normal(size=scores.shape))
    shares = [(s / s.sum(1, keepdims=True)).astype(np.float32) for s in (scores, other)]
    return labels, shares[0], shares[1]


def render(classes: tuple[str, ...] = ("a", "b", "c"), made: Made | None = None, **more: Any) -> str:
    labels, reference, artifact = more.pop("answers", None) or answers(classes=len(classes))
    thresholds = np.full(len(classes), 0.5) if more.get("multi_label") else None
    found = manifest(compare(labels, reference, artifact, classes, thresholds), classes, made, **more)
    images = np.random.default_rng(2).integers(0, 255, (len(labels), 8, 8, 3), np.uint8)

    def examples(chosen: list[int]) -> list[Example]:
        return [
            Example(image=images[i], label=labels[i], reference=reference[i], artifact=artifact[i], index=i)
            for i in chosen
        ]

    golden = Golden(images=images[:8], labels=labels[:8], reference=reference[:8], artifact=artifact[:8])
    flipped, moved = most_flipped(labels, reference, artifact, thresholds), most_moved(reference, artifact, thresholds)
    return render_export(found, golden, examples(flipped), examples(moved))


RICH = Made(notes=("two layers stayed in float",), attempts=attempts(30), layers={"conv1": "int8", "conv2": "float32"})


def test_everything_is_told_verdict_first() -> None:
    page = Page(render(made=RICH, session={"session.disable_quant_qdq": "1"}))
    titles = ["Accuracy", "Accuracy, latency and size", "What was tried", "What runs in what", "Classes"]
    assert page.titles == [*titles, "Images, as the file takes them", "How it was made"]
    assert 0 < page.words.index("Accepted") < page.words.index("eager fp32")
    for text in ("two layers stayed in float", "try 29", "crash", "float32: 1", "session.disable_quant_qdq", "ab" * 32):
        assert text in page.words, text
    assert page.tags.count("img") == 12 + 6 + 6


def test_a_plain_export_has_no_empty_chapters() -> None:
    labels, reference, _ = answers()
    page = Page(render(answers=(labels, reference, reference)))
    assert not {"What was tried", "What runs in what"} & set(page.titles)
    assert "No answer changed." in page.words
    assert "No class changed." in page.words


def test_a_refused_file_says_so_and_why() -> None:
    reasons = ("drop of top-1 in points 9, limit 1",)
    text = render(report={"accepted": False, "reasons": reasons, "on_target": False, "speedup": None})
    page = Page(text)
    assert "Accepted" not in page.words
    assert "Refused: drop of top-1 in points 9, limit 1" in page.words
    assert "prove it again on the device" in page.words


def test_what_was_refused_before_is_told_with_its_candidates() -> None:
    before = Refusal(precision="int8", reasons=("too slow",), made=asdict(Made(attempts=attempts(4))))
    page = Page(render(precision="int8-weights", instead_of=before))
    assert "int8 was asked for and refused: too slow. int8-weights was made instead." in page.words
    assert "int8: try 3" in page.words
    assert "chosen, then refused" in page.words


@pytest.mark.parametrize("side", [8, 300])
def test_it_needs_nothing_else(side: int) -> None:
    picture = np.random.default_rng(4).integers(0, 255, (side, side // 2, 3), np.uint8)
    probabilities = np.array([0.9, 0.1], np.float32)
    one = Example(image=picture, label=np.array(1), reference=probabilities, artifact=probabilities[::-1])
    golden = Golden(
        images=picture[None], labels=np.array([0]), reference=probabilities[None], artifact=probabilities[None]
    )
    found = manifest(compare(golden.labels, golden.reference, golden.artifact, ("a", "b")), ("a", "b"), RICH)
    text = render_export(found, golden, [one], [])
    page = Page(text)
    assert len(page.addresses) == 2
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"https?:|url\(|@import|<script|<link", text)
    assert len(text) < 60_000


def test_names_are_never_taken_for_markup() -> None:
    made = Made(
        notes=(EVIL,),
        attempts=(*attempts(1), Attempt(name=EVIL, verdict=EVIL)),
        layers={EVIL: EVIL},
        session={EVIL: EVIL},
    )
    more: dict[str, Any] = {name: {EVIL: EVIL} for name in ("session", "licenses", "options", "preprocess", "files")}
    more |= {"format": EVIL, "precision": EVIL, "target": EVIL, "lineage": {EVIL: EVIL, "run": EVIL}}
    before = Refusal(precision=EVIL, reasons=(EVIL,), made=asdict(made))
    refused = {"accepted": False, "reasons": (EVIL,), "machine": {EVIL: EVIL}, "on_target": False}
    text = render((EVIL, "b", "c"), made, report=refused, instead_of=before, **more)
    assert "<script" not in text
    assert "alert('" not in text
    assert Page(text).words.count(EVIL) > 30


def test_a_name_that_is_no_text_is_shown_as_an_escape() -> None:
    assert "caf\\udce9" in render(("caf\udce9", "b", "c")).encode().decode()


def test_every_colour_is_there_in_light_and_in_dark() -> None:
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{ :root \{(.*?)\}", STYLE, re.DOTALL)
    light = re.search(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert light
    assert dark
    shades = {name: set(re.findall(r"(--\w+):", block.group(1))) for name, block in (("light", light), ("dark", dark))}
    see_through = {"--line", "--panel"}
    assert shades["light"] - see_through == shades["dark"]
    assert set(re.findall(r"var\((--\w+)\)", render(made=RICH))) <= shades["light"]
    assert not re.findall(r'(?:fill|stroke)="#', render(made=RICH))


def test_the_same_artifact_gives_the_same_bytes() -> None:
    assert render(made=RICH) == render(made=RICH)


def test_several_labels_an_image() -> None:
    labels, reference, artifact = answers(classes=4)
    several = (labels.astype(np.uint8)[:, None] >= np.arange(4)).astype(np.uint8)
    page = Page(render(tuple("abcd"), multi_label=True, answers=(several, reference, artifact)))
    assert "mAP" in page.words
    assert "exact match" in page.words
    assert "top-1" not in page.words
    assert "→" in page.words


def test_a_file_without_answers_has_its_page() -> None:
    labels, reference, artifact = answers()
    refused = {"accepted": False, "reasons": ("it does not run",), "speedup": None}
    page = Page(render(answers=(labels, reference, np.full_like(artifact, np.nan)), report=refused))
    assert "no answer" in page.words
    assert "nan" not in page.words


def test_hundreds_of_classes_are_folded() -> None:
    page = Page(render(tuple(f"class {i}" for i in range(300)), answers=answers(3000, 300)))
    assert "275 more classes" in page.words
    assert page.tags.count("details") == 1


@pytest.mark.parametrize("count", [1, 60])
def test_labels_of_a_plot_never_overlap(count: int) -> None:
    rng = np.random.default_rng(3)
    area = Box(0, 0, 700, 300)
    labels = [Label(rng.uniform(40, 640), rng.uniform(20, 280), str(i)) for i in range(count)]
    points = [Box(label.x - 5, label.y - 5, label.x + 5, label.y + 5) for label in labels]
    placed = place(labels, points, area)
    boxes = [box for _, box in placed]
    assert len(boxes) > 0.9 * count
    assert not any(a.meets(b) for i, a in enumerate(boxes) for b in [*boxes[:i], *points])
    assert all(box.inside(area) for box in boxes)


def test_a_needed_label_is_written_also_where_it_is_crowded() -> None:
    area = Box(0, 0, 100, 40)
    crowd = [Box(0, 0, 100, 40)]
    assert place([Label(20, 20, "x")], crowd, area) == []
    assert len(place([Label(20, 20, "x", needed=True)], crowd, area)) == 1


def test_the_worst_images_come_first() -> None:
    labels = np.array([0, 0, 0, 0, 0])
    reference = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.9, 0.1]], np.float32)
    artifact = np.array([[0.4, 0.6], [0.4, 0.6], [0.9, 0.1], [0.6, 0.4], [0.899, 0.101]], np.float32)
    # Lost by far, lost narrowly, then what was gained; the fourth kept its answer, and the last hardly moved.
    assert most_flipped(labels, reference, artifact) == [0, 1, 2]
    assert most_moved(reference, artifact) == [3]
    artifact[4] = np.nan
    assert most_flipped(labels, reference, artifact)[0] == 4


def test_an_artifact_comes_with_its_page(onnx_artifact: Artifact, cli: Callable[..., Answer]) -> None:
    found = onnx_artifact.manifest()
    assert "report.html" in found.files
    onnx_artifact.check_files(found)
    # Nothing moved in fp32, so that the page has no more images than the golden ones.
    assert onnx_artifact.page.read_text() == render_export(found, onnx_artifact.golden(), [], [])
    assert json.loads(cli("show", "artifact", onnx_artifact.path, "--json").stdout)["page"] == str(onnx_artifact.page)
    shown = cli("show", "artifact", onnx_artifact.path)
    assert shown.code == 0
    assert "report.html" in shown.stdout


class Boaster:
    """An exporter whose file is of no interest: what it tells of it is."""

    suffix = ".onnx"
    precisions = ("fp32",)
    told: object = None

    def export(self, request: object, out: Path) -> object:
        out.touch()
        return self.told

    def open(self, model_file: Path, *, threads: int = 0) -> object:
        raise AssertionError("what tells nonsense is never opened")


@pytest.mark.parametrize(
    "told",
    [
        "fine",
        Made(notes="a line"),  # type: ignore[arg-type]
        Made(attempts=(Attempt(name="a", verdict="b", speedup=float("nan")),)),
        Made(layers={"conv": 8}),  # type: ignore[dict-item]
    ],
    ids=["no Made", "one text", "not a number", "a number"],
)
def test_what_no_page_can_show_is_the_exporters_fault(
    catalogue: Catalogue, trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: object
) -> None:
    run = Run(shutil.copytree(trained_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("export")))
    monkeypatch.setattr(Boaster, "told", told)
    load = type(catalogue).load
    monkeypatch.setattr(
        type(catalogue), "load", lambda self, plugin: Boaster if plugin.kind == "exporter" else load(self, plugin)
    )
    with pytest.raises(ContractBroken, match=r"is no zoo\.plugin\.Made"):
        export_run(catalogue, run, ExportSpec(format="onnx"))
    assert list(run.export_folder.iterdir()) == []


def test_a_rejected_artifact_has_its_page(trained_run: Run, cli: Callable[..., Answer], tmp_path: Path) -> None:
    run = shutil.copytree(trained_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    answer = cli("export", run, "--onnx", "--fp32", "--min-speedup", 1000)
    assert answer.code == 3
    rejected = Artifact(run / "export/onnx-fp32.rejected")
    assert "✗ Refused" in rejected.page.read_text()
    assert f"page: {rejected.page}" in answer.stdout
    rejected.page.write_text("another")
    with pytest.raises(ArtifactInvalid, match=r"report\.html has changed"):
        rejected.check_files(rejected.manifest())
