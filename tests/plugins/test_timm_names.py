"""The names of timm's models: exact, cheap, and never stopped by a cache that is out of order."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from zoo_plugins import timm_names
from zoo_plugins.timm_family import TimmFamily


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def cache_in(home: Path) -> Path:
    (cache,) = home.glob("timm-*.json")
    return cache


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


def test_a_second_reading_takes_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = timm_names.read_names()
    assert [file.name for file in home.iterdir()] == [cache_in(home).name]
    monkeypatch.setattr(timm_names, "scan", lambda models: pytest.fail("scanned again"))
    assert timm_names.read_names() == first


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"fingerprint": 1, "architectures": [1], "renamed": {}}', "\udcff", "[" * 100_000]
)
def test_a_broken_cache_is_read_past_and_mended(home: Path, content: str) -> None:
    first = timm_names.read_names()
    good = cache_in(home).read_text()
    cache_in(home).write_text(content, errors="surrogateescape")
    assert timm_names.read_names() == first
    assert cache_in(home).read_text() == good


def test_a_cache_of_the_right_shape_with_wrong_types_is_read_past(home: Path) -> None:
    first = timm_names.read_names()
    good = cache_in(home).read_text()
    for old, new in (('"architectures": [', '"architectures": [3, '), ('"renamed": {', '"renamed": 3, "x": {')):
        cache_in(home).write_text(good.replace(old, new))
        assert timm_names.read_names() == first


def test_a_cache_of_another_timm_is_not_taken(home: Path) -> None:
    first = timm_names.read_names()
    cache_in(home).write_text(
        cache_in(home).read_text().replace('"fingerprint": "', '"fingerprint": "x').replace("resnet18", "r")
    )
    assert timm_names.read_names() == first


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file" / "below"))
    assert "resnet18" in timm_names.read_names().architectures


def test_a_full_disk_leaves_no_half_written_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("json.dump", full)
    assert "resnet18" in timm_names.read_names().architectures
    assert list(home.iterdir()) == []


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
