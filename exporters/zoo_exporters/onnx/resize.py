"""`Preprocess.prepare` as ONNX nodes in front of a finished graph, which then takes one image of any size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.errors import OptionInvalid
from zoo_exporters.onnx.graph import BATCH, INPUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onnx import GraphProto, ModelProto, NodeProto

    from zoo.plugin import Preprocess, Target

OPSET = 18
"""The first with an antialiased `Resize`."""
PREFIX = "resize/"
"""Of the names of all nodes and tensors in front."""
PIXELS = PREFIX + "pixels"
"""What the finished graph is given: uint8 [1, height, width, 3]."""

# Pillow's kernels lose what reaches over the edge of the image, hence `exclude_outside`.
KERNELS: Mapping[str, str] = {
    "bilinear": 'mode = "linear", antialias = 1, exclude_outside = 1',
    "bicubic": 'mode = "cubic", cubic_coeff_a = -0.5, antialias = 1, exclude_outside = 1',
}
WITH_KERNEL = """
    sizes = Concat <axis = 0> (one, scaled, three)
    resized = Resize <{kernel}> (image, , , sizes)
"""
# Pillow adds up steps in double precision, and the single one of `Resize` takes another neighbour at a tie.
NEAREST = """
    scaled_float = Cast <to = 11> (scaled)
    steps = Div (sides_float, scaled_float)
    firsts = Mul (steps, half)
    others = Sub (scaled, one)
    step_y, step_x = Split <axis = 0, num_outputs = 2> (steps)
    first_y, first_x = Split <axis = 0, num_outputs = 2> (firsts)
    others_y, others_x = Split <axis = 0, num_outputs = 2> (others)
    steps_y = Expand (step_y, others_y)
    steps_x = Expand (step_x, others_x)
    all_y = Concat <axis = 0> (first_y, steps_y)
    all_x = Concat <axis = 0> (first_x, steps_x)
    centres_y = CumSum (all_y, first_axis)
    centres_x = CumSum (all_x, first_axis)
    rows = Cast <to = 7> (centres_y)
    columns = Cast <to = 7> (centres_x)
    taken = Gather <axis = 1> (image, rows)
    resized = Gather <axis = 2> (taken, columns)
"""
# The side that needs the larger scale gets its length; by the other's scale it would come out shorter.
CENTER_SIZE = """
    wanted = Constant <value_ints = [{wanted_height}, {wanted_width}]> ()
    wanted_turned = Constant <value_ints = [{wanted_width}, {wanted_height}]> ()
    turn = Constant <value_ints = [1, 0]> ()
    sides_turned = Gather (sides, turn)
    products = Mul (wanted_turned, sides)
    following = Div (products, sides_turned)
    scaled = Max (wanted, following)
"""
# Half of what is over, a half rounded to even.
CENTER_CUT = """
    over = Sub (scaled, size)
    whole_half = Div (over, two)
    is_odd = Mod (whole_half, two)
    over_rounded = Add (over, is_odd)
    begin = Div (over_rounded, two)
    end = Add (begin, size)
    axes = Constant <value_ints = [1, 2]> ()
    fitted = Slice (resized, begin, end, axes)
"""
# Nothing, but not before the image is there: see `shape`.
SQUASH_SIZE = """
    nothing = Sub (sides, sides)
    scaled = Add (size, nothing)
"""
SQUASH_CUT = """
    fitted = Identity (resized)
"""
BORDER_SIZE = """
    size_float = Cast <to = 11> (size)
    scales = Div (size_float, sides_float)
    scale = ReduceMin (scales)
    exact = Mul (sides_float, scale)
    nearest = Round (exact)
    nearest_whole = Cast <to = 7> (nearest)
    scaled = Max (nearest_whole, one)
"""
BORDER_CUT = """
    missing = Sub (size, scaled)
    before = Div (missing, two)
    after = Sub (missing, before)
    zero = Constant <value_ints = [0]> ()
    pads = Concat <axis = 0> (zero, before, zero, zero, after, zero)
    fitted = Pad (resized, pads)
