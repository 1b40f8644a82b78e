"""The pipeline in a folder of its own, with a small run and its scores."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from locties_paper.site.notebook import REPOSITORY

# Two small modalities, one task, one seed; enough epochs to be killed in the middle.
RUN = {"method": "salt", "modalities": "relief,haze", "features": "xyz", "feature_options": {}}
RUN |= {"network_options": {"hidden": 8}, "dim": 8, "samples": 500, "batch": 64}
RUN |= {"pairs": 64 * 120, "epochs": 12, "learning_rate": 1e-3}
EVALUATE = {"tasks": "elevation", "points": 100, "labels": ["all"]}
EVALUATE |= {"splits": "random", "probes": "ridge", "appended": ""}


def lay_out(folder: Path, copied: bool = False) -> Path:
    """Make `folder` look like the repository, `src` and `book` copied if they are to be changed."""
    for name in ("Snakefile", "src", "book", "results"):
        if copied and name in ("src", "book"):
            ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
            shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
        else:
            (folder / name).symlink_to(REPOSITORY / name)
    (folder / "_build").mkdir()
    (folder / "_build/data.txt").touch()  # what the tests marked `data` have built
    small = {"smoke": {"pretrain": RUN, "evaluate": EVALUATE}}
    (folder / "experiments.yaml").write_text(yaml.safe_dump(small))
    return folder


def snakemake(folder: Path, *arguments: str, first_on_path: str | Path = "", **options):
    """Start the pipeline there at the profile smoke, on the sources there."""
    command = [sys.executable, "-m", "snakemake", "--config", "profile=smoke", *arguments]
    one = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    folders = [first_on_path, Path(sys.executable).parent, os.environ["PATH"]]
    path = os.pathsep.join(str(each) for each in folders if each)
    environment = {**os.environ, **one, "PATH": path, "PYTHONPATH": str(folder / "src")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes, **options)


def kill(pid: int, reap: Callable[[], object]) -> None:
    """Kill a process and all that it has started, also in other sessions.

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
    _, left = psutil.wait_procs(found[1:], timeout=60)
    if alive := [one for one in left if one.status() != psutil.STATUS_ZOMBIE]:
        raise RuntimeError(f"these processes survived a kill: {alive}")
