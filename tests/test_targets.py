"""The targets of registry.toml: those that the issue of devices names, with what their kernels are fast at."""

from __future__ import annotations

import pytest

from zoo.catalogue import Catalogue
from zoo.plugin import PRECISIONS, Target

NAMED = (
    "host",
    "x86-vnni",
    "x86-avx2",
    "arm64",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "jetson-orin",
    "jetson-orin-nano",
    "browser-wasm",
    "android",
)


@pytest.fixture(params=NAMED)
def target(request: pytest.FixtureRequest) -> Target:
    return Catalogue.read().target(request.param)


def test_it_names_precisions_that_zoo_knows_and_the_fallback(target: Target) -> None:
    assert set(target.precisions) <= set(PRECISIONS)
    assert not target.precisions or {"fp32", "int8", "int8-weights"} <= set(target.precisions)
    assert target.precision in ("", *target.precisions)


def test_it_keeps_to_what_onnxruntime_1_16_reads(target: Target) -> None:
    assert (target.opset, target.ir_version) == (18, 9)
    assert target.runtime.startswith("onnxruntime")
    assert target.threads >= 1


def test_signed_activations_are_for_arm_alone(target: Target) -> None:
    assert (target.activations == "int8") is (target.arch == "aarch64")


def test_seven_bits_are_for_x86_before_vnni() -> None:
    reduced = [name for name in NAMED if Catalogue.read().target(name).reduce_range]
    assert reduced == ["x86-avx2"]
