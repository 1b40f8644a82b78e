"""Put trained encoders into the package: ``python -m locties_paper.publish NAME=RUN...``.

RUN is the folder of a run, with ``encoder``, ``settings.json`` and ``history.parquet``. Then score
the encoders and write their cards:

    python -m locties_paper.open_tasks
    python -m locties_paper.figures.cards NAME...
"""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

import locties
from locties import maps
from locties.apply.metadata import takes_month
from locties.data.manifest import manifest_hash
from locties.saved import PUBLISHED
from locties_paper.figures.cards import sources
from locties_paper.site.notebook import REPOSITORY, commit

PICTURE = REPOSITORY / "book" / "_static" / "embedding.png"


def publish(runs: Mapping[str, str | Path], to: Path = PUBLISHED, picture: Path = PICTURE) -> None:
    """Save the encoders of runs by name as int8, with their origin; draw the first without a month.

    Raises ValueError, before anything is saved, if the code was changed and not committed.
    """
    if commit().endswith("-dirty"):
        raise ValueError(f"the code of {commit()} is not committed: commit it, then publish")
    ready = {name: described(name, Path(run)) for name, run in runs.items()}
    for name, encoder in ready.items():
        encoder.save(to / name, as_int8=True)
    for drawn in [encoder for encoder in ready.values() if not takes_month(encoder)][:1]:
        figure = maps.draw_rgb(maps.embedding_rgb(locties.embed_grid(drawn, 0.5)))
        figure.savefig(picture, dpi=120)


def described(name: str, run: Path) -> locties.LocationEncoder:
    """The encoder of a run, with the run as its origin."""
    settings = json.loads((run / "settings.json").read_text())
    del settings["encoder"]  # config.json has it too
    last = pd.read_parquet(run / "history.parquet").sort_values("step").iloc[-1]
    licences = dict.fromkeys(source.licence for source in sources(settings["modalities"]))
    encoder = locties.load(run / "encoder")
    encoder.origin = {
        "name": name,
        "licence": "MIT; trained on data under terms of their own: " + "; ".join(licences),
        "run": run.name,
        **settings,
        "steps": int(last["step"]),
        "flops": int(last["flops"]),
        "code": f"{locties.__version__}+{commit()}",
        "data": manifest_hash(),
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
    }
    return encoder


if __name__ == "__main__":
    publish(dict(pair.split("=", 1) for pair in sys.argv[1:]))
