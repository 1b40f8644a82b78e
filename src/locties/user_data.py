"""Your own data: a table of points becomes a `Task`, a table or raster a `Modality`.

Files are local; nothing here opens a connection.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import needs

with needs("data,own,study", "reading your own data"):
    import pandas as pd

    from locties._util.registry import unknown
    from locties.apply.rasters import Pixels, open_raster
    from locties.apply.tables import (
        TABLES,
        Array,
        Problems,
        any_of,
        check_invalid,
        column_of,
        complaint,
        coordinates,
        float_points,
        numbers_of,
        read_table,
        suffix_of,
        usable,
    )
    from locties.data import sampling
    from locties.evaluation.tasks import KINDS, Task
    from locties.lonlat import CELL_DEGREES, cell_index, check, usual_columns
    from locties.modalities import EMBEDDED, MODALITIES, Chosen
    from locties.modality import PATCH, Modality, Standardise, patch_encoder, profile_encoder


def read_task(
    source: Any,
    target: str,
    *,
    lon: str | None = None,
    lat: str | None = None,
    kind: str | None = None,
    unit: str = "",
    name: str | None = None,
    invalid: str = "raise",
) -> Task:
    """Make a task from a table: places, and what is to be predicted there.

    Args:
        source: path of a CSV, TSV, Parquet, GeoParquet, GeoJSON, GeoPackage or Shapefile; or a
            pandas DataFrame; or a GeoDataFrame. Points in any CRS are taken to WGS84; a source
            with geometry needs no columns of coordinates.
        target: the column to predict.
        lon: column of longitudes, degrees (WGS84). By default the only one with a usual name,
            such as lon or Longitude. Not used where there is geometry.
        lat: column of latitudes, likewise.
        kind: "regression" or "classification". By default fractions are regression, and text,
            categories and truth values classification. Whole numbers can be counts or codes, also
            where a missing value has made them floats: `kind` has to be given.
        unit: of a regression target.
        name: of the task; by default `target`.
        invalid: "raise" refuses rows without usable coordinates or target, naming them; "drop"
            leaves them out with a warning. Rows are counted from 0, without the header.

    Returns:
        The task. Points at the same place are kept, with a warning: random folds put some of them
        into training and some into the test.

    Example:
        >>> soil = pd.DataFrame({"lon": [13.4, 2.3], "lat": [52.5, 48.9], "ph": [6.1, 7.4]})
        >>> task = read_task(soil, "ph")
        >>> task.kind, task.target
        ('regression', array([6.1, 7.4]))
    """
    if kind is not None and kind not in KINDS:
        raise unknown("kind of task", kind, KINDS)
    check_invalid(invalid)
    frame = read_table(source)
    lonlat, problems = coordinates(frame, lon, lat)
    column = column_of(frame, target)
    values, unusable = _target(column, target, kind or _kind(column, target))
    keep = _keep(lonlat, problems + unusable, invalid)
    lonlat, values = lonlat[keep], values[keep]
    repeated = len(lonlat) - len(np.unique(check(lonlat).numpy(), axis=0))
    if repeated:
        warnings.warn(
            f"{repeated} of {len(lonlat)} rows stand where another one does: under random folds "
            "a test point then has its own place among the labels; average them, or judge by "
            "splits='block'",
            stacklevel=2,
        )
    regression = np.issubdtype(values.dtype, np.floating)
    return Task(
        name or target,
        torch.from_numpy(lonlat),
        values,
        "regression" if regression else "classification",
        unit,
    )


def read_modality(
    source: Any,
    *,
    name: str,
    columns: Sequence[str] | None = None,
    bands: Sequence[int] | None = None,
    patch: int | None = None,
    lon: str | None = None,
    lat: str | None = None,
    beside: Sequence[str | Modality] = EMBEDDED,
    invalid: str = "raise",
    samples: int = 20_000,
    seed: int = 0,
    validation: int = 1024,
) -> Modality:
    """Make a modality from a table or a raster, to pretrain with.

    Modalities are unpaired: a cell of about 50 km belongs to one of them, or to validation. So
    samples in the cells of the modalities that this one is trained `beside` are left out. By
    default these are all of the embedded tier, which leaves a sixth of the land outside validation
    (the cells of night lights). Name only those that you train with to keep more: beside two of
    them, four sixths. ``beside=()`` keeps every cell outside validation, which is right for a
    modality trained alone; together with another one the run is not unpaired, and `pretrain` warns.

    Args:
        source: a table, as for `read_task`; or path of a raster, such as a GeoTIFF, that names no
            other file; or an xarray DataArray (so NetCDF, HDF5 and Zarr), of two dimensions or
            with bands as a third.
        name: of the modality.
        columns: numeric columns of a table, the profile; each is standardised. By default all
            but coordinates and row numbers; leave out ids.
        bands: of a raster, counted from 1; by default all but an alpha band.
        patch: 16 for patches of 16x16 pixels of the raster's own grid, none of them nodata; by
            default the profile of the bands at one pixel.
        lon: column of longitudes of a table, as for `read_task`; so `lat`.
        lat: column of latitudes.
        beside: names in `locties.data.sampling.OWNERS`, or `Modality` objects, that it shares no
            cell with.
        invalid: of a table, as for `read_task`; a missing value in any of `columns` counts.
        samples: at most as many; of a raster, at centres of pixels with data, uniform by area.
        seed: of the draw.
        validation: at most as many samples in the validation cells.

    Returns:
        The modality. Its validation is None without a sample in a validation cell.
        ``locations="fresh"`` draws again from the same samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> soil = pd.DataFrame(rng.uniform([0, 40, 4], [20, 55, 9], (500, 3)),
        ...                     columns=["lon", "lat", "ph"])
        >>> len(read_modality(soil, name="soil").lonlat)
        85
        >>> len(read_modality(soil, name="soil", beside=["climate", "relief"]).lonlat)
        343
    """
    check_invalid(invalid)
    if name in MODALITIES:
        raise ValueError(f"name={name!r} is a modality of locties: choose another name")
    for what, number in {"samples": samples, "validation": validation}.items():
        if number < 1:
            raise ValueError(f"{what}={number}: pass at least 1")
    beside = [beside] if isinstance(beside, str) else list(beside)
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    if _is_raster(source):
        if columns is not None:
            raise ValueError("columns are those of a table: choose bands of a raster")
        if patch not in (None, PATCH):
            raise ValueError(f"patch={patch}: the patch encoder reads {PATCH} pixels; or pass None")
        with open_raster(source) as raster:
            pixels = Pixels(raster, bands, patch, rng)
            training = pixels.draw(samples, lambda points: _free(points, beside))
            if pixels.tried and not len(training[0]):
                raise ValueError(
                    f"modality {name!r}: of {pixels.tried} pixels in its cells none has "
                    + (
                        f"{PATCH}x{PATCH} pixels with data around it: leave patch out, to read "
                        "single pixels"
                        if patch
                        else "data in every band: choose other bands"
                    )
                )
            held_out = pixels.draw(validation, _is_validation)
    else:
        if bands is not None or patch is not None:
            raise ValueError("bands and patch are those of a raster: choose columns of a table")
        points, rows = _profiles(read_table(source), columns, lon, lat, invalid)
        order = torch.from_numpy(rng.permutation(len(points)))
        points, rows = points[order], rows[order]

        def among(inside: Tensor, n: int) -> tuple[Tensor, Tensor]:
            return points[inside][:n], rows[inside][:n]

        training = among(_free(points, beside), samples)
        held_out = among(_is_validation(points), validation)
    if not len(training[0]):
        names = [other if isinstance(other, str) else other.name for other in beside]
        raise ValueError(
            f"modality {name!r} has no sample left outside the cells of "
            f"{', '.join([*names, 'validation'])}: in beside, name only the modalities that you "
            "train with; beside=() keeps all cells but validation's"
        )
    encoder = patch_encoder if patch else profile_encoder
    standardise = Standardise(training[1][:4096])
    make = encoder(training[1].shape[1], standardise)

    def modality(points: Tensor, kept: Tensor, held_out: Modality | None = None) -> Modality:
        index = torch.arange(len(points))
        return Modality(name, points, Chosen(points, kept, index), make, held_out)

    return modality(*training, modality(*held_out) if len(held_out[0]) else None)


def _free(points: Tensor, beside: Sequence[str | Modality]) -> Tensor:
    """Which points (N, 2) lie in no cell of validation or of another modality: (N,) bool."""
    owners = sampling.owner(points)
    free = owners != sampling.VALIDATION
    for other in beside:
        other_name = other if isinstance(other, str) else other.name
        if other_name in sampling.OWNERS:
            free &= owners != sampling.OWNERS.index(other_name)
        elif isinstance(other, str):
            raise unknown("modality in beside", other, sampling.OWNERS)
        if not isinstance(other, str):
            taken = cell_index(other.lonlat.cpu(), CELL_DEGREES)
            free &= ~torch.isin(cell_index(points, CELL_DEGREES), taken)
    return free


def _is_validation(points: Tensor) -> Tensor:
    return sampling.owner(points) == sampling.VALIDATION


def _kind(column: Any, name: str) -> str:
    kinds = pd.api.types
    if kinds.is_object_dtype(column) or kinds.is_string_dtype(column):
        text = column.dropna().astype(str)
        numbers = pd.to_numeric(text.str.replace(",", "."), errors="coerce").notna()
        if numbers.mean() > 0.5:
            raise ValueError(
                f"column {name!r} holds numbers as text, such as {text[numbers].iloc[0]!r}"
                + (f" beside {text[~numbers].iloc[0]!r}" if not numbers.all() else "")
                + ": read it with pandas.read_csv(path, decimal=',', na_values=[...]), or pass "
                "kind='classification'"
            )
    if not kinds.is_numeric_dtype(column) or kinds.is_bool_dtype(column):
        return "classification"
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = values[np.isfinite(values)]
    if len(values) and (values == values.round()).all():
        raise ValueError(
            f"column {name!r} holds whole numbers ({len(np.unique(values))} different ones), "
            "which can be measurements or codes of classes: pass kind='regression' or "
            "kind='classification'"
        )
    return "regression"


def _target(column: Any, name: str, kind: str) -> tuple[Array, Problems]:
    """Values (N,): float64 of a regression; text or int64 of a classification."""
    if kind == "regression":
        values, problems = numbers_of(column, name)
        unread = any_of(problems, len(values))
        return values, [
            *problems,
            (f"{name!r} is missing or not finite", ~np.isfinite(values) & ~unread),
        ]
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or str(column.dtype) == "geometry":
        raise ValueError(f"column {name!r} is of type {column.dtype}, not classes")
    missing = column.isna().to_numpy()
    numeric = kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column)
    if numeric:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = ~np.isfinite(values)
        if not (values[~missing] == values[~missing].round()).all():
            raise ValueError(
                f"column {name!r} holds fractions, not codes of classes: pass "
                "kind='regression', or cut it into classes with pandas.cut"
            )
    problems = [
        (
            f"{name!r} is missing (empty, NA or null; to read them as text, pass "
            "pandas.read_csv(path, keep_default_na=False))",
            missing,
        )
    ]
    if numeric:
        return np.where(missing, 0, values).astype(np.int64), problems
    return column.astype(object).map(str).to_numpy(dtype=str), problems


def _keep(lonlat: Array, problems: Problems, invalid: str) -> Array:
    """Rows that can be used, (N,) bool; raises or warns at the others."""
    n = len(lonlat)
    if not n:
        raise ValueError("the table has no row")
    if any_of(problems, n).all():
        raise ValueError(f"{complaint(problems, n)}. No row is left")
    return usable(problems, n, invalid)


def _profiles(
    frame: Any, columns: Sequence[str] | None, lon: str | None, lat: str | None, invalid: str
) -> tuple[Tensor, Tensor]:
    """Usable rows: lonlat (N, 2) and their columns (N, C), float32."""
    lonlat, problems = coordinates(frame, lon, lat)
    if columns is None:
        numeric = frame.select_dtypes(["number", "bool"]).columns
        row_numbers = ("", "Unnamed: 0")  # what DataFrame.to_csv makes of an index
        others = {lon, lat, *row_numbers, *itertools.chain(*usual_columns(frame.columns))}
        columns = [name for name in numeric if name not in others]
        if not columns:
            raise ValueError("the table has no numeric column beside the coordinates")
    elif isinstance(columns, str) or not len(columns):
        raise ValueError(f"columns={columns!r}: give a list of at least one name")
    values = []
    for name in columns:
        column = column_of(frame, name)
        if pd.api.types.is_bool_dtype(column):
            column = column.astype("Float64")
        if not pd.api.types.is_numeric_dtype(column) and isinstance(
            column.dtype, pd.CategoricalDtype
        ):
            raise ValueError(f"column {name!r} holds categories: take pandas.get_dummies(frame)")
        numbers, unread = numbers_of(column, name)
        values.append(numbers)
        absent = ~np.isfinite(numbers) & ~any_of(unread, len(numbers))
        problems += [*unread, (f"{name!r} is missing or not finite", absent)]
    keep = _keep(lonlat, problems, invalid)
    return float_points(lonlat[keep]), torch.from_numpy(np.stack(values, axis=1)[keep]).float()


def _is_raster(source: Any) -> bool:
    if isinstance(source, str | Path):
        return suffix_of(source) not in TABLES
    if type(source).__module__.startswith("xarray."):
        if not hasattr(source, "dtype"):
            raise ValueError("a Dataset: pass one DataArray, as dataset['name'] or .to_array()")
        return True
    return False
