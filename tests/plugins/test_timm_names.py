"""The names of timm's models: exact, and cheap."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from zoo_plugins import timm_names
from zoo_plugins.timm_family import TimmFamily


def test_the_names_are_those_that_timm_lists_itself() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
        from timm.models._registry import get_deprecated_models

    assert TimmFamily().names() == timm.list_models()
    assert timm_names.read_names().renamed == get_deprecated_models()


def test_listing_imports_neither_timm_nor_torch_nor_numpy() -> None:
    script = (
        "import sys; from zoo_plugins.timm_family import TimmFamily; f = TimmFamily()\n"
        "assert len(f.names()) > 1000 and f.knows('resnet18') and not f.knows('resnet19')\n"
        "print([m for m in ('timm', 'torch', 'numpy', 'huggingface_hub', 'urllib.request') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_timm_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert timm_names.read_names() == timm_names.TimmNames()


def test_only_whole_names_tags_and_old_names_are_known() -> None:
    family = TimmFamily()
    known = ["resnet18", "resnet18.a1_in1k", "resnet18.any_tag", "tf_efficientnet_b0_ap"]
    assert all(family.knows(name) for name in known)
    assert not any(
        family.knows(name) for name in ["", "resnet", "Resnet18", "timm/resnet18", "tf_efficientnet_b0_ap.x", "."]
    )


def test_every_form_of_registration_is_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from .one import *\nfrom ._private import helper\n")
    (tmp_path / "unused.py").write_text("@register_model\ndef never():\n")
    (tmp_path / "one.py").write_text(
        "@register_model\ndef net10(x):\n    pass\n"
        "@register_model  # why\n@other(1)\n# word\ndef net9(x):\n    pass\n"
        "def plain():\n    '''\n    @register_model\n    def quoted():\n    '''\n"
        "register_model_deprecations(__name__, {\n    'old': 'net9.tag',\n    'gone': None,\n})\n"
    )
    assert timm_names.scan(tmp_path) == timm_names.TimmNames(["net9", "net10"], {"old": "net9.tag", "gone": None})
