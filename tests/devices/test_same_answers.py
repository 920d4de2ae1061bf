"""The demo's bundle on other devices: the answers of this process, to the golden images and to 200 more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from zoo.runtime.golden import limit_of, replay
from zoo.runtime.model import Model

from .conftest import PICTURES, PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Device

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("devices")]


DEVICES = ("this_machine", "haswell", "aarch64", "chromium")
EMULATED = {"haswell", "aarch64"}
"""Where fp32 takes minutes, and tells less than int8."""


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        pytest.param(device, precision, marks=[pytest.mark.proof] if device in EMULATED and precision == "fp32" else [])
        for device in DEVICES
        for precision in PRECISIONS
    ],
)
def test_it_answers_as_here(
    request: pytest.FixtureRequest,
    bundled: Callable[[str, str], Path],
    pictures: list[Path],
    device: str,
    precision: str,
    record_property: Callable[[str, object], None],
) -> None:
    ask: Device = request.getfixturevalue(device)
    bundle = bundled(precision, "browser" if device == "chromium" else "host")
    model = Model(bundle)
    assert replay(model).difference == 0
    wanted = np.concatenate([model.ask([model.pixels(file)])[0] for file in pictures])
    passed, found = ask(bundle, pictures)
    same = int((found.argmax(1) == wanted.argmax(1)).sum())
    difference, limit = float(np.abs(found - wanted).max()), limit_of(precision)
    verdict = "passes" if passed else "FAILS"
    told = [device, precision, verdict, f"{same} of {len(found)}", f"{difference:.1e}", f"{limit:g}"]
    record_property("row", told)
    assert passed
    assert same == len(found) == PICTURES
    assert difference <= limit
