"""The pipeline in a folder of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from locties_paper.site.notebook import REPOSITORY


def lay_out(folder: Path) -> Path:
    """Make `folder` look like the repository; the pipeline writes its `_build` there."""
    for name in ("Snakefile", "experiments.yaml", "src", "book", "results"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def snakemake(
    folder: Path, *arguments: str, first_on_path: str | Path = "", **options
) -> subprocess.Popen:
    """Start the pipeline there."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    one = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    folders = [first_on_path, Path(sys.executable).parent, os.environ["PATH"]]
    path = os.pathsep.join(str(each) for each in folders if each)
    environment = {**os.environ, **one, "PATH": path}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes, **options)


def kill(pid: int, reap: Callable[[], object]) -> None:
    """A process and all that it has started, also in other sessions, as when the machine stops.

    Args:
        pid: of a process that this one has started.
        reap: asks for its exit status; nobody else may, or its owner would never learn it.
    """
    first = psutil.Process(pid)
    found: list[psutil.Process] = []
    while new := [one for one in [first, *first.children(recursive=True)] if one not in found]:
        for one in new:
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                one.suspend()  # so that it starts no more of them
        found += new
    for one in found:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    reap()
    _, left = psutil.wait_procs(found[1:], timeout=10)
    if alive := [one for one in left if one.status() != psutil.STATUS_ZOMBIE]:
        raise RuntimeError(f"these were killed and are still at work: {alive}")
