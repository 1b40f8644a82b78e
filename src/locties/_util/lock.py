"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def only_process(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold `folder` for this process; the hold ends with the process, however it ends.

    Args:
        folder: an existing folder; ``.lock`` and ``.holder`` are written into it and stay.

    Raises:
        RuntimeError: where another process holds it, naming that process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, only_process(folder):
        ...     print(sorted(os.listdir(folder)))
        ['.holder', '.lock']
    """
    # The holder's name has a file of its own: some systems let nobody read a locked file.
    holder = Path(folder) / ".holder"
    lock = FileLock(Path(folder) / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        try:
            name = holder.read_text().strip()
        except OSError:
            name = ""
        name = name or "another process"
        raise RuntimeError(
            f"{folder} is in use by {name}: wait until it has finished, or choose another folder"
        ) from None
    try:
        aside = holder.with_name(".holder.part")
        try:
            aside.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
            aside.replace(holder)
        except OSError:  # a full disk; work that writes says so better
            for file in (aside, holder):
                file.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


# python -m locties._util.lock FOLDER COMMAND...: hold the folder while the command runs
if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    try:
        with only_process(sys.argv[1]), subprocess.Popen(sys.argv[2:]) as command:
            # An interrupt from the keyboard reaches the command too, which knows how to end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: command.terminate())
            sys.exit(command.wait())
    except RuntimeError as in_use:
        sys.exit(str(in_use))
