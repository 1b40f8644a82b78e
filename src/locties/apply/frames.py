"""Embed the rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locties import month as months
from locties._util.extras import needs
from locties.apply.grid import embed_points
from locties.apply.metadata import Encoder, resolve, takes_month
from locties.apply.metadata import column_names as embedding_columns
from locties.lonlat import column_names, read

with needs("own", "locties.embed"):
    import pandas as pd

    from locties.apply.tables import (
        NO_MONTH,
        Array,
        Problems,
        check_invalid,
        complaint,
        coordinates,
        float_points,
        month_column,
        months_of,
        out_of_range,
        read_table,
        usable,
    )


def embed(
    encoder: str | Path | Encoder,
    data: Any,
    *,
    lon: str | None = None,
    lat: str | None = None,
    month: Any = None,
    invalid: str = "raise",
) -> pd.DataFrame:
    """Embed the place of each row of a table.

    Rows are embedded in chunks, so only the result takes much memory. Embeddings are not
    normalised, like the encoder's own output.

    Args:
        encoder: name of an encoder that comes with locties, folder of a saved one,
            `LocationEncoder`, or any function from lonlat (N, 2) float32 to (N, dim).
        data: a DataFrame with columns of longitude and latitude in degrees (WGS84), or the path of
            such a table; a GeoDataFrame or GeoSeries of points in any CRS; or any other input of
            `locties.lonlat.check`.
        lon: column of longitudes. By default the only one with a usual name, such as lon or
            Longitude; a geometry comes before it, unless `lon` or `lat` is given.
        lat: column of latitudes, found in the same way.
        month: for an encoder with a `time`: one month for all rows, an array of months, as for
            `locties.month.check`, or a column of months or dates. By default the only column
            called month.
        invalid: "raise" refuses a table with rows whose place or month cannot be used, and names
            the rows; "drop" drops these rows with a warning. Rows are counted from 0, without the
            header.

    Returns:
        DataFrame of float32 with columns such as melt_000. Its index is that of `data`, without
        dropped rows. ``data.join(embed(encoder, data))`` adds the columns to the table; pass
        ``how="right"`` if rows are dropped. Its `attrs` name the encoder, the sha256 of its
        weights, its licence, the CRS of the coordinates and the version of locties.
        ``examples/partitions.py`` does the same for each partition of a Dask or Ray DataFrame.

    Raises:
        ValueError: the index of `data` repeats, so a join would mix rows; or another wrong input.

    Example:
        >>> cities = pd.DataFrame({"lon": [13.4, 2.3], "lat": [52.5, 48.9]}, ["Berlin", "Paris"])
        >>> embedding = embed("melt", cities)
        >>> embedding.shape, embedding.columns[0], embedding.attrs["crs"]
        ((2, 256), 'melt_000', 'EPSG:4326')
    """
    check_invalid(invalid)
    function, metadata = resolve(encoder)
    if isinstance(data, str | Path):
        data = read_table(data)
    given = isinstance(data, pd.DataFrame | pd.Series)
    if given and not data.index.is_unique:
        again = data.index[data.index.duplicated()].tolist()[0]
        raise ValueError(
            f"the index repeats {again!r}, so a join would mix rows: pass "
            "frame.reset_index(drop=True), and join to the same"
        )
    lonlat, problems = _places(data, lon, lat)
    of_rows, wrong = _months(function, data, month, len(lonlat))
    keep = usable([*problems, *wrong], len(lonlat), invalid)
    kept = None if of_rows is None else torch.from_numpy(of_rows[keep]).long()
    values = embed_points(function, float_points(lonlat[keep]), kept)
    index = (data.index if given else pd.RangeIndex(len(lonlat)))[keep]
    columns = embedding_columns(metadata["encoder"], values.shape[1])
    result = pd.DataFrame(values, index, columns, copy=False)
    result.attrs = metadata
    return result


def _months(encoder: Encoder, data: Any, month: Any, n: int) -> tuple[Array | None, Problems]:
    """Months (n,) of the rows for an encoder that takes them, and rows without a usable one."""
    if not takes_month(encoder):
        if month is not None:
            raise ValueError(
                f"the encoder takes no month, and month is {month!r}: leave the month out"
            )
        return None, []
    if isinstance(month, pd.Series):
        if isinstance(data, pd.DataFrame) and not month.index.equals(data.index):
            raise ValueError(
                "the index of month is not that of the data, so months could go to other rows: "
                "pass month.to_numpy() if both are in the same order"
            )
        values, problems = months_of(month.to_frame("month"), "month")
        return months.read(values, n).numpy(), problems
    if month is not None and not isinstance(month, str):
        if np.ndim(month) == 0:
            months.check(month, n)  # one wrong month is no matter of rows
        values = months.read(month, n).double().cpu().numpy()
        return values, [(f"'month' {NO_MONTH}", ~np.isin(values, range(1, 13)))]
    names = column_names(data)
    if names is None:
        raise ValueError(
            f"the encoder takes a month, and {type(data).__name__} has no columns: pass month=7, "
            "or an array of months"
        )
    name = month_column(names, month)
    return months_of(
        data if isinstance(data, pd.DataFrame) else pd.DataFrame({name: data[name]}), name
    )


def lonlat_of(data: Any, lon: str | None = None, lat: str | None = None) -> Tensor:
    """Checked coordinates (N, 2) float32 of every row of `data`, read as `embed` reads it.

    Example:
        >>> lonlat_of(pd.DataFrame({"latitude": [52.5], "longitude": [13.5]}))
        tensor([[13.5000, 52.5000]])
    """
    lonlat, problems = _places(data, lon, lat)
    if message := complaint(problems, len(lonlat)):
        raise ValueError(
            f"{message}. Correct them, or drop them, with frame.dropna() if they are missing"
        )
    return float_points(lonlat)


def _places(data: Any, lon: str | None, lat: str | None) -> tuple[Array, Problems]:
    """Coordinates (N, 2) float64, and the rows in which they cannot be used."""
    if hasattr(data, "map_partitions") or hasattr(data, "map_batches"):
        raise ValueError(
            f"{type(data).__name__} is in partitions: embed each, with frame.map_partitions("
            "lambda part: part.join(locties.embed(encoder, part))), in Ray map_batches(..., "
            "batch_format='pandas')"
        )
    if isinstance(data, pd.DataFrame) or hasattr(data, "to_crs"):
        return coordinates(data, lon, lat)
    lonlat = read(data, lon, lat).detach().cpu().double().numpy()
    return lonlat, out_of_range(
        lonlat,
        np.zeros(len(lonlat), dtype=bool),
        swap="pass array[:, ::-1]",
        project="take them to degrees, with pyproj.Transformer.from_crs(theirs, 4326, "
        "always_xy=True)",
    )
