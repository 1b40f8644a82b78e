"""The built book in a browser that reaches no host but this one: `make check` runs it."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from locties.notebook import REPOSITORY

HTML = REPOSITORY / "_build" / "html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.glob("book/*.html"))
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
CHATTER = r"\[PST\]|\[togglebutton\]"  # what the theme's scripts always say of themselves
pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


def test_the_book_is_built():
    assert len(PAGES) >= 8, "run `make book` first"


@pytest.fixture(scope="module")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def visit(address, tmp_path_factory):
    """Page -> (its DOM after scripts have run, what the browser wrote to its console)."""

    @functools.cache
    def visit(page: str) -> tuple[str, str]:
        profile = tmp_path_factory.mktemp("profile")
        command = [
            BROWSER,
            *["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
            *["--disable-background-networking", "--disable-component-update"],
            "--disable-quic",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            f"--user-data-dir={profile}",
            "--dump-dom",
            f"{address}/{page}",
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        said = re.findall(r"CONSOLE.*", ran.stderr)
        return ran.stdout, "\n".join(line for line in said if not re.search(CHATTER, line))

    return visit


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_without_a_network(visit, page):
    dom, console = visit(page)
    assert "<h1>" in dom
    assert not console, f"the console of {page} says: {console}"
    loaded = re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"(https?://[^\"]+)", dom)
    other = [url for url in loaded if not url.startswith("http://127.0.0.1")]
    assert not other, f"{page} loads from other hosts: {other}"


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_has_alt_text(visit, page):
    pictures = re.findall(r"<img [^>]+>", visit(page)[0])
    for picture in pictures:
        alt = re.search(r'alt="([^"]*)"', picture)
        assert alt, f"no alt text: {picture[:120]}"
        assert not alt[1].startswith("../_images"), f"alt text is a file name: {picture[:120]}"


def test_equations_render(visit):
    dom, _ = visit("book/method.html")
    assert dom.count("<mjx-container") > 5
    assert "\\frac" not in re.sub(r"<script.*?</script>|<mjx-assistive-mml.*?</mjx", "", dom)


def test_glued_numbers_are_there(visit):
    for page in PAGES:
        assert "glue:text" not in visit(page)[0], f"an unresolved glued number in {page}"


def test_every_link_inside_the_book_leads_somewhere(visit):
    for page in PAGES:
        for link in re.findall(r'<a [^>]*href="([^"#?]+)', visit(page)[0]):
            if not re.match(r"https?:|mailto:|javascript:", link):
                target = (HTML / Path(page).parent / link).resolve()
                assert target.exists(), f"{page} links to {link}"
