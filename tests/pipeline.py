"""The pipeline in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

from locties.notebook import REPOSITORY


def lay_out(folder: Path) -> Path:
    """Make `folder` look like the repository; the pipeline writes its `_build` there."""
    for name in ("Snakefile", "experiments.yaml", "data_manifest.yaml", "src", "book", "results"):
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
