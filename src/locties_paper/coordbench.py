"""CoordBench's linear probe, on the two of its datasets that the open tier has.

``python -m locties_paper.coordbench`` scores encoders and writes ``results/coordbench.parquet``.
The rows that CoordBench published are in ``results/coordbench_published.csv``. The probe chooses
its penalty by the very folds whose scores it reports, so all scores are a little too high.

CoordBench itself runs an encoder of locties by this class:

```python
from torchgeo_bench.coordbench import LocationEncoder

from locties_paper import coordbench


class Locties(LocationEncoder):
    def __init__(self, encoder: str = "best", **options) -> None:
        super().__init__(**options)
        self.encoder = encoder

    def _encode(self, lon, lat, year):
        return coordbench.encode(self.encoder, lon, lat, year)
```

Source: torchgeo-bench, https://github.com/torchgeo/torchgeo-bench, rows of the method ``linear`` of
``results/coordbench-results.csv`` at commit 0b1ae3b.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from locties.apply.metadata import Encoder
from locties.data import public
from locties.evaluation.protocol import checked_embedding
from locties_paper import results

Array = NDArray[np.float64]

DATASETS: dict[str, Callable[[], tuple[Tensor, Array]]] = {
    "satclip-air-temp": partial(public.stations, "temperature"),
    "california-housing": public.house_values,
}
SPLITS = ("random", "spatial")
ENCODERS = (
    *("small", "base", "large", "large+harmonics_10", "large+raw+harmonics_10"),
    *("best", "best+harmonics_10", "melt", "salt", "clip"),
    *("raw", "raw+harmonics_10", "harmonics_10", "harmonics_40"),
)
PUBLISHED = results.PUBLISHED_ROWS / "coordbench_published.csv"

FOLDS = 5
CELL = 10.0  # degrees
PENALTIES = 10.0 ** np.arange(-4, 6.5, 0.5)


def encode(
    encoder: str | Path | Encoder, lon: Array, lat: Array, year: Array | None = None
) -> NDArray[np.float32]:
    """Embeddings (N, d) of places, in the form that CoordBench asks for.

    The year is not used: the encoders of locties know places only.
    """
    return checked_embedding(encoder, np.stack([lon, lat], axis=1)).astype(np.float32)


def sincos(lonlat: Tensor) -> Tensor:
    """CoordBench's baseline (N, 4): sine and cosine of latitude and of longitude."""
    lon, lat = lonlat.double().deg2rad().T
    return torch.stack([lat.sin(), lat.cos(), lon.sin(), lon.cos()], dim=1).float()


def folds(lonlat: Tensor, split: str) -> NDArray[np.int64]:
    """The fold (N,) of each place: dealt out one by one, or by whole cells of 10 degrees."""
    rng = np.random.default_rng(0)
    if split == "random":
        fold = np.empty(len(lonlat), dtype=np.int64)
        fold[rng.permutation(len(lonlat))] = np.arange(len(lonlat)) % FOLDS
        return fold
    column, row = np.floor(lonlat.numpy() / CELL).astype(np.int64).T
    cells, cell = np.unique(np.stack([row, column], axis=1), axis=0, return_inverse=True)
    return (rng.permutation(len(cells)) % FOLDS)[cell]


def linear_probe(x: NDArray[Any], y: Array, fold: NDArray[np.int64]) -> float:
    """R² of ridge on held-out folds: the mean over folds, at the penalty with the highest mean.

    Features (N, d) are standardised on the training rows. The constant is penalised too, as in
    the published rows; later versions of CoordBench leave it free.
    """
    scores = [_scores(x, y, fold == held_out) for held_out in np.unique(fold)]
    return float(np.mean(scores, axis=0).max())


def _scores(x: NDArray[Any], y: Array, test: NDArray[np.bool_]) -> Array:
    """R² (P,) on the test rows for each penalty."""
    learnt = x[~test].astype(np.float64)
    mean, deviation = learnt.mean(0), np.maximum(learnt.std(0, ddof=1), 1e-6)
    known, new = (
        np.concatenate([(rows - mean) / deviation, np.ones((len(rows), 1))], axis=1)
        for rows in (learnt, x[test])
    )
    values, vectors = np.linalg.eigh(known.T @ known)
    weights = (vectors.T @ (known.T @ y[~test]))[:, None] / (values[:, None] + PENALTIES)
    predicted, truth = new @ (vectors @ weights), y[test, None]
    left = ((truth - predicted) ** 2).sum(0) / ((truth - truth.mean()) ** 2).sum()
    return np.asarray(1 - left)


def rows(encoder: str | Encoder, name: str) -> Iterator[dict[str, Any]]:
    """The scores of one encoder on both datasets and splits, in the columns of the published."""
    for dataset, read in DATASETS.items():
        lonlat, target = read()
        embedding = encode(encoder, *lonlat.T.numpy())
        for split in SPLITS:
            r2 = linear_probe(embedding, target, folds(lonlat, split))
            yield {"encoder": name, "dataset": dataset, "split": split, "r2": r2}


def main() -> None:
    """Score encoders from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/coordbench.parquet"))
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS))
    options = parser.parse_args()
    asked = {"sincos": sincos} | {name: name for name in options.encoders}
    table = pd.DataFrame(
        row for name, encoder in tqdm(asked.items()) for row in rows(encoder, name)
    )
    results.write(table, options.output, {"encoders": options.encoders})
    print(table.pivot_table("r2", "encoder", ["dataset", "split"], sort=False).round(3))


if __name__ == "__main__":
    main()
