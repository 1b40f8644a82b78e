"""A process that is killed while it works. It is forked, for imports take longer than the work."""

import multiprocessing
import os
import signal
from collections.abc import Callable


def exit_code_of(work: Callable[[], object]) -> int | None:
    """Do work in a process of its own and return its exit code, -9 if it was killed."""
    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    process.join(60)
    return process.exitcode


def kill_me(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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
                kill_me()
            sync(handle)

        os.fsync = count
        work()

    return exit_code_of(child)
