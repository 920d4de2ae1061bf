"""Exporters that break one promise each, named after what is wrong, and a good one."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import shutil
import socket
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.plugin import ArtifactInvalid, ExportRequest, ExportUnsupported, Preprocess

if TYPE_CHECKING:
    import torch

Answers = Any
"""What a predictor returns: float32 [N, C], or what a fault makes of it."""


class good:
    """A trace at fp32, and one with rounded weights at int8."""

    suffix: Any = ".traced"
    precisions: Any = ("fp32", "int8")
    tells_unknown: Any = True
    resizes_in_graph: Any = True
    steps = 127

    def export(self, request: ExportRequest, out: Path) -> None:
        out.write_bytes(traced(self.model(request), request))
        if request.resize:
            beside(out).write_text(json.dumps(request.preprocess.to_json()))

    def without_resize(self, model_file: Path, preprocess: Preprocess, out: Path) -> None:
        shutil.copy(model_file, out)

    def model(self, request: ExportRequest) -> torch.nn.Module:
        return rounded(request, self.steps) if request.precision == "int8" else request.model

    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        taken = beside(model_file)
        preprocess = Preprocess.from_json(json.loads(taken.read_text())) if taken.is_file() else None
        return Opened(self, opened(model_file), preprocess)

    def prepared(self, preprocess: Preprocess, image: np.ndarray) -> np.ndarray:
        return preprocess.prepare(image)

    def answers(self, model: Any, images: np.ndarray) -> Answers:
        return run(model, images)[0]

    def unknown(self, model: Any, images: np.ndarray) -> Answers:
        return run(model, images)[1]


class Opened:
    """The predictor of a trace, as an exporter lets it answer."""

    def __init__(self, exporter: good, model: Any, preprocess: Preprocess | None = None) -> None:
        self.exporter, self.model, self.preprocess = exporter, model, preprocess

    def __call__(self, images: np.ndarray) -> Answers:
        if self.preprocess:
            images = np.stack([self.exporter.prepared(self.preprocess, image) for image in images])
        return self.exporter.answers(self.model, images)

    def with_unknown(self, images: np.ndarray) -> tuple[Answers, Answers]:
        return self(images), self.exporter.unknown(self.model, images)


def beside(model_file: Path) -> Path:
    """Return where it says what is to be done to images first."""
    return model_file.with_name(model_file.name + ".json")


def run(model: Any, images: np.ndarray) -> list[np.ndarray]:
    """Return each of the outputs of a trace."""
    import torch

    with torch.inference_mode():
        return [output.numpy() for output in outputs(model(torch.from_numpy(images.copy())))]


def outputs(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


def opened(file: Path) -> Any:
    """Load a trace, or refuse it in one line."""
    import torch

    try:
        return torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    except Exception as exc:
        raise ArtifactInvalid(f"{file} is no trace; export it again") from exc


def traced(model: torch.nn.Module, request: ExportRequest, *, check: bool = True, batch: int = 2) -> bytes:
    """Return a trace without the names of source files."""
    import torch

    buffer, slim = io.BytesIO(), io.BytesIO()
    dark = torch.zeros(batch, *request.preprocess.size, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace(model, (dark,), check_trace=False)  # type: ignore[no-untyped-call]
        bright = torch.full((3, *dark.shape[1:]), 255, dtype=torch.uint8)
        if check and not torch.allclose(outputs(trace(bright))[0], outputs(model(bright))[0], atol=1e-3):
            raise ExportUnsupported("the trace answers otherwise than the model; try another backbone")
        torch.jit.save(trace, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(slim, "w") as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(entry, old.read(entry))
    return slim.getvalue()


def rounded(request: ExportRequest, steps: int) -> torch.nn.Module:
    """Return the model with weights of so many steps; as calibration would, it looks at pictures."""
    import torch

    if not [*request.calibration()]:
        raise ExportUnsupported("int8 needs images to calibrate with; give some")
    model = copy.deepcopy(request.model)
    with torch.no_grad():
        for weight in model.parameters():
            step = weight.abs().max().clamp(min=1e-6) / steps
            weight.copy_((weight / step).round() * step)
    return model


class fp32_only(good):
    """Half the work, for faults that show in one precision."""

    precisions: Any = ("fp32",)


class int8_only(good):
    """The same."""

    precisions: Any = ("int8",)


class Changed(fp32_only):
    """One whose answers a fault changes."""

    def answers(self, model: Any, images: np.ndarray) -> Answers:
        return self.change(super().answers(model, images), images)

    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return answers


# What it is.


class it_cannot_open:
    suffix = ".traced"
    precisions = ("fp32",)

    def export(self, request: ExportRequest, out: Path) -> None: ...


class its_suffix_has_no_dot(good):
    suffix = "traced"


class its_precisions_are_a_list(good):
    precisions: Any = ["fp32"]  # noqa: RUF012


class its_precision_is_int4(good):
    precisions = ("fp32", "int4")


class it_has_no_precision(good):
    precisions: Any = ()


class it_takes_no_threads(good):
    def open(self, model_file: Path) -> Any:  # type: ignore[override]
        return super().open(model_file)


class it_is_made_with_an_argument(good):
    def __init__(self, folder: Path) -> None:
        self.folder = folder


# What it writes.


class writes_a_file_beside(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        (out.parent / "labels.txt").write_text("\n".join(request.classes))


class chooses_its_own_suffix(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out.with_suffix(".pt"))


class leaves_a_log_in_the_working_folder(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        Path("export.log").write_text("done")


class names_the_folder_in_the_file(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr("made", str(out))


class keeps_the_names_of_source_files(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr("traced/code.debug_pkl", np.__file__)


# What it answers.


class answers_in_float64(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return answers.astype(np.float64)


class answers_a_tensor(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        import torch

        return torch.from_numpy(answers)


class answers_one_image_only(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return answers[:1]


class answers_in_percent(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return answers * np.float32(100)


class answers_with_logits(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return np.log(answers)


class takes_a_batch_of_two_only(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        return super().answers(model, np.resize(images, (2, *images.shape[1:])))


class has_a_softmax_too_many(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return np.exp(answers) / np.exp(answers).sum(1, keepdims=True)


class takes_blue_for_red(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        return super().answers(model, images[..., ::-1])


class its_fp32_is_fp16(fp32_only):
    def model(self, request: ExportRequest) -> Any:
        return copy.deepcopy(request.model).half().float()


class its_int8_has_three_steps(int8_only):
    steps = 1


class its_int8_knows_half_of_the_classes(int8_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        answers = super().answers(model, images)
        return np.concatenate([answers[:, :2] + answers[:, 2:], 0 * answers[:, 2:]], axis=1)


class images_of_a_batch_mix(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return np.float32(0.9) * answers + np.float32(0.1) * answers.mean(0)


class answers_come_sorted(Changed):
    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return answers[np.argsort(answers[:, 0])]


class the_next_call_overwrites_an_answer(Changed):
    def __init__(self) -> None:
        self.buffer = np.zeros((100, 4), np.float32)

    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        self.buffer[: len(answers)] = answers
        return self.buffer[: len(answers)]


class threads_change_its_answers(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        predict = super().open(model_file)
        return lambda images: np.roll(predict(images), threads // 2, axis=1)


class swaps_the_channels_in_place(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        answers = super().answers(model, images)
        images[:] = images[..., ::-1]
        return answers


class cannot_take_strided_images(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        import torch

        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()


class takes_images_as_they_lie(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        whole = images if images.base is None else images.base
        return super().answers(model, whole)


class wants_to_write_into_its_images(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        images.flags.writeable = images.flags.writeable
        images += np.uint8(0)
        return super().answers(model, images)


# What a file is worth elsewhere.


class remembers_the_model_in_its_module(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        MEMORY[out.name] = traced(request.model, request)
        out.write_bytes(b"see memory")

    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        (model_file.parent / "copy").write_bytes(MEMORY[model_file.name])
        return super().open(model_file.parent / "copy")


MEMORY: dict[str, bytes] = {}


class remembers_where_its_weights_lie(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out.with_suffix(".bin"))
        out.write_text(str(out.with_suffix(".bin")))

    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        return super().open(Path(model_file.read_text()))


class prints_when_opened(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        print("loading")
        return super().open(model_file)


class asks_the_network_when_opened(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        socket.getaddrinfo("localhost", 80)
        return super().open(model_file)


# What it does to the model.


class leaves_the_model_in_train_mode(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        request.model.train()


class leaves_a_hook(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        request.backbone.register_forward_hook(lambda *_: None)
        super().export(request, out)


class rounds_the_model_itself(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        for weight in request.model.parameters():
            weight.data = weight.data.half().float()


class leaves_the_model_in_half_precision(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        request.model.half()


class fuses_layers_of_the_model(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        import torch

        super().export(request, out)
        layers: Any = request.backbone.features
        layers[2] = torch.nn.Hardtanh(0, 1e9)


class always_ends_in_a_softmax(fp32_only):
    def model(self, request: ExportRequest) -> torch.nn.Module:
        return request.preprocess.wrap(request.backbone).eval()


# What it tells of unknown images.


class cannot_say_what_is_unknown(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        model = opened(model_file)
        return lambda images: self.answers(model, images)


class knows_everything(fp32_only):
    def unknown(self, model: Any, images: np.ndarray) -> Answers:
        return np.zeros(len(images), bool)


class tells_unknown_as_numbers(fp32_only):
    def unknown(self, model: Any, images: np.ndarray) -> Answers:
        return super().unknown(model, images).astype(np.float32)


class tells_it_beside_other_probabilities(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        return Untrue(self, opened(model_file))


class Untrue(Opened):
    def with_unknown(self, images: np.ndarray) -> tuple[Answers, Answers]:
        probabilities, unknown = super().with_unknown(images)
        return probabilities[:, ::-1].copy(), unknown


# What it does with images of any size.


class cannot_leave_the_resize_out(fp32_only):
    without_resize: Any = property()


class keeps_the_resize_that_it_should_leave_out(fp32_only):
    def without_resize(self, model_file: Path, preprocess: Preprocess, out: Path) -> None:
        shutil.copy(model_file, out)
        shutil.copy(beside(model_file), beside(out))


class stretches_what_should_be_cut(fp32_only):
    def prepared(self, preprocess: Preprocess, image: np.ndarray) -> np.ndarray:
        return replace(preprocess, crop="squash").prepare(image)


class takes_the_first_image_only(fp32_only):
    def answers(self, model: Any, images: np.ndarray) -> Answers:
        return super().answers(model, images)[:1]


# What it refuses.


class exports_one_branch(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        out.write_bytes(traced(request.model, request, check=False))


class refuses_a_branch_with_a_crash(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        try:
            super().export(request, out)
        except ExportUnsupported as exc:
            raise RuntimeError("graph break") from exc


class refuses_and_leaves_a_file(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        out.with_suffix(".log").write_text("tracing")
        super().export(request, out)


class calibrates_with_nothing(int8_only):
    def model(self, request: ExportRequest) -> torch.nn.Module:
        [*request.calibration()]
        return request.model


class no_images_crash_it(int8_only):
    def model(self, request: ExportRequest) -> torch.nn.Module:
        np.concatenate([*request.calibration()])
        return request.model


class refuses_its_first_precision(int8_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        raise ExportUnsupported("int8 is not for this model; use another format")


class refuses_a_precision_in_two_lines(good):
    def export(self, request: ExportRequest, out: Path) -> None:
        if request.precision == "int8":
            raise ExportUnsupported("int8 is not for this model;\nuse --fp32")
        super().export(request, out)


class refuses_a_precision_and_leaves_a_file(good):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        if request.precision == "int8":
            raise ExportUnsupported("int8 is not for this model; use --fp32")


class its_dynamic_answers_mix(Changed):
    precisions: Any = ("dynamic",)

    def change(self, answers: np.ndarray, images: np.ndarray) -> Answers:
        return np.float32(0.7) * answers + np.float32(0.3) * answers.mean(0)


class writes_before_it_calibrates(int8_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        out.write_bytes(traced(request.model, request))
        super().export(request, out)


class a_damaged_file_crashes_it(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        import torch

        model: Any = torch.jit.load(str(model_file))  # type: ignore[no-untyped-call]
        return lambda images: self.answers(model, images)


class refuses_in_many_lines(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        try:
            return super().open(model_file)
        except ArtifactInvalid as exc:
            raise ArtifactInvalid(f"{exc}:\n{exc.__cause__}\n") from exc


class answers_whatever_the_file(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        return lambda images: np.full((len(images), 4), 0.25, np.float32)


# What it does to the process.


class prints_when_it_exports(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        print("exported")


class chatters_on_the_error_stream(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        super().export(request, out)
        os.write(2, b"[W:onnxruntime] hello\n")


class seeds_torch(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        import torch

        torch.manual_seed(0)
        super().export(request, out)


class draws_from_python_s_generator(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        random.random()
        super().export(request, out)


class moves_into_the_folder(fp32_only):
    def export(self, request: ExportRequest, out: Path) -> None:
        os.chdir(out.parent)
        super().export(request, out)


class sets_an_environment_variable(fp32_only):
    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        os.environ["TRACE_THREADS"] = str(threads)
        return super().open(model_file)


# Its options.


class an_export_option_without_a_help(good):
    """A trace."""

    def export_options(self) -> dict[str, object]:
        return {"opset": 17}


class an_export_option_of_no_type(good):
    """A trace.

    Options:
        opset: The version of the operators.
    """

    def export_options(self) -> dict[str, object]:
        return {"opset": None}


BROKEN = {
    "test_it_is_an_exporter": (
        "it_cannot_open",
        "its_suffix_has_no_dot",
        "its_precisions_are_a_list",
        "its_precision_is_int4",
        "it_has_no_precision",
        "it_takes_no_threads",
        "it_is_made_with_an_argument",
    ),
    "test_a_precision_that_is_not_for_this_model_is_refused": (
        "refuses_its_first_precision",
        "refuses_a_precision_in_two_lines",
        "refuses_a_precision_and_leaves_a_file",
    ),
    "test_it_writes_its_file_and_nothing_elsewhere": (
        "writes_a_file_beside",
        "chooses_its_own_suffix",
        "leaves_a_log_in_the_working_folder",
    ),
    "test_files_tell_nothing_about_where_they_were_made": (
        "names_the_folder_in_the_file",
        "keeps_the_names_of_source_files",
    ),
    "test_any_batch_of_pixels_becomes_probabilities": (
        "answers_in_float64",
        "answers_a_tensor",
        "answers_one_image_only",
        "answers_in_percent",
        "answers_with_logits",
        "takes_a_batch_of_two_only",
    ),
    "test_fp32_answers_as_the_model": ("has_a_softmax_too_many", "takes_blue_for_red", "its_fp32_is_fp16"),
    "test_lower_precisions_keep_most_classes": ("its_int8_has_three_steps", "its_int8_knows_half_of_the_classes"),
    "test_images_of_a_batch_do_not_mix": (
        "images_of_a_batch_mix",
        "its_dynamic_answers_mix",
        "answers_come_sorted",
        "the_next_call_overwrites_an_answer",
    ),
    "test_the_number_of_threads_changes_no_answer": ("threads_change_its_answers",),
    "test_images_are_left_as_they_were": (
        "swaps_the_channels_in_place",
        "cannot_take_strided_images",
        "takes_images_as_they_lie",
        "wants_to_write_into_its_images",
    ),
    "test_a_new_process_gives_the_same_answers": (
        "remembers_the_model_in_its_module",
        "remembers_where_its_weights_lie",
        "prints_when_opened",
        "asks_the_network_when_opened",
    ),
    "test_the_model_is_left_as_it_was": (
        "leaves_the_model_in_train_mode",
        "leaves_a_hook",
        "rounds_the_model_itself",
        "leaves_the_model_in_half_precision",
        "fuses_layers_of_the_model",
    ),
    "test_multi_label_models_keep_their_sigmoid": ("always_ends_in_a_softmax",),
    "test_what_is_unknown_is_told": (
        "cannot_say_what_is_unknown",
        "knows_everything",
        "tells_unknown_as_numbers",
        "tells_it_beside_other_probabilities",
    ),
    "test_images_of_any_size_are_resized": (
        "cannot_leave_the_resize_out",
        "keeps_the_resize_that_it_should_leave_out",
        "stretches_what_should_be_cut",
        "takes_the_first_image_only",
    ),
    "test_a_model_that_depends_on_pixels_is_refused_or_right": (
        "exports_one_branch",
        "refuses_a_branch_with_a_crash",
        "refuses_and_leaves_a_file",
    ),
    "test_calibration_without_images_is_refused": (
        "calibrates_with_nothing",
        "no_images_crash_it",
        "writes_before_it_calibrates",
    ),
    "test_a_damaged_file_is_refused_in_one_line": (
        "a_damaged_file_crashes_it",
        "refuses_in_many_lines",
        "answers_whatever_the_file",
    ),
    "test_it_says_nothing_and_leaves_the_process_as_it_was": (
        "prints_when_it_exports",
        "chatters_on_the_error_stream",
        "seeds_torch",
        "draws_from_python_s_generator",
        "moves_into_the_folder",
        "sets_an_environment_variable",
    ),
    "test_options_are_documented": ("an_export_option_without_a_help",),
    "test_options_are_checked": ("an_export_option_of_no_type",),
}
"""Promise -> what breaks it."""
FAULTS = {fault: promise for promise, faults in BROKEN.items() for fault in faults}
"""Fault -> the test that must fail for it."""

RAISES: dict[str, tuple[str, ...]] = {
    "it_is_made_with_an_argument": ("TypeError",),
    "cannot_take_strided_images": ("ValueError",),
    "wants_to_write_into_its_images": ("ValueError",),
    "remembers_the_model_in_its_module": ("KeyError",),
    "remembers_where_its_weights_lie": ("ArtifactInvalid",),
    "asks_the_network_when_opened": ("OSError",),
}
"""Fault -> the errors by which it shows, where it is not an assertion of the kit's."""
SOURCES: dict[str, str] = {}
