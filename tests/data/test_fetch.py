"""Fetching from a server on this machine that can fail in every way that servers do."""

import contextlib
import errno
import gzip
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from locties.cli import app
from locties.data import fetch as fetching
from locties.data import manifest
from locties.data.fetch import choose, download, fetch
from locties.data.manifest import DataError, Source, SourceFile, fetched_path, locate

CONTENT = np.random.default_rng(0).bytes(300_000)
NAME = "folder/a file.bin"


@dataclass
class Server:
    """What the server does, and what it was asked.

    Attributes:
        content: of the file.
        status: of the answer.
        kind: content type.
        breaks: for each request in turn, after how many bytes the connection drops.
        length: whether Content-Length is sent, or what it says.
        ranges: whether ranges are answered.
        asked: path and range of each request.
        pause: an answer waits for it.
        headers: sent with every answer.
        shift: bytes by which an answered range is beside the one asked for.
    """

    address: str = ""
    content: bytes = CONTENT
    status: int = 200
    kind: str = "application/octet-stream"
    breaks: list[int] = field(default_factory=list)
    length: bool | str = True
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    pause: threading.Event | None = None
    headers: dict[str, str] = field(default_factory=dict)
    shift: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            behaviour.asked.append((self.path, wanted))
            if behaviour.pause:
                behaviour.pause.wait(10)
            start = 0
            if wanted and behaviour.ranges and behaviour.status == 200:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(behaviour.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(behaviour.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            start += behaviour.shift if start else 0
            body = behaviour.content[start:]
            compressed = "gzip" in self.headers.get("Accept-Encoding", "")
            if compressed:  # as the servers of the real files do where they are allowed to
                body = gzip.compress(body)
            self.send_response(206 if start else behaviour.status)
            self.send_header("Content-Type", behaviour.kind)
            for name, value in behaviour.headers.items():
                self.send_header(name, value)
            if compressed:
                self.send_header("Content-Encoding", "gzip")
            if start:
                end = len(behaviour.content)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            if behaviour.length:
                said = behaviour.length if isinstance(behaviour.length, str) else len(body)
                self.send_header("Content-Length", str(said))
            self.end_headers()
            stop = behaviour.breaks.pop(0) if behaviour.breaks else len(body)
            self.wfile.write(body[:stop])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    behaviour.address = f"http://127.0.0.1:{httpd.server_port}/repository/commit"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behaviour
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def source(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    """A source of one file on the server; the cache folder is the test's own."""
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOCTIES_MIRROR", raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # urllib3 waits before it tries again
    file = SourceFile(NAME, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    made = Source("sample", "open", {"address": server.address}, "x", "", "", "", "", "", (file,))
    monkeypatch.setattr(manifest, "_read", lambda: (made,))
    return made


@pytest.fixture
def path(source: Source) -> Path:
    return fetched_path(source, source.files[0])


def leftovers(path: Path) -> dict[str, int]:
    """Name and size of everything in the file's folder."""
    found = {each.name: each.stat().st_size for each in path.parent.iterdir()}
    versions = {f"{name}.version" for name in found if name.endswith(".part")}
    ignored = {".lock", ".holder", *versions}
    return {name: size for name, size in found.items() if name not in ignored}


def refused(source: Source, path: Path) -> str:
    """The one line with which a fetch fails; nothing is under the file's name after it."""
    with pytest.raises(DataError) as caught:
        fetch(source, progress=False)
    assert not path.exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_comes_whole_under_its_name_and_nothing_beside_it(
    source: Source, path: Path, server: Server, tmp_path: Path
) -> None:
    assert fetch(source, progress=False) == [path]
    assert path == tmp_path / "cache" / "open" / "sample" / NAME
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == {path.name: len(CONTENT)}
    assert server.asked == [("/repository/commit/folder/a%20file.bin", None)]
    assert locate(source, source.files[0]) == path


def test_what_is_there_is_not_asked_for_again(source: Source, server: Server) -> None:
    fetch(source, progress=False)
    fetch(source, progress=False)
    assert len(server.asked) == 1


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_a_dropped_connection_is_taken_up_where_it_broke(
    length: bool, source: Source, path: Path, server: Server
) -> None:
    server.breaks, server.length = [100_000, 50_000], length
    fetch(source, progress=False)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_a_download_that_keeps_breaking_is_kept_and_gone_on_with_later(
    length: bool, source: Source, path: Path, server: Server
) -> None:
    server.breaks, server.length = [100_000, 50_000, 0], length
    message = refused(source, path)
    assert "150,000 of 300,000 bytes are kept" in message
    assert "run it again" in message
    assert server.address in message
    assert leftovers(path) == {f".{path.name}.part": 150_000}
    with pytest.raises(DataError, match="is missing"):
        locate(source, source.files[0])
    fetch(source, progress=False)
    assert server.asked[-1][1] == "bytes=150000-"
    assert leftovers(path) == {path.name: len(CONTENT)}


def test_a_server_without_ranges_is_read_from_the_start(
    source: Source, path: Path, server: Server
) -> None:
    server.breaks, server.ranges = [100_000], False
    fetch(source, progress=False)
    assert path.read_bytes() == CONTENT


def test_a_download_that_was_whole_but_not_yet_named_is_not_asked_for(
    source: Source, path: Path, server: Server
) -> None:
    path.parent.mkdir(parents=True)
    path.with_name(f".{path.name}.part").write_bytes(CONTENT)
    fetch(source, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * 300_000, b"x" * 300_001])
def test_a_spoilt_beginning_is_found_by_its_hash_and_thrown_away(
    part: bytes, source: Source, path: Path, server: Server
) -> None:
    path.parent.mkdir(parents=True)
    path.with_name(f".{path.name}.part").write_bytes(part)
    fetch(source, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1][1] is None


def test_an_altered_file_of_the_same_size_is_refused(
    source: Source, path: Path, server: Server
) -> None:
    server.content = CONTENT[:-1] + b"?"
    message = refused(source, path)
    assert f"expected {source.files[0].sha256}" in message
    assert "altered" in message
    assert leftovers(path) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:-5], "sends a file of 299995 bytes, expected 300000"),
        (CONTENT + b"more", "sends a file of 300004 bytes, expected 300000"),
    ],
)
def test_a_file_of_another_size_is_refused_before_it_is_read(
    content: bytes, words: str, source: Source, path: Path, server: Server
) -> None:
    server.content = content
    assert words in refused(source, path)
    assert leftovers(path) == {}
    assert len(server.asked) == 1, "asking again would not help"