"""
CROPS: Mapping[str, tuple[str, str]] = {
    "center": (CENTER_SIZE, CENTER_CUT),
    "squash": (SQUASH_SIZE, SQUASH_CUT),
    "border": (BORDER_SIZE, BORDER_CUT),
}
"""Crop -> to what height and width the image is scaled, and what makes the model's size of that."""
# To the runtime the batch stays free, by the -1: of one image it would fuse other nodes, and round in other places.
WHOLE = """
resize (uint8[1, height, width, 3] image) => (uint8[batch, {height}, {width}, 3] pixels) {{
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    three = Constant <value_ints = [3]> ()
    first_axis = Constant <value_int = 0> ()
    half = Constant <value = double[1] {{0.5}}> ()
    size = Constant <value_ints = [{height}, {width}]> ()
    shape = Constant <value_ints = [-1, {height}, {width}, 3]> ()
    sides = Shape <start = 1, end = 3> (image)
    sides_float = Cast <to = 11> (sides)
    {scaling}
    {resizing}
    {fitting}
    pixels = Reshape (fitted, shape)
}}
"""
"""The arithmetic of `zoo.runtime.pixels.prepare`, exact to the pixel: whole numbers, or double precision (type 11)."""


def check_target(target: Target) -> None:
    """Refuse a target whose operators are too old.

    Raises:
        OptionInvalid: there is no antialiased resize for it.
    """
    if target.opset < OPSET:
        raise OptionInvalid(
            f"--resize-in-graph needs opset {OPSET} and target {target.name!r} stops at {target.opset}; "
            "leave it out, or choose another target"
        )


def resize_graph(preprocess: Preprocess) -> GraphProto:
    """Return what `Preprocess.prepare` does: uint8 [1, H, W, 3] of any H and W to uint8 [1, height, width, 3].

    Within one level of Pillow. It scales across first, then down, and rounds in between, as `prepare` does.
    """
    from onnx import compose, parser

    height, width = preprocess.size
    scaling, fitting = CROPS[preprocess.crop]
    kernel = KERNELS.get(preprocess.interpolation)
    text = WHOLE.format(
        height=height,
        width=width,
        scaling=scaling.format(
            wanted_height=math.floor(height / preprocess.crop_fraction),
            wanted_width=math.floor(width / preprocess.crop_fraction),
        ),
        resizing=WITH_KERNEL.format(kernel=kernel) if kernel else NEAREST,
        fitting=fitting,
    )
    graph = parser.parse_graph(text)
    _keep_used(graph)
    compose.add_prefix_graph(graph, PREFIX, rename_inputs=False, inplace=True)
    for node in graph.node:
        node.name = node.output[0]
    return graph


def put_in_front(model: ModelProto, preprocess: Preprocess) -> None:
    """Let a finished graph take one RGB image of any size, uint8 [1, H, W, 3].

    Args:
        model: From uint8 [N, height, width, 3], called `image`; it is changed. What it does with pixels stays as it
            is: to the bit in onnxruntime, but for fp16, where that places its own casts.
        preprocess: What is done to the image before.
    """
    front = resize_graph(preprocess)
    graph = model.graph
    _rename(graph.node, INPUT, PIXELS)
    nodes = [*front.node, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input[0].CopyFrom(front.input[0])
    for value in graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 1


def take_away(model: ModelProto, preprocess: Preprocess) -> None:
    """Undo `put_in_front`.

    Args:
        model: It is changed, and then takes uint8 [N, height, width, 3] again.
        preprocess: What was put in front.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    kept = [node for node in graph.node if not node.name.startswith(PREFIX)]
    del graph.node[:]
    graph.node.extend(kept)
    _rename(graph.node, PIXELS, INPUT)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, *preprocess.size, 3]))
    for value in graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH


def _rename(nodes: Iterable[NodeProto], before: str, after: str) -> None:
    for node in nodes:
        node.input[:] = [after if name == before else name for name in node.input]


def _keep_used(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [node for node in graph.node if used.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
