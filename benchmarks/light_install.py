"""Time and size of a fresh install without extras, and whether it can embed a place.

    python benchmarks/light_install.py --torch torch==2.13.0 --output results/light_install.parquet

This makes an environment in a temporary folder, installs locties there with pip (without pip's
cache), loads an encoder and embeds a place. Without ``--torch``, pip chooses the build of torch; on
Linux that may include several GB of CUDA.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
import venv
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).parents[1]
USE = """
import json, sys, time
before = set(sys.modules)
import locties
alone = sorted({name.partition(".")[0] for name in set(sys.modules) - before} & {"torch", "numpy"})
import torch
start = time.process_time()
encoder = locties.load("melt")
taken = time.process_time() - start
shape = list(encoder([[13.4, 52.5]]).shape)
print(json.dumps({"import_brings": ",".join(alone), "load_seconds": taken, "shape": str(shape)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", help="a requirement for torch, such as torch==2.13.0")
    parser.add_argument("--output", type=Path, help="a Parquet file for the table")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        packages = Path(
            _said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        )
        empty, start = _megabytes(packages), time.perf_counter()
        asked = [chosen.torch] if chosen.torch else []
        _said(python, "-m", "pip", "install", "--no-cache-dir", "--quiet", *asked, str(REPOSITORY))
        row = {
            "seconds": time.perf_counter() - start,
            "megabytes": _megabytes(packages) - empty,
            "torch_megabytes": _megabytes(packages / "torch"),
            "packages": len(json.loads(_said(python, "-m", "pip", "list", "--format=json"))) - 1,
            **json.loads(_said(python, "-c", USE)),
            "torch": _said(python, "-c", "import torch; print(torch.__version__)").strip(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        }
    table = pd.DataFrame([row])
    print(table.T.to_string(header=False))
    if chosen.output:
        table.to_parquet(chosen.output, index=False)


def _said(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True, cwd="/"
    )
    return done.stdout


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    main()
