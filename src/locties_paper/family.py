"""Train the encoders to use: ``python -m locties_paper.family --output FOLDER``.

There are three sizes, and `seasonal`, which takes a month.

The recipe is the default of the sweep ``recipe`` in `locties_paper.sweeps`, which was chosen on
pilot places alone. The networks here have two layers in place of its three, and see more pairs. A
run takes up to half an hour on one thread, and resumes if it is started again. Then publish them:

    python -m locties_paper.publish large=FOLDER/large base=FOLDER/base ...
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import locties
from locties import LocationEncoder
from locties.evaluation import Task
from locties.modalities import MONTHLY
from locties_paper.results import scores
from locties_paper.sweeps import RECIPE, SWEEPS

SEED = 1
EPOCHS = 20  # a run that was stopped goes on from the end of the last


@dataclass(frozen=True)
class Size:
    """One encoder of the family: the options of its grid and network, and its training."""

    grid: dict[str, Any]
    network: dict[str, Any]
    pairs: int
    modalities: Sequence[str] = ("rasters",)
    time: str | None = None

    def start(self) -> LocationEncoder:
        """The encoder before training."""
        options = {"feature_options": self.grid, "network_options": self.network}
        return LocationEncoder(**{**RECIPE, **options}, seed=SEED, time=self.time)


SIZES = {
    "small": Size(
        {"levels": 10, "finest": 256, "rows": 2**12}, {"hidden": 128, "layers": 2}, 4_000_000
    ),
    "base": Size(
        {"levels": 12, "finest": 512, "rows": 2**15}, {"hidden": 256, "layers": 2}, 8_000_000
    ),
    "large": Size(
        {"levels": 14, "finest": 1024, "rows": 2**17}, {"hidden": 256, "layers": 2}, 16_000_000
    ),
    "seasonal": Size(
        {"levels": 10, "finest": 256, "rows": 2**12},
        {"hidden": 256, "layers": 2},
        8_000_000,
        MONTHLY,
        "month",
    ),
}


def train(name: str, output: Path) -> None:
    """Train an encoder of the family into a folder of its name, unless it is there."""
    size, folder = SIZES[name], output / name
    if (folder / "encoder").is_dir():
        return
    recipe = SWEEPS["recipe"].contenders["recipe"]
    arguments = recipe.arguments(1.0, SEED) | {
        "modalities": list(size.modalities),
        "pairs": size.pairs,
        "epochs": EPOCHS,
    }
    run = locties.pretrain(
        **arguments, encoder=size.start(), checkpoint=folder / "checkpoint", device="cpu"
    )
    run.save(folder)
    shutil.rmtree(folder / "checkpoint")


def cost_of_int8(name: str, task: Task) -> float:
    """The largest change of a score on a task when an encoder is stored as int8."""
    whole = locties.load(name)
    with tempfile.TemporaryDirectory() as folder:
        whole.save(Path(folder) / name, as_int8=True)
        stored = locties.load(Path(folder) / name)
    before, after = (
        scores(locties.evaluate(encoder, [task], labels="all"), tier=task.tier)["value"].to_numpy()
        for encoder in (whole, stored)
    )
    return float(abs(before - after).max())


def main() -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SIZES)}; all")
    parser.add_argument("--output", type=Path, default=Path("_build/family"))
    given = parser.parse_args()
    if unknown := set(given.names) - SIZES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SIZES)}")
    for name in given.names or SIZES:
        train(name, given.output)


if __name__ == "__main__":
    main()
