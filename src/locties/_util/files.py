"""Files and folders that appear whole or not at all, even when the process is killed."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows: files that killed processes left are not removed
    fcntl = None  # type: ignore[assignment]

_NO_ROOM = (ENOSPC, EDQUOT, EFBIG)


class DataError(OSError):
    """A data file is missing, truncated or altered; the message says what to do."""


class UnusableFile(DataError, ValueError):
    """A file given by the user is altered or of another kind; this is a ValueError too."""


@contextmanager
def written_aside(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield a path to write to; afterwards it is synced to the disk and renamed to `path`.

    After an error the old `path` is untouched. Each call has a path of its own, so two processes
    can write the same `path`: the last to finish wins. Files that killed processes left are
    removed.

    Args:
        path: what to write.
        folder: yield an empty folder instead of a file. An old folder is replaced by two renames;
            if the machine stops between them, the old one is left as ``.<name>.<random>.old``.

    Example:
        >>> with written_aside(Path("notes.txt")) as aside:
        ...     _ = aside.write_text("whole")
        >>> Path("notes.txt").read_text()
        'whole'
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        lock = _create_locked(aside, folder)
        yield aside
        for part in [*aside.rglob("*"), aside] if folder else [aside]:
            sync(part)
        if folder:
            _replace_folder(aside, path)
        else:
            aside.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(error.errno, f"{error.strerror}; {remedy(error)}", str(path)) from error
    finally:
        if lock is not None:
            os.close(lock)
        _remove(aside)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block is done; a second Ctrl-C acts at once."""
    before, came = signal.getsignal(signal.SIGINT), False
    # Only the main thread gets signals. A handler not set by Python cannot be restored.
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return

    def wait(*_: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def remedy(error: OSError) -> str:
    """What to do about a write that failed."""
    return "make room" if error.errno in _NO_ROOM else "fix the cause"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create_locked(aside: Path, folder: bool) -> int | None:
    """Create and lock `aside`; return the handle. The lock shows that the writer is alive."""
    while True:
        if folder:
            aside.mkdir()
        else:
            aside.touch()
        if fcntl is None:
            return None
        with suppress(FileNotFoundError):
            handle = os.open(aside, os.O_RDONLY)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if aside.exists():
                return handle
            os.close(handle)  # another writer removed it before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove the files that killed writers of `path` left: nobody locks them."""
    if fcntl is None:
        return
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        try:
            handle = os.open(left, os.O_RDONLY)
        except OSError:
            continue
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _replace_folder(aside: Path, path: Path) -> None:
    """Rename `aside` to `path`; the old folder is kept until the new one is in its place."""
    old = aside.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        aside.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.old"):
        _remove(left)
