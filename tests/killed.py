"""A process that is killed while it works."""

import multiprocessing
import os
import signal
from collections.abc import Callable


def killed_at_sync(work: Callable[[], object], number: int) -> int | None:
    """Do work in a process that is killed at its nth request to put something safely on disk.

    Returns its exit code.
    """

    def child() -> None:
        calls, sync = 0, os.fsync

        def count(handle: int) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(handle)

        os.fsync = count
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    return process.exitcode