def test_a_stream_that_does_not_end_is_cut(source: Source, path: Path, server: Server) -> None:
    server.content, server.length = CONTENT * 20, False
    assert "sends more than the 300000 bytes expected" in refused(source, path)
    assert leftovers(path) == {}


@pytest.mark.parametrize(
    ("status", "words", "requests"),
    [
        (404, "answers 404 Not Found", 1),
        (403, "answers 403 Forbidden", 1),
        (500, "answers 500 Internal", 3),
    ],
)
def test_an_error_page_is_named_and_tried_again_only_where_it_may_pass(
    status: int, words: str, requests: int, source: Source, path: Path, server: Server
) -> None:
    server.status, server.content = status, b"<html>sorry</html>"
    message = refused(source, path)
    assert words in message
    assert server.address in message
    assert leftovers(path) == {}
    assert len(server.asked) == requests


def test_what_came_before_a_refusal_is_not_lost(source: Source, path: Path, server: Server) -> None:
    server.breaks = [100_000, 0]
    refused(source, path)
    server.status = 429
    assert "answers 429 Too Many Requests" in refused(source, path)
    server.status = 200
    fetch(source, progress=False)
    assert server.asked[-1][1] == "bytes=100000-"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_a_web_page_with_status_200_is_no_file(
    length: bool, source: Source, path: Path, server: Server
) -> None:
    server.content, server.kind, server.length = b"<html>log in</html>", "text/html", length
    assert "sends a web page (text/html)" in refused(source, path)
    assert leftovers(path) == {}


