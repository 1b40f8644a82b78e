"""Your own data: a table of points becomes a `Task`, a table or raster a `Modality`.

Files are local; nothing here opens a connection.
"""

from __future__ import annotations

import itertools
import re
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
    from locties.apply.suspicious import suspicious_values
    from locties.apply.tables import (
        TABLES,
        Array,
        Problems,
        any_of,
        check_invalid,
        column_of,
        complaint,
        coordinate_columns,
        coordinates,
        float_points,
        numbers_of,
        read_table,
        reasons_text,
        rows_text,
        suffix_of,
        usable,
    )
    from locties.apply.text import (
        is_date,
        is_limit,
        is_number,
        quoted,
        rewritten,
        shown,
        styles_of,
    )
    from locties.data import sampling
    from locties.evaluation.tasks import KINDS, Task
    from locties.lonlat import CELL_DEGREES, cell_index, check, usual_columns
    from locties.modalities import EMBEDDED, MODALITIES, Chosen
    from locties.modality import PATCH, Modality, Standardise, patch_encoder, profile_encoder

_FEW = 4  # with fewer rows, nothing can be concluded
# Names of ids, row numbers and projected coordinates, with _ between words.
_NO_MEASUREMENT = re.compile(
    r"|(.*_)?(id|fid|gid|uid|nr|row)|(object|row|site|plot|station|sample|record)_?(id|nr|number)"
    r"|unnamed_\d+|index|level_0"
    r"|((point|coords?|utm)_)?[xy](_?coord(inate)?s?)?|coords_x[12]|(utm_)?(east|north)(ing)?s?",
    re.IGNORECASE,
)


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
    """Make a task from a table: places, and what to predict there.

    Args:
        source: path of a CSV, TSV, Parquet, GeoParquet, GeoJSON, GeoPackage or Shapefile; or a
            pandas DataFrame; or a GeoDataFrame. Points in any CRS are converted to WGS84. A source
            with a geometry needs no coordinate columns.
        target: the column to predict.
        lon: column of longitudes, degrees (WGS84). By default the only one with a usual name, such
            as lon or Longitude. Not used if there is a geometry.
        lat: column of latitudes, found in the same way.
        kind: "regression" or "classification". By default fractions are regression; text,
            categories and booleans are classification. Whole numbers can be counts or codes, even
            if a missing value turned them into floats: pass `kind`.
        unit: unit of a regression target.
        name: name of the task; by default `target`.
        invalid: "raise" refuses a table with rows whose coordinates or target cannot be used, and
            names the rows; "drop" drops these rows with a warning. Rows are counted from 0, without
            the header.

    Returns:
        The task. Points at the same place are kept, with a warning: random folds can put one into
        training and another into the test.

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
    skip = any_of(problems, len(lonlat))
    kind = kind or kind_of(frame, target, skip)
    values, unusable = _target(frame, target, kind, skip)
    keep = _keep(lonlat, problems + unusable, invalid)
    if kind == "regression":
        _check_measurements(frame, target, np.where(keep, values, np.nan))
    lonlat, values = lonlat[keep], values[keep]
    if kind == "regression":
        if (values == values[0]).all():
            raise ValueError(
                f"column {target!r} holds {values[0]:g} in every row: name a target that varies"
            )
    else:
        _check_classes(target, values)
    repeated = len(lonlat) - len(np.unique(check(lonlat).numpy(), axis=0))
    if repeated:
        warnings.warn(
            f"{repeated} of {len(lonlat)} rows are at the place of another row: under random folds "
            "a test point then has its own place among the labels; average them, or judge by "
            "splits='block'",
            stacklevel=2,
        )
    return Task(name or target, torch.from_numpy(lonlat), values, kind, unit)


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
    samples are dropped if they lie in the cells of the modalities in `beside`. By default these are
    all modalities of the embedded tier; a sixth of the land outside validation is left (the cells
    of night lights). To keep more, name only the modalities that you train with: with two of them,
    four sixths are left. ``beside=()`` keeps every cell outside validation. This is right for a
    modality trained alone; with another one the run is not unpaired, and `pretrain` warns.

    Args:
        source: a table, as for `read_task`; or the path of a raster, such as a GeoTIFF, that refers
            to no other file; or an xarray DataArray (for NetCDF, HDF5 and Zarr) with two
            dimensions, or with bands as a third.
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
    if is_raster(source):
        if columns is not None:
            raise ValueError("a raster has no columns: pass bands")
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
            raise ValueError("a table has no bands or patches: pass columns")
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
    """Which points (N, 2) are outside the cells of validation and of `beside`: (N,) bool."""
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


def kind_of(frame: Any, name: str, skip: Array) -> str:
    """The kind of a column, judged without the rows to `skip`; ValueError if it could be either."""
    column = column_of(frame, name)
    judged = column.notna().to_numpy() & ~skip
    values = column[judged].astype(object)
    kind = pd.api.types.infer_dtype(values)
    declared = isinstance(column.dtype, pd.CategoricalDtype) and kind != "string"
    if kind == "empty":
        return "regression"  # any kind will do: no row is left
    if declared or kind == "boolean":
        return "classification"
    if kind == "string" or (kind.startswith("mixed") and kind != "mixed-integer-float"):
        if values.map(np.isscalar).all():
            return _kind_of_text(frame, name, values.astype(str), skip)
    elif kind in ("integer", "floating", "decimal", "mixed-integer-float"):
        return _kind_of_numbers(name, values.to_numpy(dtype=np.float64))
    raise ValueError(
        f"column {name!r} holds {kind} values, such as {shown(str(values.iloc[0]))}: name another "
        "target, or make a column of numbers or of text from it"
    )


def _kind_of_numbers(name: str, values: Array) -> str:
    values = values[np.isfinite(values)]
    if len(values) and (values == values.round()).all():
        raise ValueError(
            f"column {name!r} holds whole numbers ({len(np.unique(values))} different ones), "
            "which can be measurements or codes of classes: pass kind='regression' or "
            "kind='classification'"
        )
    return "regression"


def _kind_of_text(frame: Any, name: str, texts: Any, skip: Array) -> str:
    """Classes, unless most texts are numbers or dates, or differ from row to row."""
    different = pd.Series(texts.unique())
    number = is_number(different)
    styles = styles_of(different[~number])
    measured = number | different.map(
        lambda text: is_limit(text) or any(style.matches(text) for style in styles)
    )
    dates = different.map(is_date)
    or_classes = "or pass kind='classification'"

    def most(chosen: Any) -> bool:
        """Whether these texts fill most rows, or are most of the different texts."""
        return bool(texts.isin(different[chosen]).mean() > 0.5 or chosen.mean() > 0.5)

    if most(measured):
        try:
            values, problems = numbers_of(frame, name, skip)
        except ValueError as error:
            raise ValueError(f"{error}; {or_classes}") from None
        if not problems:
            return _kind_of_numbers(name, values)
        raise ValueError(
            f"{reasons_text(problems)}; the rest are numbers. Give numbers there too, such as half "
            "a limit of detection, or pass kind='regression' and invalid='drop' to drop these "
            f"rows; {or_classes}"
        )
    problem = ""
    if most(dates):
        problem = f"dates or times, such as {shown(different[dates].iloc[0])}"
    elif len(different) == len(texts) > _FEW or len(different) > len(texts) / 2 > 2 * _FEW:
        problem = f"{len(different)} different texts in {len(texts)} rows, such as "
        problem += f"{shown(different[0])}, like names or ids"
    if problem:
        raise ValueError(
            f"column {name!r} holds {problem}: name another target, make a column of numbers or "
            f"of classes from it, {or_classes}"
        )
    return "classification"


def _target(frame: Any, name: str, kind: str, skip: Array) -> tuple[Array, Problems]:
    """Values (N,): float64 of a regression; text or int64 of a classification."""
    if kind == "regression":
        return _measurements(frame, name, skip)
    column = column_of(frame, name)
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
    # Objects: an array of text would give each row the size of the longest.
    return column.astype(object).map(str).to_numpy(dtype=object), problems


def _measurements(frame: Any, name: str, skip: Array) -> tuple[Array, Problems]:
    """A column (N,) float64, and its rows without a value, other than those to `skip`."""
    values, problems = numbers_of(frame, name, skip)
    absent = ~np.isfinite(values) & ~any_of(problems, len(values)) & ~skip
    return values, [*problems, (f"{name!r} is missing or not finite", absent)]


def _check_measurements(frame: Any, name: str, values: Array) -> None:
    """Warn of values (N,) that seem to mean a missing value; NaN is ignored."""
    for value, rows in suspicious_values(values):
        others = values[np.isfinite(values) & ~rows]
        code = rewritten(frame, f".loc[lambda t: t[{quoted(name)}] != {value!r}]")
        warnings.warn(
            f"column {name!r} holds {value:.10g} in {rows.sum()} of {len(values)} rows "
            f"({rows_text(rows)}), far from the others ({others.min():g} to {others.max():g}): if "
            f"it means a missing value, drop these rows, with {code}",
            stacklevel=4,
        )


def _check_classes(name: str, values: Array) -> None:
    """Warn of classes that differ only in capitals and blanks, and of classes of one row."""
    classes, counts = np.unique(values.astype(object), return_counts=True)
    first: dict[str, str] = {}
    for text in map(str, classes):
        same = first.setdefault(" ".join(text.split()).casefold(), text)
        if same != text:
            warnings.warn(
                f"column {name!r} has the classes {shown(same)} and {shown(text)}: if they are one "
                "class, write them in the same way",
                stacklevel=4,
            )
    single = classes[counts == 1]
    if len(single):
        warnings.warn(
            f"column {name!r} has {len(single)} of {len(classes)} classes in one row only, such as "
            f"{shown(str(single[0]))}: too few to learn and to test; merge or drop them",
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
        places = () if hasattr(frame, "to_crs") else coordinate_columns(frame, lon, lat)
        columns = _measured_columns(frame, {*places})
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
        numbers, unusable = _measurements(frame, name, skip)
        values.append(numbers)
        problems = problems + unusable
    keep = _keep(lonlat, problems, invalid)
    for name, numbers in zip(columns, values, strict=True):
        _check_measurements(frame, name, np.where(keep, numbers, np.nan))
    return float_points(lonlat[keep]), torch.from_numpy(np.stack(values, axis=1)[keep]).float()


def _measured_columns(frame: Any, others: set[str]) -> list[str]:
    """The numeric columns without coordinates, row numbers and ids, with a warning that lists them.

    These are not in the profile: usual names of coordinates and ids, names in `others`, and whole
    numbers that count the rows.
    """
    numeric = list(frame.select_dtypes(["number", "bool"]).columns)
    left_out = {*others, *itertools.chain(*usual_columns(numeric))}
    for name in set(numeric) - left_out:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", "_", str(name)).strip("_")
        column = column_of(frame, name)
        counts = pd.api.types.is_integer_dtype(column) and len(column) > _FEW
        if _NO_MEASUREMENT.fullmatch(words) or (counts and (column.diff().iloc[1:] == 1).all()):
            left_out.add(name)
    columns = [name for name in numeric if name not in left_out]
    if not columns:
        raise ValueError(
            "the table has no numeric column beside coordinates and row numbers"
            + (f" ({', '.join(numeric)}): pass columns= and names to use some" if numeric else "")
        )
    dropped = [name or "the unnamed one" for name in numeric if name in left_out - others]
    warnings.warn(
        f"the profile is made of {', '.join(columns)}"
        + (f", without {', '.join(dropped)}" if dropped else "")
        + "; to choose, pass columns= and their names",
        stacklevel=4,
    )
    return columns


def is_raster(source: Any) -> bool:
    """Whether `source` is read as a raster, not as a table."""
    if isinstance(source, str | Path):
        return suffix_of(source) not in TABLES
    if type(source).__module__.startswith("xarray."):
        if not hasattr(source, "dtype"):
            raise ValueError("a Dataset: pass one DataArray, as dataset['name'] or .to_array()")
        return True
    return False
