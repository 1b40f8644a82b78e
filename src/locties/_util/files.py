"""Files that appear whole or not at all, whatever happens while they are written."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to in place of `path`: then synced to the disk, and renamed.

    After an error what stood at `path` is still there, and nothing beside it.

    Example:
        >>> with written_aside(Path("notes.txt")) as aside:
        ...     _ = aside.write_text("whole")
        >>> Path("notes.txt").read_text()
        'whole'
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        with aside.open("r+b") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    flush_folder(path.parent)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it an interrupt waits until the block is done; a second one acts at once.

    Where the block fails, its error is what is heard of.

    Example:
        >>> with uninterrupted():
        ...     _ = Path("notes.txt").write_text("whole")
    """
    before, came = signal.getsignal(signal.SIGINT), False
    # Signals come to the main thread alone; a handler that is not Python's cannot be put back.
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
    return "make room" if error.errno in (ENOSPC, EDQUOT, EFBIG) else "mend that"


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can open a folder at all."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
