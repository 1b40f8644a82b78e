"""Embed a table that is too large for one machine: each partition by itself, on a Dask cluster.

Ray takes the same function:
``ray.data.read_parquet("places").map_batches(with_embedding, batch_format="pandas")``.
"""

from tempfile import TemporaryDirectory

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster

import locties


def with_embedding(part: pd.DataFrame, encoder: str = "melt") -> pd.DataFrame:
    return part.join(locties.embed(encoder, part))


def places(n: int = 20_000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"lon": rng.uniform(-180, 180, n), "lat": rng.uniform(-60, 80, n)})


if __name__ == "__main__":
    with (
        TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),  # or Client("tcp://scheduler:8786"), with paths that its workers can read
    ):
        dd.from_pandas(places(), npartitions=4).to_parquet(f"{folder}/places")
        table = dd.read_parquet(f"{folder}/places").map_partitions(with_embedding)
        table.to_parquet(f"{folder}/embedded")
        embedded = dd.read_parquet(f"{folder}/embedded")
        print(f"{len(embedded)} places in {embedded.npartitions} partitions")
        first = embedded.head(3)
    here = locties.embed("melt", first[["lon", "lat"]])
    difference = np.abs(first[here.columns] - here).max(axis=None)
    print(f"largest difference from this process: {difference:.4f}")