def test_without_a_network_the_mirror_is_recommended(source: Source, path: Path) -> None:
    offline = Source(**{**vars(source), "carrier": {"address": "http://127.0.0.1:1/none"}})
    message = refused(offline, path)
    assert "Connection refused" in message
    assert "--mirror" in message


class FullDisk:
    """A file that has room for `room` bytes."""

    def __init__(self, stream: object, room: int) -> None:
        self.stream, self.room = stream, room

    def write(self, chunk: bytes) -> int:
        self.room -= len(chunk)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.stream.write(chunk)

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


def test_a_full_disk_is_said_and_what_came_is_gone_on_with(
    source: Source, path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(self: Path, mode: str = "r", **kwargs: object) -> object:
        stream = real(self, mode, **kwargs)
        return FullDisk(stream, 200_000) if self.suffix == ".part" else stream

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        message = refused(source, path)
    assert f"the disk of {path.parent} is full" in message
    assert "196,608 bytes" in message
    assert list(leftovers(path)) == [f".{path.name}.part"]
    assert len(server.asked) == 1
    fetch(source, progress=False)
    assert server.asked[-1][1] == "bytes=196608-"
    assert path.read_bytes() == CONTENT


def test_a_second_process_is_refused_and_what_the_first_fetches_is_not_damaged(
    source: Source, path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pause = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch, source, None, False)
        while not server.asked:
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match=f"in use by process {os.getpid()} "):
            fetch(source, progress=False)
        server.pause.set()
        first.result()
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_an_altered_file_in_the_cache_is_an_error_until_it_is_fetched_anew(
    source: Source, path: Path
) -> None:
    fetch(source, progress=False)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DataError) as caught:
        locate(source, source.files[0])
    assert f"{path} has sha256" in str(caught.value)
    assert str(caught.value).endswith("run: locties data fetch sample")
    fetch(source, progress=False)
    assert locate(source, source.files[0]).read_bytes() == CONTENT


# ------------------------------------------------------------- files of unknown size and sha256


def whole(path: Path) -> str | None:
    return None if path.read_bytes() == CONTENT else "is another file"


