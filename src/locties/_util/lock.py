"""One process at a time in a folder.

``python -m locties._util.lock FOLDER COMMAND...`` holds the folder while a command runs.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def only_process(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock an existing folder; the lock ends with this process, even if it is killed.

    ``.lock`` and ``.holder`` are written into the folder and stay there.

    Raises:
        RuntimeError: another process holds the folder; the message names it.
    """
    lock = FileLock(Path(folder) / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _in_use(folder) from None
    try:
        _sign(folder)
        yield
    finally:
        lock.release()


def _sign(folder: str | os.PathLike[str]) -> None:
    """Write who holds the lock, beside it: on some systems a locked file cannot be read."""
    holder = Path(folder) / ".holder"
    aside = Path(folder) / ".holder.part"
    try:
        aside.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        aside.replace(holder)
    except OSError:  # the disk is full; the caller's own writes report it better
        for file in (aside, holder):
            file.unlink(missing_ok=True)


def _in_use(folder: str | os.PathLike[str]) -> RuntimeError:
    try:
        name = (Path(folder) / ".holder").read_text().strip()
    except OSError:
        name = ""
    return RuntimeError(
        f"{folder} is in use by {name or 'another process'}: wait until it has finished, or choose "
        "another folder"
    )


def _become(folder: Path, command: list[str]) -> None:
    """Lock `folder` and replace this process by `command`; the lock ends with it."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(str(_in_use(folder)))
    _sign(folder)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(Path(sys.argv[1]), sys.argv[2:])
