"""What an exporter promises: a file that answers as the model does, or a refusal in one line."""

from __future__ import annotations

import contextlib
import copy
import functools
import getpass
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.catalogue.options import exporter_options
from zoo.contracts.plugins import Exporter, ExportRequest
from zoo.contracts.precision import PRECISIONS
from zoo.errors import ExportUnsupported, ZooError
from zoo.testing.contract import Contract, changes, error_of, one_line, restored
from zoo.testing.fresh import fresh, watching_writes
from zoo.testing.requests import (
    NoImages,
    eager,
    footprint,
    halfway,
    make_request,
    resized_pictures,
    same,
    unknown_to,
)
from zoo.testing.toys import CLASSES, SIDE, pictures, tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from zoo.catalogue.options import Option

COARSE = 0.1
"""By how much fewer classes sixteen levels may keep."""
FP32_TOLERANCE = 1e-4
"""Of a probability."""
SELF_TOLERANCE = 1e-5
"""Of a probability, between two ways of asking one file the same."""
DYNAMIC_TOLERANCE = 5e-2
"""The same, where other images of the batch change the ranges."""
RESIZE_TOLERANCE = 2e-2
"""Of a probability, where pixels may differ by a level from Pillow's."""


class ExporterContract(Contract):
    """The promises of an exporter, for every precision that it has."""

    kind = "exporter"

    @pytest.fixture
    def backbone(self) -> torch.nn.Module:
        """What is exported: float32 [N, 3, SIDE, SIDE] to logits for CLASSES, in eval mode."""
        return self.once("backbone", tiny_backbone)

    @pytest.fixture
    def agreement(self) -> float:
        """The share of pictures whose class a precision below fp32 must keep."""
        return 0.9

    @pytest.fixture
    def exporter(self, loaded: Any) -> Any:
        """The exporter, made as zoo makes it."""
        return loaded()

    @pytest.fixture
    def known_options(self, exporter: Any) -> Mapping[str, Option]:
        """The options that users can give."""
        return exporter_options(exporter)

    @pytest.fixture
    def request_for(
        self, backbone: torch.nn.Module, options: dict[str, Any], known_options: Mapping[str, Option]
    ) -> Callable[..., ExportRequest]:
        """Make a request as zoo does: `request_for(precision, multi_label=True)`, of a model that nothing changed."""
        own = {**{name: option.default for name, option in known_options.items()}, **options}

        def request(precision: str, **changed: Any) -> ExportRequest:
            return make_request(copy.deepcopy(backbone), precision, changed.pop("options", own), **changed)

        return request

    @pytest.fixture
    def working(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The working folder of the export, empty before."""
        return self.once("working", lambda: tmp_path_factory.mktemp("working"))

    @pytest.fixture
    def exports(
        self,
        exporter: Any,
        request_for: Callable[..., ExportRequest],
        working: Path,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> dict[str, tuple[Path, str]]:
        """Precision -> the model file, each in a folder of its own, and why it was refused, if it was."""

        def export_all() -> dict[str, tuple[Path, str]]:
            found = {}
            for precision in exporter.precisions:
                out, refusal = tmp_path_factory.mktemp(f"export-{precision}") / f"model{exporter.suffix}", ""
                with contextlib.chdir(working):
                    try:
                        exporter.export(request_for(precision), out)
                    except ExportUnsupported as exc:
                        refusal = str(exc)
                found[precision] = out, refusal
            return found

        return self.once("exports", export_all)

    @pytest.fixture
    def files(self, exports: dict[str, tuple[Path, str]]) -> dict[str, Path]:
        """Precision -> the model file, for those that are there for this backbone."""
        return {precision: out for precision, (out, refusal) in exports.items() if not refusal}

    def test_it_is_an_exporter(self, exporter: Any) -> None:
        """Made with no arguments; a suffix with its dot, precisions that zoo knows, `export` and `open`."""
        assert isinstance(exporter, Exporter), "it lacks one of suffix, precisions, export, open"
        assert exporter.suffix.startswith("."), f"suffix {exporter.suffix!r} has no dot"
        assert exporter.precisions, "it has no precision"
        assert isinstance(exporter.precisions, tuple), "precisions must be a tuple"
        assert set(exporter.precisions) <= set(PRECISIONS), (
            f"precisions {exporter.precisions}; zoo knows {[*PRECISIONS]}"
        )
        assert "threads" in inspect.signature(exporter.open).parameters, "open takes no `threads`"

    def test_a_precision_that_is_not_for_this_model_is_refused(self, exports: dict[str, tuple[Path, str]]) -> None:
        """In one line, with nothing left behind; the first precision, which users get, is there for every model."""
        for precision, (out, refusal) in exports.items():
            if refusal:
                assert precision != next(iter(exports)), f"{precision}, its first precision, is refused: {refusal}"
                assert "\n" not in refusal, f"{precision}: the refusal has several lines"
                assert not list(out.parent.iterdir()), f"{precision}: it refused, and left files behind"

    def test_it_writes_its_file_and_nothing_elsewhere(self, files: dict[str, Path], working: Path) -> None:
        """`out`, and perhaps files beside it that bear its name; nothing in the working folder."""
        assert not list(working.iterdir()), f"it left {next(working.iterdir()).name} in the working folder"
        for precision, out in files.items():
            assert out.is_file(), f"{precision}: it did not write {out.name}"
            strays = [p.name for p in out.parent.iterdir() if not p.name.startswith(out.stem)]
            assert not strays, f"{precision}: {strays[0]} lies beside {out.name} and does not bear its name"

    def test_any_batch_of_pixels_becomes_probabilities(self, exporter: Any, files: dict[str, Path]) -> None:
        """uint8 [N, H, W, 3] to float32 [N, C] in 0..1 that sum to 1, for any N."""
        for precision, out in files.items():
            predict = exporter.open(out)
            for count in (1, 2, 5):
                answers = predict(pictures(count)[0])
                got = (type(answers).__name__, getattr(answers, "dtype", None), getattr(answers, "shape", None))
                assert got == ("ndarray", np.float32, (count, len(CLASSES))), f"{precision}, {count} images: {got}"
                assert np.isfinite(answers).all(), f"{precision}: answers are not finite"
                assert answers.min() >= 0, f"{precision}: a probability below 0"
                assert np.abs(answers.sum(1) - 1).max() < 1e-2, f"{precision}: they do not sum to 1"

    def test_fp32_answers_as_the_model(self, exporter: Any, files: dict[str, Path], request_for: Any) -> None:
        """To the last digits that fp32 has."""
        images, _ = pictures(40, seed=1)
        for precision in {"fp32"} & files.keys():
            difference = np.abs(exporter.open(files[precision])(images) - eager(request_for(precision), images)).max()
            assert difference <= FP32_TOLERANCE, f"probabilities differ by {difference:.3g}"

    def test_lower_precisions_keep_most_classes(
        self, exporter: Any, files: dict[str, Path], request_for: Any, agreement: float
    ) -> None:
        """What is left is for the proof on real images to judge."""
        images, _ = pictures(200, seed=1)
        for precision in files.keys() - {"fp32"}:
            expected = eager(request_for(precision), images)
            same = (exporter.open(files[precision])(images).argmax(1) == expected.argmax(1)).mean()
            wanted = agreement - COARSE if PRECISIONS[precision].bits < 8 else agreement
            assert same >= wanted, f"{precision} keeps the class of {same:.1%} of the pictures, not {wanted:.0%}"

    def test_images_of_a_batch_do_not_mix(self, exporter: Any, files: dict[str, Path]) -> None:
        """Each is answered by itself, in its place; an answer is not overwritten by the next.

        What finds its ranges as it runs finds them over the whole batch, and may round the rest a little otherwise.
        """
        images, _ = pictures(6, seed=2)
        for precision, out in files.items():
            tolerance = DYNAMIC_TOLERANCE if PRECISIONS[precision].coarse else SELF_TOLERANCE
            predict = exporter.open(out)
            together = predict(images)
            alone = np.concatenate([predict(images[i : i + 1]) for i in range(len(images))])
            assert np.abs(together - alone).max() <= tolerance, f"{precision}: answers depend on the batch"
            kept = predict(images[:1])
            before = kept.copy()
            predict(images[1:2])
            assert np.array_equal(kept, before), f"{precision}: the next call overwrote an answer"

    def test_the_number_of_threads_changes_no_answer(self, exporter: Any, files: dict[str, Path]) -> None:
        """One, two or the runtime's choice."""
        images, _ = pictures(4, seed=2)
        for precision, out in files.items():
            chosen, one, two = (exporter.open(out, threads=threads)(images) for threads in (0, 1, 2))
            assert np.abs(chosen - one).max() < 1e-4, f"{precision}: answers depend on threads"
            assert np.abs(two - one).max() < 1e-4, f"{precision}: answers depend on threads"

    def test_images_are_left_as_they_were(self, exporter: Any, files: dict[str, Path]) -> None:
        """Read-only and strided ones are taken as well."""
        images, _ = pictures(4, seed=2)
        for precision, out in files.items():
            predict = exporter.open(out)
            before = images.copy()
            expected = predict(images)
            assert np.array_equal(images, before), f"{precision}: it changed its input"
            assert np.abs(predict(images[::-1])[::-1] - expected).max() <= SELF_TOLERANCE, (
                f"{precision}: strided images"
            )
            locked = images.copy()
            locked.flags.writeable = False
            assert np.array_equal(predict(locked), expected), f"{precision}: read-only images"

    def test_a_new_process_gives_the_same_answers(self, exporter: Any, files: dict[str, Path], tmp_path: Path) -> None:
        """From the files alone, moved elsewhere, without a network, without a word, and writing nothing."""
        images, _ = pictures(4, seed=2)
        for precision, out in files.items():
            expected = exporter.open(out)(images)
            moved = out.parent.rename(tmp_path / precision)
            try:
                found = fresh(reopened, self.name, str(moved / out.name), folder=tmp_path, offline=True)
            finally:
                moved.rename(out.parent)
            difference = np.abs(np.array(found.result["answers"]) - expected).max()
            assert difference <= SELF_TOLERANCE, f"{precision}: in a new process answers differ by {difference:.3g}"
            assert not found.stdout + found.stderr, f"{precision}: it said {(found.stdout + found.stderr)[:80]!r}"
            assert not found.result["written"], f"{precision}: opening wrote {found.result['written'][0]}"

    def test_the_model_is_left_as_it_was(
        self, exporter: Any, files: dict[str, Path], request_for: Callable[..., ExportRequest], tmp_path: Path
    ) -> None:
        """Weights, modes and hooks: it is exported again, and is the reference of the proof."""
        for precision in files:
            request = request_for(precision)
            before = footprint(request.model)
            exporter.export(request, tmp_path / f"{precision}{exporter.suffix}")
            changed = [name for name, was in before.items() if not same(footprint(request.model).get(name), was)]
            assert not changed, f"{precision}: exporting changed {changed[0]}"

    def test_multi_label_models_keep_their_sigmoid(
        self, exporter: Any, files: dict[str, Path], request_for: Callable[..., ExportRequest], tmp_path: Path
    ) -> None:
        """The end of `request.model` is part of the file, whatever it is."""
        images, _ = pictures(20, seed=3)
        for precision in files:
            request = request_for(precision, multi_label=True)
            out = tmp_path / f"{precision}{exporter.suffix}"
            exporter.export(request, out)
            limit = FP32_TOLERANCE if precision == "fp32" else 0.1
            difference = np.abs(exporter.open(out)(images) - eager(request, images)).mean()
            assert difference <= limit, f"{precision}: a multi-label model's answers differ by {difference:.3g}"

    def test_what_is_unknown_is_told(
        self, exporter: Any, files: dict[str, Path], request_for: Callable[..., ExportRequest], tmp_path: Path
    ) -> None:
        """By exporters that say so (`tells_unknown`): of the same images as by the model, beside its probabilities."""
        if not getattr(exporter, "tells_unknown", False):
            return
        images, _ = pictures(40, seed=3)
        for precision in files:
            request = request_for(precision, unknown=halfway(request_for(precision), images))
            out = tmp_path / f"{precision}{exporter.suffix}"
            exporter.export(request, out)
            predict = exporter.open(out)
            assert hasattr(predict, "with_unknown"), f"{precision}: what `open` returns has no `with_unknown`"
            probabilities, unknown = predict.with_unknown(images)
            got = (getattr(unknown, "dtype", None), getattr(unknown, "shape", None))
            assert got == (np.bool_, (len(images),)), f"{precision}: `unknown` is {got}"
            assert np.array_equal(probabilities, predict(images)), f"{precision}: its probabilities are others there"
            same = (unknown == unknown_to(request, images)).mean()
            least = 1.0 if precision == "fp32" else 0.75
            assert same >= least, f"{precision}: `unknown` is the model's for {same:.0%} of the pictures"

    def test_images_of_any_size_are_resized(
        self, exporter: Any, files: dict[str, Path], request_for: Callable[..., ExportRequest], tmp_path: Path
    ) -> None:
        """By exporters that say so (`resizes_in_graph`): as `Preprocess.prepare` does; and the same file without."""
        if not getattr(exporter, "resizes_in_graph", False):
            return
        assert hasattr(exporter, "without_resize"), "it has no `without_resize`"
        for precision in files:
            request = request_for(precision, resize=True)
            out, plain = (tmp_path / f"{precision}{part}{exporter.suffix}" for part in ("", "-plain"))
            exporter.export(request, out)
            exporter.without_resize(out, request.preprocess, plain)
            whole, network = exporter.open(out), exporter.open(plain)
            for images in resized_pictures():
                answers = whole(images)
                assert answers.shape == (len(images), len(CLASSES)), f"{precision}: of {len(images)} {answers.shape}"
                pixels = np.stack([request.preprocess.prepare(image) for image in images])
                gap = np.abs(answers - network(pixels)).max()
                assert gap <= RESIZE_TOLERANCE, f"{precision}: at {images.shape[1:3]} its answers differ by {gap:.3g}"
            if precision == "fp32":
                gap = np.abs(network(pixels) - eager(request, pixels)).max()
                assert gap <= FP32_TOLERANCE, f"without its resize the file differs by {gap:.3g} from the model"

    def test_a_model_that_depends_on_pixels_is_refused_or_right(
        self, exporter: Any, request_for: Callable[..., ExportRequest], tmp_path: Path
    ) -> None:
        """A trace of one branch is wrong on the other: never in silence."""
        images = np.concatenate([np.zeros((2, SIDE, SIDE, 3), np.uint8), np.full((2, SIDE, SIDE, 3), 255, np.uint8)])
        out = tmp_path / f"model{exporter.suffix}"
        backbone = tiny_backbone(branching=True)
        request = make_request(backbone, "fp32", dict(request_for(exporter.precisions[0]).options))
        if "fp32" not in exporter.precisions:
            request = make_request(backbone, exporter.precisions[0], dict(request.options))
        error = error_of(lambda: exporter.export(request, out))
        if error:
            assert one_line(error), f"it raised {type(error).__name__}: {error}; raise ExportUnsupported"
            assert not list(tmp_path.iterdir()), "it refused, and left files behind"
            return
        predict = exporter.open(out)
        for half in (images[:2], images[2:]):
            assert np.abs(predict(half) - eager(request, half)).max() < 0.05, (
                "it exported one branch as the whole model"
            )

    def test_calibration_without_images_is_refused(
        self, exporter: Any, files: dict[str, Path], request_for: Callable[..., ExportRequest], tmp_path: Path
    ) -> None:
        """By every precision that asks for images."""
        for precision in files:
            none = NoImages()
            out = tmp_path / f"{precision}{exporter.suffix}"
            error = error_of(functools.partial(exporter.export, request_for(precision, calibration=none), out))
            if error:
                assert one_line(error), f"{precision}: {type(error).__name__}: {error}; raise ExportUnsupported"
                assert not out.exists(), f"{precision}: it refused, and left {out.name} behind"
            else:
                assert not none.asked, f"{precision}: it asked for calibration images, got none and went on"

    def test_a_damaged_file_is_refused_in_one_line(self, exporter: Any, files: dict[str, Path], tmp_path: Path) -> None:
        """Empty, cut, missing or something else: ArtifactInvalid, never a crash."""
        whole = next(iter(files.values())).read_bytes()
        for damage, data in {"empty": b"", "foreign": b"\xff<html>", "cut": whole[: len(whole) // 2]}.items():
            file = tmp_path / f"{damage}{exporter.suffix}"
            file.write_bytes(data)
            self._refuses(exporter, file)
        self._refuses(exporter, tmp_path / f"missing{exporter.suffix}")

    def _refuses(self, exporter: Any, file: Path) -> None:
        error = error_of(lambda: exporter.open(file)(pictures(1)[0]))
        assert error, f"it opened a {file.stem} file and answered"
        assert isinstance(error, ZooError), f"{file.stem} file: {error!r}; raise ArtifactInvalid"
        assert one_line(error), f"{file.stem} file: the error has several lines"

    def test_files_tell_nothing_about_where_they_were_made(self, files: dict[str, Path]) -> None:
        """No folder of this machine, no user: the file goes out into the world."""
        traces = [
            str(Path.cwd()),
            str(Path.home()),
            "site-packages",
            f"/{getpass.getuser()}/",
            str(Path(__file__).parent),
        ]
        for precision, out in files.items():
            for file in out.parent.iterdir():
                found = [t for t in [*traces, str(out.parent)] if len(t) > 2 and t.encode() in file.read_bytes()]
                assert not found, f"{precision}: {file.name} names {found[0]}"

    def test_it_says_nothing_and_leaves_the_process_as_it_was(
        self,
        exporter: Any,
        files: dict[str, Path],
        request_for: Callable[..., ExportRequest],
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """Libraries that chatter are silenced; random states and working folder stay."""
        for precision in files:
            out = tmp_path / f"{precision}{exporter.suffix}"

            def act(precision: str = precision, out: Path = out) -> None:
                exporter.export(request_for(precision), out)
                exporter.open(out)(pictures(2)[0])

            with restored():  # the first export of a process may set up the libraries that it loads
                act()
            found = changes(act)
            assert not found, f"{precision}: it {', '.join(found)}"
            said = "".join(capfd.readouterr())
            assert not said, f"{precision}: it printed {said[:80]!r}"


def reopened(name: str, file: str) -> dict[str, Any]:
    """Open a model file and return its answers; runs in a new process."""
    from zoo.catalogue import Catalogue

    exporter = Catalogue.read().get("exporter", name)()
    exporter.open(Path(file))  # libraries that it imports may keep files of their own
    with watching_writes() as written:
        answers = exporter.open(Path(file))(pictures(4, seed=2)[0])
    return {"answers": answers.tolist(), "written": written}
