"""Where onnxruntime-web comes from: the user's file, zoo's cache, or his own npm; and only if it is the right one."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import pytest

from zoo.deploy.bundle import browser
from zoo.errors import EnvironmentBroken, OptionInvalid

from ..conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Answer
    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact

WEB = ROOT / "zoo/deploy/bundle/web"


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an npm of ours before all programs, an empty zoo home behind it."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")

    def write(script: str) -> None:
        file = tmp_path / "bin/npm"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return write


def package(note: Callable[[str], None] = lambda text: None) -> bytes:
    return browser._package(None, note)


def test_without_npm_it_says_how_to_get_the_file(npm: Callable[[str], None]) -> None:
    with pytest.raises(EnvironmentBroken, match=r"npm is not installed; .*`npm pack onnxruntime-web@.*--web-runtime"):
        package()


def test_an_npm_that_fails_is_quoted(npm: Callable[[str], None]) -> None:
    npm("echo 'npm error code ENOTFOUND' >&2; echo more >&2; exit 1")
    with pytest.raises(
        EnvironmentBroken, match=r"does not fetch .*\(npm error code ENOTFOUND\); fetch it elsewhere"
    ) as error:
        package()
    assert "\n" not in str(error.value)


def test_what_npm_brings_is_checked_and_not_kept(npm: Callable[[str], None], tmp_path: Path) -> None:
    npm('for last; do :; done; echo other > "$last/onnxruntime-web-1.tgz"')
    told: list[str] = []
    with pytest.raises(EnvironmentBroken, match="with another checksum"):
        package(told.append)
    assert told == [f"fetching onnxruntime-web {browser.VERSION} with npm"]
    assert not (tmp_path / "home").exists()


def test_a_damaged_file_in_the_cache_is_fetched_again(npm: Callable[[str], None], tmp_path: Path) -> None:
    kept = tmp_path / f"home/onnxruntime-web/onnxruntime-web-{browser.VERSION}.tgz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"damaged")
    with pytest.raises(EnvironmentBroken, match="npm is not installed"):
        package()


@pytest.mark.parametrize("there", [True, False])
def test_another_file_is_refused_by_name(tmp_path: Path, there: bool) -> None:
    file = tmp_path / "other.tgz"
    if there:
        file.write_bytes(b"other")
    with pytest.raises(OptionInvalid, match=rf"^{re.escape(str(file))} (is not onnxruntime-web|cannot be read)"):
        browser._package(file, lambda text: None)


def test_the_command_says_it_in_one_line(
    cli: Callable[..., Answer], onnx_artifact: Artifact, npm: Callable[[str], None]
) -> None:
    answer = cli("bundle", onnx_artifact.path, "--target", "browser", "--web-runtime", os.devnull)
    assert answer.code == 1
    assert answer.error.startswith(f"zoo: {os.devnull} is not onnxruntime-web")


def test_browser_is_short_for_browser_wasm(catalogue: Catalogue) -> None:
    assert catalogue.target("browser") == catalogue.target("browser-wasm")
    assert catalogue.target("browser").name == "browser-wasm"
    assert browser.has_page(catalogue.target("browser"))
    assert not browser.has_page(catalogue.target("host"))


@pytest.mark.parametrize("file", sorted(WEB.iterdir()), ids=lambda file: file.name)
def test_the_page_knows_no_address_outside(file: Path) -> None:
    text = file.read_text()
    for address in re.findall(r"(?:https?:)?//[\w.$%{}-]+", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)):
        assert address in ("http://127.0.0.1", "http://www.w3.org")


def test_the_page_lets_nothing_in_from_outside() -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', (WEB / "index.html").read_text())
    rules = {name: set(sources) for name, *sources in (rule.split() for rule in policy.split(";"))}
    assert rules.pop("default-src") == {"'none'"}
    assert rules["script-src"] == {"'self'", "'wasm-unsafe-eval'"}
    assert rules["connect-src"] == {"'self'"}
    assert set().union(*rules.values()) <= {"'self'", "'none'", "'wasm-unsafe-eval'", "blob:"}
