"""A bundle's page behind its own server, in a real Chromium that tells of every request and every complaint."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from .tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
FAKE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
CORES = 2
PATIENCE_MS = 120_000


@contextmanager
def served(folder: Path, *, isolated: bool = True) -> Iterator[str]:
    """Serve a bundle's folder, by its serve.py or by a server that sends no headers for threads; give the address."""
    own = [str(folder / "serve.py"), "--port", "0"]
    plain = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "0"]
    command = [sys.executable, "-u", *(own if isolated else plain)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as server:  # type: ignore[call-overload]
        try:
            line = server.stdout.readline()
            yield next(word.strip("()") for word in line.split() if "http://" in word).rstrip("/") + "/"
        finally:
            server.terminate()


@contextmanager
def opened(folder: Path, *flags: str, isolated: bool = True) -> Iterator[Page]:
    """Open a bundle's page; afterwards it must have asked no stranger and complained of nothing."""
    asked: list[str] = []
    said: list[str] = []
    with served(folder, isolated=isolated) as address, sync_playwright() as playwright:
        arguments = ["--no-sandbox", *FAKE_CAMERA, *flags]
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=arguments)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        # Threads must work also where the tests themselves are held to one core.
        page.add_init_script(f"Object.defineProperty(navigator, 'hardwareConcurrency', {{ get: () => {CORES} }})")
        page.goto(address)
        yield page
        browser.close()
    assert any(url.endswith("artifact.json") for url in asked)
    assert [url for url in asked if not url.startswith((address, f"blob:{address}"))] == []
    assert said == []


def ready(page: Page) -> str:
    """Wait until the model is loaded; return what the page says of it."""
    page.locator("#status[data-state=ready]").wait_for()
    return page.inner_text("#status")


def self_test(page: Page) -> str:
    """Press the button and wait for the verdict."""
    page.get_by_role("button", name="Self-test").click()
    page.locator("#verdict[data-state=pass], #verdict[data-state=fail]").wait_for()
    return page.inner_text("#verdict")


def choose(page: Page, *files: Path) -> None:
    """Choose files as a person does, through the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(files)


def top5(page: Page, name: str) -> list[tuple[str, float]]:
    """Read a picture's card: classes and probabilities."""
    card = page.locator("#results > li").filter(has=page.get_by_role("heading", name=name, exact=True))
    card.locator("ul > li").first.wait_for()
    rows = [row.locator("span").all_inner_texts() for row in card.locator("ul > li").all()]
    return [(label, float(percent.removesuffix(" %")) / 100) for label, percent in rows]