@pytest.fixture
def unknown(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("time.sleep", lambda _: None)
    return tmp_path / "file.bin"


def test_the_server_s_size_is_taken_and_a_break_taken_up(unknown: Path, server: Server) -> None:
    server.breaks = [100_000, 7]
    download(server.address, unknown, whole, progress=False)
    assert unknown.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=100007-"]


def test_a_whole_part_is_recognised_and_another_file_s_beginning_thrown_away(
    unknown: Path, server: Server
) -> None:
    part = unknown.with_name(".file.bin.part")
    for beginning in (CONTENT, CONTENT + b"more", b"x" * 1000):
        part.write_bytes(beginning)
        download(server.address, unknown, whole, progress=False)
        assert unknown.read_bytes() == CONTENT
        assert leftovers(unknown) == {"file.bin": len(CONTENT)}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 204, "content": b""}, "answers 204"),
        ({"status": 416, "content": b""}, "answers 416"),
        ({"length": "abc"}, "states the length 'abc'"),
        ({"content": b"other"}, "is another file"),
        ({"status": 206}, "answers 206"),
        ({"status": 302, "headers": {"Location": "/again"}}, "30 redirects"),
        ({"status": 200, "kind": "text/html; charset=utf-8"}, "web page"),
    ],
)
def test_an_answer_that_is_no_file_is_not_kept(
    answer: dict[str, object], words: str, unknown: Path, server: Server
) -> None:
    vars(server).update(answer)
    with pytest.raises(DataError, match=words):
        download(server.address, unknown, whole, progress=False)
    assert leftovers(unknown) == {}


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("calls", [1, 2])
def test_the_halves_of_two_versions_are_not_joined(
    name: str, calls: int, unknown: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows the sum of what is fetched, and the sizes are the same."""
    server.headers, server.breaks = {name: "first"}, [100_000]
    new, receive = bytes(reversed(CONTENT)), fetching._receive

    def changes(*arguments: object) -> None:
        try:
            receive(*arguments)
        finally:
            server.content, server.headers = new, {name: "second"}
            if calls == 2 and not server.breaks and len(server.asked) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_receive", changes)
    for _ in range(calls):
        with contextlib.suppress(KeyboardInterrupt):
            download(server.address, unknown, lambda _: None, progress=False)
    assert unknown.read_bytes() == new
    assert leftovers(unknown) == {"file.bin": len(new)}


def test_a_range_that_was_not_asked_for_is_not_joined(unknown: Path, server: Server) -> None:
    server.breaks, server.shift = [100_000], 10
    download(server.address, unknown, whole, progress=False)
    assert unknown.read_bytes() == CONTENT


# ------------------------------------------------------------------------------------ mirrors


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    (folder / "deep" / "in").mkdir(parents=True)
    (folder / "deep" / "in" / "another name").write_bytes(CONTENT)
    (folder / "a file.bin").write_bytes(b"another file of the same name")
    return folder


def test_a_mirror_answers_by_hash_under_any_name_and_no_server_is_asked(
    source: Source, path: Path, server: Server, mirror: Path
) -> None:
    path.parent.mkdir(parents=True)
    path.with_name(f".{path.name}.part").write_bytes(CONTENT[:1000])
    fetch(source, mirror)
    assert path.read_bytes() == CONTENT
    assert leftovers(path) == {path.name: len(CONTENT)}, "nor what came before of a download"
    assert server.asked == []


def test_the_mirror_of_the_environment_answers_fetch_and_locate(
    source: Source, path: Path, server: Server, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCTIES_MIRROR", str(mirror))
    assert locate(source, source.files[0]) == mirror / "deep" / "in" / "another name"
    assert not path.exists(), "locate copies nothing"
    fetch(source)
    assert path.read_bytes() == CONTENT
    assert server.asked == []


def test_an_altered_file_in_a_mirror_is_named_and_the_server_asked(
    source: Source, path: Path, server: Server, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = mirror / "deep" / "in" / "another name"
    altered.write_bytes(CONTENT[:-1] + b"?")
    (mirror / "a file.bin").unlink()
    fetch(source, mirror, progress=False)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1
    said = capsys.readouterr().err
    assert f"{altered} in the mirror is altered" in said
    assert source.files[0].sha256 in said


def test_a_mirror_that_is_no_folder_is_said(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCTIES_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"LOCTIES_MIRROR names .*nowhere, which is not a folder"):
        locate(source, source.files[0])


def test_a_full_disk_leaves_nothing_of_a_copy(
    source: Source, path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, aside: Path) -> None:
        aside.write_bytes(CONTENT[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching.shutil, "copyfile", full)
    with pytest.raises(OSError, match=f"{path}.*make room|make room.*{path}"):
        fetch(source, mirror)
    assert leftovers(path) == {}


# ---------------------------------------------------------------------- what may be asked for


def test_names_are_of_the_tier() -> None:
    assert {source.name for source in choose()} >= {"stations", "biomes", "night_lights"}
    with pytest.raises(ValueError, match="of the open tier 'station': did you mean 'stations'"):
        choose(["station"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../up", "a\\b", "c:a"])
def test_a_path_that_leaves_its_folder_is_no_path_of_a_manifest(path: str) -> None:
    with pytest.raises(ValueError, match="leaves its carrier"):
        SourceFile(path, 1, "0" * 64)


def test_the_command_fetches_and_verifies(
    source: Source, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = CliRunner()
    missing = runner.invoke(app, ["data", "verify", "--tier", "open"])
    assert missing.exit_code == 1
    assert "run: locties data fetch sample" in missing.stdout
    fetched = runner.invoke(app, ["data", "fetch", "sample"])
    assert fetched.exit_code == 0, fetched.output
    assert fetched.stdout.split() == ["sample", "1", "files", "0.3", "MB"]
    assert path.read_bytes() == CONTENT
    assert runner.invoke(app, ["data", "verify", "--tier", "open"]).exit_code == 0


def test_the_command_fails_on_one_line(source: Source, path: Path, server: Server) -> None:
    server.status = 404
    result = CliRunner().invoke(app, ["data", "fetch"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("locties: ")
    assert result.stderr.count("\n") == 1
