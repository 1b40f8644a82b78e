"""A headless Chromium that shows the files of a folder and reaches no host."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from locties_paper.site.pdf import CHROMIUM_OPTIONS, find_chromium

HOST = "http://localhost"  # no server: the files of a folder answer every request to it


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def problems() -> list[str]:
    """Errors in the console, requests for missing files and requests to other hosts."""
    return []


@pytest.fixture(autouse=True)
def _no_problems(problems) -> Iterator[None]:
    yield
    found = list(problems)
    problems.clear()
    assert not found


@pytest.fixture(scope="module")
def open_page(chromium, problems) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of a folder in a window of its own."""
    contexts = []

    def open_page(folder: Path, path: str, **options: object) -> Page:
        def answer(route: Route) -> None:
            url = urlsplit(route.request.url)
            file = folder / unquote(url.path).lstrip("/")
            if route.request.url.startswith(f"{HOST}/") and file.is_file():
                route.fulfill(path=file)
            else:
                problems.append(f"{path} asks for {route.request.url}")
                route.abort()

        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 1000}, **options})
        contexts.append(context)
        context.route("**/*", answer)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"{path}: {error}"))
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning") and problems.append(f"{path}: {message.text}")
            ),
        )
        page.goto(f"{HOST}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
