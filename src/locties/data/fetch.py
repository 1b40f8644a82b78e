"""Fetching: the one place in locties that opens a connection, and only where it is asked to."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from locties._util.extras import needs
from locties._util.files import written_aside
from locties._util.registry import unknown
from locties.data.manifest import (
    DataError,
    Source,
    SourceFile,
    fetched_path,
    in_mirror,
    mirror_folder,
    problem,
    sources,
)

TIMEOUT = 30  # seconds without a byte
RETRIES = 2  # each goes on where the last one stopped
_CHUNK = 2**16


def choose(names: Sequence[str] = (), tier: str = "open") -> list[Source]:
    """The sources of a tier that can be fetched: those named, or all.

    Args:
        names: of sources; none for all of the tier.
        tier: open or paper.

    Returns:
        The sources, in the manifest's order.

    Raises:
        ValueError: an unknown tier or name, or a tier whose files come inside wheels.

    Example:
        >>> [source.name for source in choose(["stations"])]
        ['stations']
    """
    known = {source.name: source for source in sources(tier) if "address" in source.carrier}
    if not known:
        raise ValueError(f"nothing of the {tier} tier is fetched: run `locties data list`")
    for name in names:
        if name not in known:
            raise unknown(f"dataset of the {tier} tier", name, known)
    return [known[name] for name in names or known]


def fetch(source: Source, mirror: Path | None = None, progress: bool = True) -> list[Path]:
    """Put every file of a source into `locties.data.manifest.cache_folder`.

    A file that is there and whole is left alone. A mirror answers first, by size and sha256: an
    altered file in it is named on stderr and passed over. What it has not is downloaded; a broken
    download goes on where it stopped, in this call and in the next. A file appears under its name
    when its sha256 is the manifest's, whole or not at all.

    Args:
        source: with an address.
        mirror: folder to look in; by default the one that ``LOCTIES_MIRROR`` names.
        progress: show a bar for each download on stderr.

    Returns:
        Where the files are.

    Raises:
        DataError: no connection or a broken one, an error page, an altered file, a full disk.

    Example:
        >>> import os
        >>> os.environ["LOCTIES_CACHE"] = "here"
        >>> [path.is_file() for path in fetch(choose(["stations"])[0], progress=False)]
        [True]
        >>> del os.environ["LOCTIES_CACHE"]
    """
    folder = mirror or mirror_folder()
    paths = []
    for file in source.files:
        path = fetched_path(source, file)
        if problem(path, file):
            try:
                _obtain(source, file, path, folder, progress)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DataError(
                    f"{source.name}: the disk of {path.parent} is full; {path.name} needs "
                    f"{file.bytes / 1e6:.1f} MB; make room and run it again"
                ) from error
        paths.append(path)
    return paths


def _obtain(
    source: Source, file: SourceFile, path: Path, mirror: Path | None, progress: bool
) -> None:
    part = path.with_name(f".{path.name}.part")
    mirrored, altered = in_mirror(file, mirror)
    if mirrored:
        with written_aside(path) as aside:
            shutil.copyfile(mirrored, aside)
        part.unlink(missing_ok=True)
        return
    if altered:
        print(
            f"locties: {altered} in the mirror is altered: it is not {file.path} of {source.name} "
            f"(sha256 {file.sha256}); downloading that instead",
            file=sys.stderr,
        )
    _download(source, file, path, part, progress)


def _download(source: Source, file: SourceFile, path: Path, part: Path, progress: bool) -> None:
    with needs("data", "fetching data"):
        import pooch
        from requests import RequestException

    url = f"{source.carrier['address']}/{quote(file.path)}"
    store = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: f"sha256:{file.sha256}"},
        urls={path.name: url},
        retry_if_failed=RETRIES,
    )
    pooch.get_logger().setLevel("WARNING")  # the bar says what it would
    try:
        store.fetch(path.name, downloader=_Resuming(part, file.bytes, progress))
    except RequestException as error:
        have = part.stat().st_size if part.exists() else 0
        raise DataError(
            f"{source.name}: {url} stopped at {have} of {file.bytes} bytes ({reason(error)}); run "
            "it again to go on from there, or give a folder that has the file with --mirror"
        ) from error
    except ValueError as error:  # pooch's, of a wrong hash; it has deleted the file
        raise DataError(
            f"{source.name}: {url} sends {file.bytes} bytes that are not the file: expected sha256 "
            f"{file.sha256}; it was altered there or on the way; nothing was kept"
        ) from error


def reason(error: BaseException) -> str:
    """The innermost cause in one line: requests and urllib3 wrap it several times."""
    while (
        inner := error.__cause__
        or error.__context__
        or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    ):
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that keeps what came of a broken download, and asks for the rest.

    pooch hands it a name beside the real one, checks the sha256 of what lies there and renames.

    Args:
        part: where unfinished downloads are kept.
        size: bytes of the whole file.
        progress: show a bar.
    """

    part: Path
    size: int
    progress: bool

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        if not self.part.exists() or self.part.stat().st_size != self.size:
            receive(url, self.part, self.size, self.progress)
        self.part.replace(output_file)


def receive(url: str, part: Path, size: int | None = None, progress: bool = True) -> None:
    """Download what `part` lacks of a file, to its end.

    Args:
        url: http or https.
        part: what came of it before, if anything; the rest is appended, or all written anew where
            the server sends the whole.
        size: bytes of the whole file; None takes the server's word.
        progress: show a bar on stderr.

    Raises:
        DataError: an answer that cannot be the file. What had come is kept.
        requests.RequestException: no connection, or one that broke: trying again may help.
        OSError: no room.
    """
    with needs("data", "fetching data"):
        import requests
        from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    # A piece of a compressed answer could not be joined to the rest.
    headers = {"Accept-Encoding": "identity"}
    if have > 0 and (size is None or have < size):
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and size is None:
            if answer.headers.get("Content-Range") == f"bytes */{have}":
                return  # nothing is left to fetch
            part.unlink()
            raise requests.ConnectionError("what came earlier is not the beginning of this file")
        if answer.status_code >= 500:
            answer.raise_for_status()  # may pass
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends the whole
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        refusal = _refusal(answer, total, size)
        if refusal:
            raise DataError(f"{url} {refusal}")
        total = size if total is None else total
        # Or urllib3 would throw away the last bytes before a break; the size is checked below.
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
                stream.write(chunk if total is None else chunk[: total - have])
                have += len(chunk)
                bar.update(len(chunk))
                if total is not None and have > total:
                    break
            stream.flush()
            os.fsync(stream.fileno())
    if total is not None and have > total:
        part.unlink()
        raise DataError(f"{url} sends more than the {total} bytes expected: it is altered")
    if total is not None and have < total:
        raise requests.ConnectionError("the server closed the connection")


def _refusal(answer: Any, total: int | None, size: int | None) -> str | None:
    """Why an answer cannot be the file, or None where it may be."""
    if not answer.ok:
        return f"answers {answer.status_code} {answer.reason}"
    kind = answer.headers.get("Content-Type", "")
    if "html" in kind:
        return f"sends a web page ({kind}) and not the file: an error page, or a login"
    if None not in (total, size) and total != size:
        return f"sends a file of {total} bytes, expected {size}: it was altered or cut there"
    return None
