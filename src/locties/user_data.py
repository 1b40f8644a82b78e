"""Your own data: a table of points becomes a `Task`; a table, raster or features a `Modality`.

Files are local; nothing here opens a connection.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import needs

with needs("data,own,study", "reading your own data"):
    import pandas as pd

    from locties._util.files import DataError
    from locties._util.registry import unknown
    from locties.apply.columns import (
        check_classes,
        codes_for_missing,
        kind_of,
        measured_columns,
        measurements,
        target_values,
    )
    from locties.apply.pixels import Pixels
    from locties.apply.rasters import open_raster
    from locties.apply.tables import (
        INVALID,
        TABLES,
        Array,
        Problems,
        any_of,
        check_invalid,
        column_of,
        complaint,
        coordinate_columns,
        coordinates,
        existing,
        float_points,
        has_points,
        month_column,
        months_of,
        read_table,
        suffix_of,
        swapping,
        usable,
        usual_months,
    )
    from locties.data import embedded, sampling
    from locties.data.frozen_folder import ARRAY, MANIFEST, Mapped, read_features
    from locties.evaluation.tasks import Task, check_kind
    from locties.lonlat import CELL_DEGREES, cell_index, check
    from locties.modalities import EMBEDDED, MODALITIES, Chosen
    from locties.modality import (
        FITTED,
        PATCH,
        Modality,
        Samples,
        Standardise,
        patch_encoder,
        profile_encoder,
    )

_FEW_PLACES = 3  # fewer say nothing about where all lie
_OFFSHORE = 0.3  # degrees: no land within this distance
# Shares of places at sea as they are, and on land if swapped, from which columns seem swapped.
_FAR_AT_SEA, _NEARLY_ALL = 0.1, 0.9  # far from land
_AT_SEA, _MOST = 0.35, 0.8
_MORE_ON_LAND = 0.4  # share of places that are on land only if swapped


def read_task(
    source: Any,
    target: str,
    *,
    lon: str | None = None,
    lat: str | None = None,
    month: str | None = None,
    kind: str | None = None,
    unit: str = "",
    name: str | None = None,
    invalid: str = "raise",
) -> Task:
    """Make a task from a table: places, and what to predict there.

    Args:
        source: path of a CSV, TSV, Parquet, GeoParquet, GeoJSON, GeoPackage or Shapefile; or a
            pandas DataFrame; or a GeoDataFrame. Points in any CRS are converted to WGS84. A source
            with a geometry needs no coordinate columns.
        target: the column to predict.
        lon: column of longitudes, degrees (WGS84). By default the only one with a usual name, such
            as lon or Longitude; a geometry comes before it, unless `lon` or `lat` is given.
        lat: column of latitudes, found in the same way.
        month: column of months, 1 to 12, or of dates, for an encoder that takes a month; "" finds
            the only column called month. By default the task has no months.
        kind: "regression" or "classification". By default fractions are regression; text,
            categories and booleans are classification. Whole numbers can be counts or codes, even
            if a missing value turned them into floats: pass `kind`.
        unit: unit of a regression target.
        name: name of the task; by default `target`.
        invalid: "raise" refuses a table with rows whose coordinates or target cannot be used, and
            names the rows; "drop" drops these rows with a warning. So are rows with a number that
            seems to mean a missing value, such as -9999; "keep" takes it as measured, and refuses
            the other rows. Rows are counted from 0, without the header.

    Returns:
        The task. Points at the same place are kept, with a warning: random folds can put one into
        training and another into the test.

    Example:
        >>> soil = pd.DataFrame({"lon": [13.4, 2.3], "lat": [52.5, 48.9], "ph": [6.1, 7.4]})
        >>> task = read_task(soil, "ph")
        >>> task.kind, task.target
        ('regression', array([6.1, 7.4]))
    """
    if kind is not None:
        check_kind(kind)
    check_invalid(invalid, INVALID)
    frame = read_table(source)
    lonlat, problems = coordinates(frame, lon, lat)
    skip = any_of(problems, len(lonlat))
    warn_if_swapped(lonlat[~skip], swapping(frame, lon, lat))
    months = None
    if month is not None:
        months, without = months_of(frame, month_column([*map(str, frame.columns)], month or None))
        problems = problems + without
    kind = kind or kind_of(frame, target, skip)
    values, unusable = target_values(frame, target, kind, skip)
    problems = problems + unusable
    if kind == "regression":
        usual = np.where(any_of(problems, len(lonlat)), np.nan, values)
        problems += codes_for_missing(target, usual, invalid)
    keep = _keep(lonlat, problems, invalid)
    lonlat, values = lonlat[keep], values[keep]
    if kind == "regression":
        if (values == values[0]).all():
            raise ValueError(
                f"column {target!r} holds {values[0]:g} in every row: name a target that varies"
            )
    else:
        check_classes(target, values)
    repeated = len(lonlat) - len(np.unique(check(lonlat).numpy(), axis=0))
    if repeated:
        warnings.warn(
            f"{repeated} of {len(lonlat)} rows are at the place of another row. Scores of random "
            "folds are too high then, since a place is tested with its own label; scores of blocks "
            "are not. To have one row for each place, average them",
            stacklevel=2,
        )
    of_rows = None if months is None else torch.from_numpy(months[keep])
    return Task(name or target, torch.from_numpy(lonlat), values, kind, unit, month=of_rows)


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
    """Make a modality from a table, a raster or a folder of frozen features, to pretrain with.

    Modalities are unpaired: a cell of about 50 km belongs to one of them, or to validation. So
    samples are dropped if they lie in the cells of the modalities in `beside`. By default these are
    the five of `locties.modalities.EMBEDDED`; about a sixth of the land outside validation is left
    (the cells of night lights, of temperature and of texts). To keep more, name only the modalities
    that you train with: with two of them, four sixths are left. ``beside=()`` keeps every cell
    outside validation. This is right for a modality trained alone; with another one the run is not
    unpaired, and `pretrain` warns.

    Args:
        source: a table, as for `read_task`; or the path of a raster, such as a GeoTIFF, that refers
            to no other file; or an xarray DataArray (for NetCDF, HDF5 and Zarr) with two
            dimensions, or with bands as a third; or a folder that ``locties features`` wrote, whose
            features are read batch by batch and standardised.
        name: name of the modality.
        columns: the numeric columns of a table that form the profile; each is standardised. By
            default all but coordinates, row numbers and ids.
        bands: bands of a raster, counted from 1; by default all but an alpha band.
        patch: 16 for patches of 16x16 pixels of the raster's own grid, without nodata; by default a
            sample is the profile of the bands at one pixel.
        lon: column of longitudes of a table, as for `read_task`.
        lat: column of latitudes.
        beside: names in `locties.data.sampling.OWNERS`, or `Modality` objects, with which this one
            shares no cell.
        invalid: as for `read_task`; a row of a table with a missing value in any of `columns`
            cannot be used.
        samples: largest number of samples; those of a raster are at the centres of pixels with
            data, uniform by area.
        seed: determines the draw.
        validation: largest number of samples in the validation cells.

    Returns:
        The modality. Its validation is None if no sample lies in a validation cell.
        ``locations="fresh"`` draws again from the same samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> soil = pd.DataFrame(rng.uniform([0, 40, 4], [20, 55, 9], (500, 3)),
        ...                     columns=["lon", "lat", "ph"])
        >>> len(read_modality(soil, name="soil").lonlat)
        118
        >>> len(read_modality(soil, name="soil", beside=["rain", "relief"]).lonlat)
        357
    """
    check_invalid(invalid, INVALID)
    kind = source_kind(source)
    # Features may take the place of the modality "text", as the paper's texts would.
    if name in MODALITIES and kind != "features":
        if isinstance(source, str | Path):
            existing(source)  # a misspelt folder is told from a file
        raise ValueError(f"name={name!r} is a modality of locties: choose another name")
    for what, number in {"samples": samples, "validation": validation}.items():
        if number < 1:
            raise ValueError(f"{what}={number}: pass at least 1")
    beside = [beside] if isinstance(beside, str) else list(beside)
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    if kind == "raster":
        if columns is not None or lon or lat:
            raise ValueError("a raster has no columns, lon or lat: leave them out, or pass bands")
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
        parts = [(points, _all(points, rows)) for points, rows in (training, held_out)]
    elif kind == "features":
        given = {"columns": columns, "bands": bands, "patch": patch, "lon": lon, "lat": lat}
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option}={value!r}: a folder of features has none; leave it out")
        parts = _features(source, beside, samples, validation, rng)
    else:
        if bands is not None or patch is not None:
            raise ValueError("a table has no bands or patches: pass columns")
        points, rows = _profiles(read_table(source), columns, lon, lat, invalid)
        order = torch.from_numpy(rng.permutation(len(points)))
        points, rows = points[order], rows[order]

        def among(inside: Tensor, n: int) -> tuple[Tensor, Samples]:
            return points[inside][:n], _all(points[inside][:n], rows[inside][:n])

        parts = [among(_free(points, beside), samples), among(_is_validation(points), validation)]
    (places, content), (held_places, held_content) = parts
    if not len(places):
        names = [other if isinstance(other, str) else other.name for other in beside]
        raise ValueError(
            f"modality {name!r} has no sample left outside the cells of "
            f"{', '.join([*names, 'validation'])}: add samples elsewhere, or train with fewer "
            "modalities. In Python, beside=() keeps all cells but validation's"
        )
    encoder = patch_encoder if patch else profile_encoder
    first = content[torch.arange(min(FITTED, len(content)))]
    make = encoder(first.shape[1], Standardise(first))
    validated = Modality(name, held_places, held_content, make) if len(held_places) else None
    return Modality(name, places, content, make, validated)


def _all(points: Tensor, rows: Tensor) -> Samples:
    """Samples in memory, all of them chosen."""
    return Chosen(points, rows, torch.arange(len(points)))


def _features(
    folder: str | Path,
    beside: Sequence[str | Modality],
    samples: int,
    validation: int,
    rng: np.random.Generator,
) -> list[tuple[Tensor, Samples]]:
    """Places and mapped features of a folder, of training and of validation."""
    index, array = read_features(folder)
    rows = (~array[:, 0].isnan()).nonzero().squeeze(1)
    points = index.lonlat[rows].float()

    def among(inside: Tensor, n: int) -> tuple[Tensor, Samples]:
        pool = inside.nonzero().squeeze(1)
        chosen = torch.from_numpy(rng.permutation(len(pool))[:n])
        places = points[pool]
        return places[chosen], Mapped(places, rows[pool], array, folder, chosen)

    return [among(_free(points, beside), samples), among(_is_validation(points), validation)]


def _free(points: Tensor, beside: Sequence[str | Modality]) -> Tensor:
    """Which points (N, 2) are outside the cells of validation and of `beside`: (N,) bool."""
    owners = sampling.owner(points)
    free = owners != sampling.VALIDATION
    for other in beside:
        other_name = other if isinstance(other, str) else other.name
        if other_name in sampling.OWNERS:
            free &= owners != sampling.OWNERS.index(other_name)
        elif isinstance(other, str):
            raise unknown("modality trained beside it", other, sampling.OWNERS)
        if not isinstance(other, str):
            taken = cell_index(other.lonlat.cpu(), CELL_DEGREES)
            free &= ~torch.isin(cell_index(points, CELL_DEGREES), taken)
    return free


def _is_validation(points: Tensor) -> Tensor:
    return sampling.owner(points) == sampling.VALIDATION


def in_one_month(source: Any, month: int) -> Any:
    """The table of a source whose labels count as of one month; a warning if it says others."""
    frame = read_table(source)
    for name in usual_months([*map(str, frame.columns)]):
        try:
            months, _ = months_of(frame, name)
        except ValueError:
            months = np.array([np.nan])
        if (months != month).any():
            warnings.warn(
                f"column {name!r} is not read, and every label counts as of month {month}: if "
                "labels are of several months, keep the rows of that month first",
                stacklevel=4,
            )
    return frame


def warn_if_swapped(lonlat: Array, swap: str) -> None:
    """Warn of places (N, 2) at sea that are on land with longitude and latitude swapped.

    For about half of the regions on land, the swapped places are on land too: nothing is said.
    """
    if len(lonlat) < _FEW_PLACES or (np.abs(lonlat) > 90).any():
        return
    try:
        land = embedded.load().land
    except (ImportError, DataError):
        return  # the land mask is not installed

    def dry(places: Array) -> Array:
        there = land.nearest(check(places.clip(min=(-np.inf, -90), max=(np.inf, 90))))
        return np.asarray(there[:, 0].numpy() == 1)

    steps = (-_OFFSHORE, 0.0, _OFFSHORE)
    around = (dry(lonlat + step) for step in itertools.product(steps, steps))
    far = ~np.any([*around], axis=0)
    sea, swapped = ~dry(lonlat), dry(lonlat[:, ::-1])
    if (far.mean() >= _FAR_AT_SEA and swapped.mean() >= _NEARLY_ALL) or (
        sea.mean() >= _AT_SEA
        and (swapped.mean() >= _MOST or swapped.mean() - (1 - sea.mean()) >= _MORE_ON_LAND)
    ):
        warnings.warn(
            f"{sea.sum()} of {len(lonlat)} places lie in the sea, and {swapped.sum()} lie on land "
            f"if longitude and latitude are swapped. If they should be on land, {swap}",
            stacklevel=4,
        )


def _keep(lonlat: Array, problems: Problems, invalid: str) -> Array:
    """Rows that can be used, (N,) bool; raise or warn if there are others."""
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
        places = () if has_points(frame, lon, lat) else coordinate_columns(frame, lon, lat)
        columns = measured_columns(frame, {*places})
    elif isinstance(columns, str) or not len(columns):
        raise ValueError(f"columns={columns!r}: give a list of at least one name")
    skip = any_of(problems, len(lonlat))
    values = []
    for name in columns:
        column = column_of(frame, name)
        if isinstance(column.dtype, pd.CategoricalDtype):
            raise ValueError(f"column {name!r} holds categories: pass pandas.get_dummies(frame)")
        if pd.api.types.is_bool_dtype(column):
            frame = frame.assign(**{name: column.astype("Float64")})
        numbers, unusable = measurements(frame, name, skip)
        values.append(numbers)
        problems = problems + unusable
    known = ~any_of(problems, len(lonlat))
    for name, numbers in zip(columns, values, strict=True):
        problems = problems + codes_for_missing(name, np.where(known, numbers, np.nan), invalid)
    keep = _keep(lonlat, problems, invalid)
    return float_points(lonlat[keep]), torch.from_numpy(np.stack(values, axis=1)[keep]).float()


def source_kind(source: Any) -> Literal["raster", "features", "table"]:
    """How `source` is read."""
    if isinstance(source, str | Path):
        folder = Path(source)
        # A folder that should hold features gets the error that says so.
        if any((folder / name).is_file() for name in (MANIFEST, ARRAY)) or (
            folder.is_dir() and not suffix_of(source)
        ):
            return "features"
        return "table" if suffix_of(source) in TABLES else "raster"
    if type(source).__module__.startswith("xarray."):
        if not hasattr(source, "dtype"):
            raise ValueError("a Dataset: pass one DataArray, as dataset['name'] or .to_array()")
        return "raster"
    return "table"
