"""The timm family: models of any kind are made, weights are kept to the bit, refusals are one line."""

import json
import logging
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import CheckpointInvalid, EnvironmentBroken, OptionInvalid, UnknownName, WeightsUnavailable, ZooError
from zoo.plugin import BackboneFamily
from zoo_plugins.timm_family import TimmFamily

family: BackboneFamily = TimmFamily()


def create(name: str, num_classes: int = 5, **given: Any) -> Any:
    given = {"pretrained": False, **given}
    return family.create(name, num_classes, **given)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def refused(error: type[ZooError], *args: Any, **given: Any) -> str:
    with pytest.raises(error) as caught:
        create(*args, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_models_of_every_kind_take_64_pixels_and_give_logits(name: str) -> None:
    model = create(name, 7, image_size=64).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_the_pretrained_cfg_is_plain_and_names_the_licence() -> None:
    model = create("vit_tiny_patch16_224.augreg_in21k_ft_in1k", weights=weights_of(create("vit_tiny_patch16_224")))
    assert type(model.pretrained_cfg) is dict
    assert model.pretrained_cfg["license"] == "apache-2.0"
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert model.pretrained_cfg["tag"] == "augreg_in21k_ft_in1k"
    assert len(json.dumps(model.pretrained_cfg)) < 2000
    assert "license" in create("botnet50ts_256").pretrained_cfg


def test_without_pretrained_no_connection_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        pytest.fail("tried to connect")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    model = create("test_resnet")
    create("test_resnet", pretrained=True, weights=weights_of(model))


def test_nothing_is_logged_or_warned(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    levels = [logging.getLogger(name).level for name in ("timm", "timm.models._builder", "huggingface_hub")]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        create("tf_efficientnet_b0_ap", weights=weights_of(create("efficientnet_b0")))
        create("test_vit", image_size=64, weights=weights_of(create("test_vit")))
    assert not warned
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert levels == [logging.getLogger(name).level for name in ("timm", "timm.models._builder", "huggingface_hub")]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "dla46_c"])
def test_a_models_own_weights_come_back_to_the_bit_with_their_head(name: str) -> None:
    given = weights_of(create(name))
    assert same(create(name, weights=given).state_dict(), given)


def test_weights_for_other_classes_keep_all_but_the_head() -> None:
    given = weights_of(create("test_resnet", 5))
    made = create("test_resnet", 7, weights=given).state_dict()
    assert made["fc.weight"].shape[0] == 7
    assert same({k: v for k, v in made.items() if k[:3] != "fc."}, {k: v for k, v in given.items() if k[:3] != "fc."})


def test_weights_without_a_head_get_a_new_one() -> None:
    given = {k: v for k, v in weights_of(create("test_resnet")).items() if k[:3] != "fc."}
    made = create("test_resnet", weights=given).state_dict()
    assert made["fc.weight"].shape[0] == 5
    assert same({k: v for k, v in made.items() if k[:3] != "fc."}, given)


@pytest.mark.parametrize(("classes", "kept"), [(5, True), (6, False)])
def test_weights_of_another_image_size_are_translated_with_their_head(classes: int, kept: bool) -> None:
    given = weights_of(create("test_vit", 5))
    made = create("test_vit", classes, weights=given, image_size=64).state_dict()
    assert made["pos_embed"].shape != given["pos_embed"].shape
    assert torch.equal(made["blocks.0.attn.qkv.weight"], given["blocks.0.attn.qkv.weight"])
    assert (made["head.weight"].shape == given["head.weight"].shape) == kept
    assert not kept or torch.equal(made["head.weight"], given["head.weight"])


def test_the_given_weights_are_not_changed() -> None:
    given = weights_of(create("test_vit"))
    before = {name: tensor.clone() for name, tensor in given.items()}
    create("test_vit", 6, weights=given, image_size=64)
    assert same(given, before)


@pytest.mark.parametrize("name", ["resnet34", "dla46_c", "test_vit", "mobilenetv3_small_050"])
def test_weights_of_another_architecture_are_refused_with_the_first_keys(name: str) -> None:
    text = refused(CheckpointInvalid, name, weights=weights_of(create("resnet18")))
    assert f"do not fit {name}" in text
    assert "missing: " in text


def test_damaged_weights_are_refused() -> None:
    given = weights_of(create("test_resnet"))
    first = next(iter(given))
    del given[first]
    assert f"missing: {first}" in refused(CheckpointInvalid, "test_resnet", weights=given)
    assert "empty" in refused(CheckpointInvalid, "test_resnet", weights={})
    assert "unexpected: x" in refused(
        CheckpointInvalid, "test_resnet", weights={**weights_of(create("test_resnet")), "x": torch.zeros(1)}
    )


def test_weights_that_cannot_change_their_image_size_are_refused() -> None:
    text = refused(CheckpointInvalid, "levit_128s", weights=weights_of(create("levit_128s")), image_size=64)
    assert "of another shape: " in text


def test_unknown_names_and_tags_get_close_matches() -> None:
    assert "did you mean resnet18" in refused(UnknownName, "resnet18x")
    assert "did you mean a1_in1k" in refused(UnknownName, "resnet18.a1_in1kk")
    assert "there are r160_in1k" in refused(UnknownName, "test_resnet.zzz")


def test_old_names_of_timm_still_work_and_removed_ones_are_told() -> None:
    assert create("tf_efficientnet_b0_ap").pretrained_cfg["tag"] == "ap_in1k"
    removed = [old for old, new in TimmFamily()._names.renamed.items() if new is None]
    for name in removed[:1]:
        assert "has removed" in refused(UnknownName, name)


def test_options_reach_the_model_as_the_values_that_they_spell() -> None:
    assert create("test_resnet", drop_rate="0.25").drop_rate == 0.25
    assert create("test_resnet", drop_rate=0.5).drop_rate == 0.5
    assert create("test_vit", global_pool="avg", qkv_bias="false").blocks[0].attn.qkv.bias is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"drop_rate": "many"}, "drop_rate='many'"),
        ({"in_chans": 1}, "always RGB"),
        ({"checkpoint_path": "x.pth"}, "--weights FILE"),
    ],
)
def test_options_that_a_model_does_not_have_are_refused(options: dict[str, Any], says: str) -> None:
    assert says in refused(OptionInvalid, "test_vit", **options)


def test_a_size_that_a_model_cannot_take_is_refused_with_its_own_size() -> None:
    text = refused(OptionInvalid, "nest_tiny", image_size=100)
    assert "nest_tiny" in text
    assert "224 x 224" in text


def test_a_bad_option_is_told_even_while_weights_are_loaded() -> None:
    assert "nonsense" in refused(OptionInvalid, "test_vit", weights=weights_of(create("test_vit")), nonsense=1)


def test_the_native_size_changes_nothing() -> None:
    assert create("test_vit", image_size=160).patch_embed.img_size == (160, 160)
    assert create("test_vit", image_size=64).patch_embed.img_size == (64, 64)
    assert create("test_resnet", image_size=64).pretrained_cfg["input_size"] == (3, 160, 160)


def test_a_model_that_was_never_pretrained_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo_plugins.hub._out_of_reach", lambda address: "")
    assert "no pretrained weights for botnet50ts_256" in refused(WeightsUnavailable, "botnet50ts_256", pretrained=True)


def test_without_timm_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentBroken, match="pip install timm"):
        TimmFamily().create("resnet18", 5)


def test_a_broken_timm_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert family.names()
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    assert "timm cannot be imported" in refused(EnvironmentBroken, "test_resnet")
