"""The graph that resizes: the pixels of `Preprocess.prepare`, in front of a network that stays as it is."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from zoo.data.decode import to_rgb
from zoo.errors import OptionInvalid
from zoo.plugin import Preprocess, Target
from zoo_exporters.onnx.exporter import OnnxExporter
from zoo_exporters.onnx.resize import OPSET, put_in_front, resize_graph, take_away

from .conftest import CLASSES, SIDE, make_request, pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from zoo.contracts.preprocess import Crop, Interpolation
    from zoo.plugin import Predictor

EXPORTER = OnnxExporter()
ORIENTATION = 0x0112
MODES = ("RGB", "L", "LA", "P", "CMYK", "1", "RGBA", "16 bits", "RGB in JPEG", "L in JPEG")
SIDES = ((61, 47), (375, 500), (33, 200), (200, 33), (97, 96), (1, 9), (131, 310), (5, 3), (224, 224), (640, 481))
PICTURES = 60
CROPS: tuple[Crop, ...] = ("center", "squash", "border")
INTERPOLATIONS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic")
ROUNDING_LEVELS = 2
"""A difference that arithmetic can make, where both resize width and height in the same order."""


def session(model: onnx.ModelProto) -> Predictor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(made.run(None, {"image": images})[0])


def resizer(preprocess: Preprocess) -> Predictor:
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(resize_graph(preprocess), opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return session(model)


def scene(height: int, width: int, seed: int) -> Image.Image:
    """Blocks of colour, ramps and noise: edges as well as gentle changes."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8))
    method = Image.Resampling.NEAREST if seed % 2 else Image.Resampling.BICUBIC
    pixels = np.asarray(blocks.resize((width, height), method)) + rng.normal(0, 15, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, mode: str, orientation: int) -> bytes:
    """Write a picture in an odd mode, turned as EXIF tells."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, Any] = {"exif": exif}
    if mode == "16 bits":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    elif mode == "P":
        image = image.quantize(64)
        options["transparency"] = 3
    elif mode in ("LA", "RGBA"):
        alpha = image.convert("L")
        image = image.convert(mode)
        image.putalpha(alpha)
    else:
        image = image.convert(mode.split(" ", maxsplit=1)[0])
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "CMYK" else "JPEG" if "JPEG" in mode else "PNG", **options)
    return file.getvalue()


def odd_pictures() -> list[np.ndarray]:
    """Sixty pictures of ten sizes, ten modes and eight orientations, as zoo decodes them."""
    found = []
    for index in range(PICTURES):
        height, width = SIDES[index % len(SIDES)]
        mode = MODES[(index + index // len(SIDES)) % len(MODES)]
        image = scene(height, width, index)
        orientation = index % 8 + 1
        decoded = to_rgb(encoded(image, mode, orientation))
        turned = (width, height) if orientation > 4 else (height, width)
        assert decoded.shape == (*turned, 3), (mode, orientation)
        found.append(decoded)
    return found


@pytest.fixture(scope="module")
def odd() -> list[np.ndarray]:
    return odd_pictures()


def test_the_sixty_pictures_are_odd_enough(odd: list[np.ndarray]) -> None:
    assert len(odd) == PICTURES
    assert len({image.shape for image in odd}) >= 15
    combined = {(MODES[(i + i // len(SIDES)) % len(MODES)], i % 8) for i in range(PICTURES)}
    assert {mode for mode, _ in combined} == set(MODES)
    assert {turn for _, turn in combined} == set(range(8))


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_its_pixels_are_those_of_pillow_within_a_level(
    crop: Crop, interpolation: Interpolation, odd: list[np.ndarray], record_property: Callable[[str, object], None]
) -> None:
    preprocess = Preprocess(size=(96, 80), crop=crop, interpolation=interpolation)
    resize = resizer(preprocess)
    means, largest = [], []
    for image in odd:
        wanted, got = preprocess.prepare(image), resize(image[None])
        assert got.dtype == np.uint8
        assert got.shape == (1, *wanted.shape)
        gaps = np.abs(got[0].astype(int) - wanted)
        means.append(gaps.mean())
        largest.append(gaps.max())
    record_property("mean_levels", float(np.mean(means)))
    record_property("largest_levels", int(max(largest)))
    assert max(largest) <= (1 if interpolation != "nearest" else 0)
    assert max(means) < 0.2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_axis_alone_comes_out_within_rounding(interpolation: Interpolation, axis: int) -> None:
    resize = resizer(preprocess := Preprocess(size=(40, 40), crop="squash", interpolation=interpolation))
    for length in (1, 7, 39, 41, 80, 333, 2000):
        image = np.asarray(scene(*((length, 40) if axis == 0 else (40, length)), seed=length))
        gaps = np.abs(resize(image[None])[0].astype(int) - preprocess.prepare(image))
        assert gaps.max() <= ROUNDING_LEVELS, length
        assert gaps.mean() < 0.02, length


@pytest.mark.parametrize("fraction", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [(32, 32), (13, 30)], ids=str)
def test_the_arithmetic_of_sizes_is_exact(crop: Crop, fraction: float, size: tuple[int, int]) -> None:
    """By nearest neighbours, of which a single one would be another if a size or an offset were."""
    preprocess = Preprocess(size=size, crop=crop, interpolation="nearest", crop_fraction=fraction)
    resize, rng = resizer(preprocess), np.random.default_rng(0)
    sides = [*itertools.product((1, 2, 31, 32, 33, 64), repeat=2), *rng.integers(1, 400, (80, 2)).tolist(), (3, 4000)]
    for height, width in sides:
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        image = np.stack([rows % 251 + 1, columns % 251 + 1, (rows // 251 + columns // 251) % 251 + 1], axis=-1)
        wanted = preprocess.prepare(image.astype(np.uint8))
        assert np.array_equal(resize(image.astype(np.uint8)[None])[0], wanted), (height, width)


def test_black_is_what_a_border_is_filled_with() -> None:
    resize = resizer(Preprocess(size=(20, 20), crop="border"))
    got = resize(np.full((1, 30, 90, 3), 255, np.uint8))[0]
    assert got[:6].max() == 0
    assert got[-7:].max() == 0
    assert got[6:13].min() == 255


# In front of a network.


@pytest.mark.parametrize(
    ("backbone", "precision"),
    [(name, precision) for name in ("resnet", "vit") for precision in ("fp32", "fp16", "int8-weights")]
    + [("vit", "dynamic")],
    indirect=["backbone"],
)
def test_it_is_to_the_bit_the_resize_and_then_the_network(
    backbone: torch.nn.Module, precision: str, files: Callable[..., bytes], tmp_path: Path
) -> None:
    request = make_request(backbone, precision)
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(files(EXPORTER, request))
    model = onnx.load(plain)
    put_in_front(model, request.preprocess)
    onnx.checker.check_model(model, full_check=True)
    whole = tmp_path / "whole.onnx"
    onnx.save(model, whole)
    both, resize, network = EXPORTER.open(whole), resizer(request.preprocess), EXPORTER.open(plain)
    for height, width in ((61, 47), (32, 32), (9, 120)):
        images = np.stack([np.asarray(scene(height, width, seed)) for seed in range(3)])
        pixels = np.concatenate([resize(image[None]) for image in images])
        one_by_one = np.concatenate([network(image[None]) for image in pixels])
        # onnxruntime computes fp16 in fp32 on a CPU, and places its casts by the nodes around them.
        limit = 1e-6 if precision == "fp16" else 0.0
        assert np.abs(both(images) - one_by_one).max() <= limit
        assert np.abs(both(images[:, ::-1].copy()) - one_by_one).max() > 1e-5


@pytest.fixture(scope="module")
def int8(resnet: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Preprocess]:
    """An int8 file that resizes."""
    request = make_request(resnet, "int8", resize=True, options={"search": "quick", "calibration_method": "minmax"})
    out = tmp_path_factory.mktemp("int8") / "model.onnx"
    EXPORTER.export(request, out)
    return out, request.preprocess


def test_the_exported_file_takes_one_image_of_any_size(int8: tuple[Path, Preprocess]) -> None:
    model = onnx.load(int8[0])
    onnx.checker.check_model(model, full_check=True)
    sides = [value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)]
    shapes = [[axis.dim_param or axis.dim_value for axis in dims] for dims in sides]
    assert shapes == [[1, "height", "width", 3], [1, len(CLASSES)]]
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    predict = EXPORTER.open(int8[0])
    for count, height, width in ((1, 480, 640), (3, 8, 8), (2, SIDE, SIDE)):
        answers = predict(np.stack([np.asarray(scene(height, width, seed)) for seed in range(count)]))
        assert answers.shape == (count, len(CLASSES))
        assert np.allclose(answers.sum(1), 1, atol=1e-3)


def test_the_resize_is_not_quantized(int8: tuple[Path, Preprocess]) -> None:
    graph = onnx.load(int8[0]).graph
    front = [node for node in graph.node if node.name.startswith("resize/")]
    assert "Resize" in {node.op_type for node in front}
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in front}
    assert {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in graph.node}


def test_without_the_resize_it_is_what_it_was(int8: tuple[Path, Preprocess], tmp_path: Path) -> None:
    file, preprocess = int8
    EXPORTER.without_resize(file, preprocess, tmp_path / "plain.onnx")
    plain, whole = EXPORTER.open(tmp_path / "plain.onnx"), EXPORTER.open(file)
    images = np.stack([np.asarray(scene(50, 70, seed)) for seed in range(4)])
    resize = resizer(preprocess)
    pixels = np.concatenate([resize(image[None]) for image in images])
    assert np.array_equal(np.concatenate([plain(image[None]) for image in pixels]), whole(images))
    assert plain(pictures(5)).shape == (5, len(CLASSES))


def test_putting_it_in_front_can_be_undone(resnet: torch.nn.Module, files: Callable[..., bytes]) -> None:
    request = make_request(resnet, "fp32")
    before, model = (onnx.load_from_string(files(EXPORTER, request)) for _ in range(2))
    put_in_front(model, request.preprocess)
    take_away(model, request.preprocess)
    assert model.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)


def test_a_target_of_an_older_opset_is_refused_in_one_line(resnet: torch.nn.Module, tmp_path: Path) -> None:
    old = Target(name="attic", opset=17)
    with pytest.raises(OptionInvalid, match=r"opset 18 and target 'attic' stops at 17; leave it out") as caught:
        EXPORTER.export(make_request(resnet, "fp32", resize=True, target=old), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("crop", CROPS)
def test_a_later_opset_takes_the_same_nodes(crop: Crop, resnet: torch.nn.Module, tmp_path: Path) -> None:
    preprocess = replace(make_request(resnet, "fp32").preprocess, crop=crop)
    target = Target(opset=20, ir_version=10)
    request = make_request(resnet, "fp32", resize=True, preprocess=preprocess, target=target)
    EXPORTER.export(request, tmp_path / "model.onnx")
    image = np.asarray(scene(70, 40, 3))
    EXPORTER.without_resize(tmp_path / "model.onnx", preprocess, tmp_path / "plain.onnx")
    wanted = EXPORTER.open(tmp_path / "plain.onnx")(resizer(preprocess)(image[None]))
    assert np.array_equal(EXPORTER.open(tmp_path / "model.onnx")(image[None]), wanted)
