"""Download files; nothing else in locties opens a connection."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from locties._util.extras import needs
from locties._util.files import written_aside
from locties._util.lock import only_process
from locties._util.registry import unknown
from locties.data.manifest import (
    DataError,
    Source,
    fetched_path,
    in_mirror,
    mirror_folder,
    problem,
    sources,
)

TIMEOUT = 30  # seconds to wait for the next byte
RETRIES = 2  # of a request without an answer, or with a server error
_CHUNK = 2**16


def choose(names: Sequence[str] = ()) -> list[Source]:
    """The sources of the open tier that can be fetched: those named, or all of them."""
    known = {source.name: source for source in sources("open") if "address" in source.carrier}
    for name in names:
        if name not in known:
            raise unknown("dataset of the open tier", name, known)
    return [known[name] for name in names or known]


def fetch(source: Source, mirror: Path | None = None, progress: bool = True) -> list[Path]:
    """Put every file of a source into `locties.data.manifest.cache_folder`.

    Files that are there and right are kept. Others come from the mirror if it has them, or are
    downloaded. A file gets its name only if its sha256 is that of the manifest.

    Args:
        source: from `choose`.
        mirror: folder to look in first; default: the one that ``LOCTIES_MIRROR`` names.
        progress: show a bar for each download on stderr.

    Example:
        >>> [path.is_file() for path in fetch(choose(["stations"])[0])]  # doctest: +SKIP
        [True]
    """
    folder = mirror or mirror_folder()
    paths = [fetched_path(source, file) for file in source.files]
    for file, path in zip(source.files, paths, strict=True):
        if not problem(path, file):
            continue
        mirrored, altered = in_mirror(file, folder)
        if mirrored:
            with written_aside(path) as aside:
                shutil.copyfile(mirrored, aside)
            _remove(_part(path))
            continue
        if altered:
            print(
                f"locties: {altered} in the mirror is altered: it is not {file.path} of "
                f"{source.name} (sha256 {file.sha256}); downloading that instead",
                file=sys.stderr,
            )
        url = f"{source.carrier['address']}/{quote(file.path)}"
        try:
            download(url, path, partial(problem, file=file), file.bytes, progress)
        except DataError as error:
            raise DataError(
                f"{source.name}: {error}. If a folder has the file, pass the folder "
                "with --mirror, or in LOCTIES_MIRROR"
            ) from error
    return paths


def download(
    url: str,
    path: Path,
    check: Callable[[Path], str | None],
    size: int | None = None,
    progress: bool = True,
) -> None:
    """Download a file; it gets its name only when it is whole and right.

    A broken connection is opened again, as long as new bytes arrive. The bytes are kept in
    ``.<name>.part``, and the next call resumes.

    Args:
        url: http or https.
        path: where to write the file.
        check: returns what is wrong with a downloaded file, or None; a wrong file is deleted.
        size: bytes of the file; None trusts the server.
        progress: show a bar on stderr.
    """
    part = _part(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_process(path.parent):
        while True:
            resumed = part.exists()
            _receive_all(url, part, size, progress)
            fault = check(part)
            if fault is None:
                part.replace(path)
                _version(part).unlink(missing_ok=True)
                return
            _remove(part)
            if not resumed:  # else the beginning may be wrong: download it again
                raise DataError(
                    f"{url} sends a file that {fault}; it was altered there or on the way, and was "
                    "deleted"
                )


def _part(path: Path) -> Path:
    """Where an unfinished download is kept."""
    return path.with_name(f".{path.name}.part")


def _version(part: Path) -> Path:
    """The file with the version that an unfinished download belongs to."""
    return part.with_name(f"{part.name}.version")


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version(part).unlink(missing_ok=True)


def _receive_all(url: str, part: Path, size: int | None, progress: bool) -> None:
    """Download what `part` lacks, over as many connections as needed."""
    with needs("data", "a download"):
        from requests import RequestException

    while True:
        before = _size(part)
        try:
            return _receive(url, part, size, progress)
        except RequestException as error:
            have = _size(part)
            if have <= before:
                of = "" if size is None else f" of {size:,}"
                raise DataError(
                    f"{url}: {_reason(error)}; {have:,}{of} bytes are kept: run it again to resume"
                ) from error
        except OSError as error:
            if error.errno not in (ENOSPC, EDQUOT):
                raise
            raise DataError(
                f"the disk of {part.parent} is full; {_size(part):,} bytes of {url} are kept: make "
                "room, and run it again to resume"
            ) from error


def _receive(url: str, part: Path, size: int | None, progress: bool) -> None:
    """Download what `part` lacks, over one connection."""
    with needs("data", "a download"):
        import requests
        from tqdm import tqdm
        from urllib3 import Retry

    have = _size(part)
    if size is not None and have >= size:
        if have == size:
            return
        _remove(part)
        have = 0
    # A part of a compressed answer could not be joined to the rest.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    retries = Retry(
        RETRIES, backoff_factor=1, status_forcelist=(500, 502, 503, 504), raise_on_status=False
    )
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retries))
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            sent = answer.headers.get("Content-Range", "")
            if answer.status_code == 416 and sent == f"bytes */{have}" and have:
                return  # it is whole
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            goes_on = sent.startswith(f"bytes {have}-") and version == _read(_version(part))
            if have and (answer.status_code == 416 or (answer.status_code == 206 and not goes_on)):
                _remove(part)  # it is the beginning of another file
                return _receive(url, part, size, progress)
            if answer.status_code != 206:
                have = 0  # the server sends the file from its start
            total = _total(answer, have, size)
            if not have:
                _version(part).write_text(version)
            # Else urllib3 drops the last bytes before a break; the size is checked below.
            answer.raw.enforce_content_length = False
            with (
                part.open("ab" if have else "wb") as stream,
                tqdm(
                    desc=part.name.removeprefix(".").removesuffix(".part"),
                    total=total,
                    initial=have,
                    unit="B",
                    unit_scale=True,
                    file=sys.stderr,
                    disable=not progress,
                ) as bar,
            ):
                for chunk in answer.iter_content(_CHUNK):
                    stream.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
                    if total is not None and have > total:
                        break
                stream.flush()
                os.fsync(stream.fileno())
    if total is not None and have > total:
        _remove(part)
        raise DataError(f"{url} sends more than the {total} bytes expected: it is altered")
    if total is not None and have < total:
        raise requests.ConnectionError("the server closed the connection")


def _total(answer: Any, have: int, size: int | None) -> int | None:
    """Size of the file in an answer, None if unknown; DataError if it is not the file we want."""
    if answer.status_code not in (200, 206) or (answer.status_code == 206 and not have):
        raise DataError(f"{answer.url} answers {answer.status_code} {answer.reason}")
    kind = answer.headers.get("Content-Type", "")
    if "html" in kind:
        raise DataError(
            f"{answer.url} sends a web page ({kind}), not the file: an error page, or a login"
        )
    length = answer.headers.get("Content-Length")
    if length is None:
        return size
    if not length.isdecimal():
        raise DataError(f"{answer.url} states the length {length!r}, which is not a number")
    total: int = have + int(length)
    if size not in (None, total):
        raise DataError(
            f"{answer.url} sends a file of {total} bytes, expected {size}: it was altered or cut "
            "there"
        )
    return total


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: requests and urllib3 wrap it several times."""
    while (
        inner := error.__cause__
        or error.__context__
        or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    ):
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
