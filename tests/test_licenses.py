"""Licences: stated where they are known, refused before anything is fetched where the user says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from zoo.catalogue.licenses import code_license, refuse_license
from zoo.errors import LicenseRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Answer

QUICK = ["--image-size", "32", "--epochs", "1", "--augment", "none", "--set", "threads=1"]


@pytest.mark.parametrize(
    ("stated", "allowed", "refused"),
    [
        ("MIT", ["mit"], False),
        ("apache-2.0", ["MIT", "Apache-2.0"], False),
        ("MIT OR GPL-3.0", ["MIT"], False),
        ("MIT AND CC-BY-NC-4.0", ["MIT"], True),
        ("(MIT AND BSD-3-Clause)", ["MIT", "bsd-3-clause"], False),
        ("cc-by-nc-4.0", ["Apache-2.0"], True),
        ("", ["Apache-2.0"], True),
        ("", ["Apache-2.0", "unknown"], False),
        ("anything", [], False),
    ],
)
def test_what_is_allowed(stated: str, allowed: list[str], refused: bool) -> None:
    if not refused:
        refuse_license("it", stated, allowed)
        return
    with pytest.raises(LicenseRefused, match=stated or "unknown"):
        refuse_license("it", stated, allowed)


def test_the_code_s_licence_is_its_distribution_s() -> None:
    assert code_license("edgezoo") == "Apache-2.0"
    assert code_license("no-such-distribution") == "unknown"
    assert "\n" not in code_license("numpy")


def test_weights_are_refused_before_the_download(cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    # Any way to the hub ends here; a licence that is refused never gets so far.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    command = ["train", "convnextv2_atto.fcmae_ft_in1k", "--dataset", "digits"]
    answer = cli(*command, "--license-allow", "Apache-2.0,CC-BY-4.0")
    assert answer.code == 1
    assert "the weights of model 'convnextv2_atto.fcmae_ft_in1k' is licensed cc-by-nc-4.0" in answer.error


def test_data_is_refused_by_name_before_it_is_prepared(cli: Callable[..., Answer], tmp_path: Path) -> None:
    answer = cli("train", "test_resnet", "--no-pretrained", "--dataset", "digits", "--license-allow", "Apache-2.0")
    assert answer.code == 1
    assert "dataset 'digits' is licensed CC-BY-4.0" in answer.error
    assert not (tmp_path / "runs").exists()


def test_what_is_allowed_trains_and_is_written_down(cli: Callable[..., Answer], tmp_path: Path) -> None:
    command = ["train", "test_resnet", "--no-pretrained", "--dataset", "digits", "--name", "n", *QUICK]
    answer = cli(*command, "--license-allow", "apache-2.0,cc-by-4.0", "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["licenses"] == {"code": "Apache-2.0", "weights": "", "data": "CC-BY-4.0"}
    shown = cli("show", "run", "n", "--json")
    assert json.loads(shown.stdout)["licenses"]["data"] == "CC-BY-4.0"


def test_the_user_s_own_images_are_not_judged(cli: Callable[..., Answer], pictures: Path) -> None:
    command = ["train", "test_resnet", "--no-pretrained", "--dataset", str(pictures), *QUICK]
    assert cli(*command, "--license-allow", "Apache-2.0").code == 0


def test_show_tells_the_licences(cli: Callable[..., Answer]) -> None:
    model = json.loads(cli("show", "model", "convnextv2_atto.fcmae_ft_in1k", "--json").stdout)
    assert (model["code license"], model["weights license"]) == ("Apache-2.0", "cc-by-nc-4.0")
    dataset = json.loads(cli("show", "dataset", "digits", "--json").stdout)
    assert (dataset["code license"], dataset["license"]) == ("Apache-2.0", "CC-BY-4.0")
