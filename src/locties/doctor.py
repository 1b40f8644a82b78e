"""Report how a user's file would be read, before any work is done with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locties._util.extras import needs

with needs("own", "reading your own data"):
    from locties.apply.columns import kind_of
    from locties.apply.pixels import Pixels
    from locties.apply.rasters import open_raster
    from locties.apply.tables import (
        INVALID,
        SEPARATORS,
        Array,
        any_of,
        check_invalid,
        coordinate_columns,
        coordinates,
        crs_name,
        has_points,
        read_table,
        suffix_of,
        swapping,
        usable,
    )
    from locties.apply.text import shown
    from locties.data.frozen_folder import read_features, read_manifest
    from locties.evaluation.splits import FOLDS, count_places
    from locties.evaluation.tasks import check_kind
    from locties.lonlat import check
    from locties.mapping.conformal import fewest_labels
    from locties.mapping.fit import COVERAGE, FEWEST_PLACES
    from locties.user_data import read_task, source_kind, warn_if_swapped

_PIXELS = 2000  # pixels of a raster to read


def examine(
    source: str | Path,
    target: str | None = None,
    *,
    lon: str | None = None,
    lat: str | None = None,
    kind: str | None = None,
    invalid: str = "raise",
) -> dict[str, Any]:
    r"""Report how a table, raster or folder of features is read, and what is wrong with it.

    Args:
        source: path of a file or folder.
        target: column of a table to predict.
        lon, lat, kind, invalid: see `locties.read_task`.

    Returns:
        Facts by name, as far as they could be read; then `warnings`, and the `problem` that makes
        the file unusable, or None.

    Example:
        >>> _ = Path("soil.csv").write_text("lon,lat,ph\n13.4,52.5,6.1\n2.3,48.9,7.4\n")
        >>> facts = examine("soil.csv", "ph")
        >>> facts["coordinates"], facts["target"], facts["problem"]
        ('columns lon, lat', 'ph: regression, 6.1 to 7.4', None)
    """
    check_invalid(invalid, INVALID)
    if kind is not None:
        check_kind(kind)
    facts: dict[str, Any] = {"file": str(source)}
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", UserWarning)
        try:
            found = source_kind(source)
            if found == "raster":
                _raster(facts, source)
            elif found == "features":
                _features(facts, source)
            else:
                _table(facts, source, target, lon, lat, kind, invalid)
            problem = None
        except (ValueError, OSError) as error:
            problem = str(error)
    said = (str(note.message) for note in noted if issubclass(note.category, UserWarning))
    return {**facts, "warnings": list(dict.fromkeys(said)), "problem": problem}


def _features(facts: dict[str, Any], folder: str | Path) -> None:
    index, array = read_features(folder)
    manifest = read_manifest(folder) or {}
    encoder = manifest["encoder"]
    facts["format"] = f"features of {manifest['source']['kind']}"
    facts["encoder"] = f"{encoder['name']} {encoder['version']}, sha256 {encoder['sha256'][:10]}"
    facts["rows"], facts["features"] = array.shape
    facts |= _extent(index.lonlat.numpy())
    facts["rows without features"] = int(array[:, 0].isnan().sum())
    facts["unusable items"] = len(manifest["unusable"])


def _table(
    facts: dict[str, Any],
    source: str | Path,
    target: str | None,
    lon: str | None,
    lat: str | None,
    kind: str | None,
    invalid: str,
) -> None:
    frame = read_table(source)
    suffix = suffix_of(source)
    separator = SEPARATORS.get(suffix)
    facts["format"] = suffix.lstrip(".") + (
        f", UTF-8, fields between {separator!r}" if separator else ""
    )
    facts["rows"] = len(frame)
    facts["columns"] = [str(name) for name in frame.columns]
    if has_points(frame, lon, lat):
        facts["coordinates"] = f"points in {crs_name(frame.crs) if frame.crs else 'no CRS'}"
        places = {frame.geometry.name}
    else:
        names = coordinate_columns(frame, lon, lat)
        places, facts["coordinates"] = {*names}, f"columns {', '.join(names)}"
    lonlat, problems = coordinates(frame, lon, lat)
    wrong = any_of(problems, len(lonlat))
    facts |= _extent(lonlat[~wrong])
    facts["different places"] = len(np.unique(lonlat[~wrong], axis=0))
    if target is None:
        facts["unusable rows"] = int(wrong.sum())
        facts["targets"] = [
            f"{name} ({_kind(frame, name, wrong)})" for name in frame.columns if name not in places
        ]
        warn_if_swapped(lonlat[~wrong], swapping(frame, lon, lat))
        usable(problems, len(lonlat), invalid)
        return
    task = read_task(frame, target, lon=lon, lat=lat, kind=kind, invalid=invalid)
    facts["unusable rows"] = len(frame) - len(task.target)
    described = f"{task.target.min():g} to {task.target.max():g}"
    if task.classes:
        described = f"{len(task.classes)} classes, such as {shown(task.classes[0])}"
    facts["target"] = f"{target}: {task.kind}, {described}"
    facts["usable by"] = _usable_by(len(task.target), count_places(task.lonlat))


def _usable_by(labels: int, places: int) -> str:
    """The commands for which there are enough labels, and what the others need."""
    needs_of = {"evaluate": (FOLDS, 1), "map": (fewest_labels(COVERAGE), FEWEST_PLACES)}
    enough, short = ["embed"], []
    for name, (least, apart) in needs_of.items():
        if labels >= least and places >= apart:
            enough.append(name)
        else:
            short.append(f"{name} needs {least} labels" + (f" at {apart} places" * (apart > 1)))
    return "; ".join([", ".join(enough), *short])


def _kind(frame: Any, name: str, wrong: Array) -> str:
    try:
        return kind_of(frame, name, wrong)
    except ValueError as error:
        return "whole numbers" if "whole numbers" in str(error) else "unclear"


def _raster(facts: dict[str, Any], source: str | Path) -> None:
    with open_raster(source) as raster:
        facts["format"] = raster.driver
        facts["size"] = f"{raster.width} x {raster.height} pixels"
        facts["CRS"] = crs_name(raster.crs)
        row = np.linspace(0, raster.height, 33)
        column = np.linspace(0, raster.width, 33)
        facts |= _extent(raster.lonlat(*map(np.ravel, np.meshgrid(row, column))))
        facts["bands"] = [f"{number} {name}" for number, name in raster.bands.items()]
        facts["nodata"] = raster.nodata
        pixels = Pixels(raster, None, None, np.random.default_rng(0))
        _, values = pixels.draw(_PIXELS, lambda points: torch.ones(len(points), dtype=torch.bool))
        if not len(values):
            raise ValueError(f"none of {pixels.tried} pixels has data in every band")
        facts["with data"] = f"{len(values) / pixels.tried:.0%} of the pixels looked at"
        facts["values"] = [
            f"{low:g} to {high:g}"
            for low, high in zip(values.amin(0).tolist(), values.amax(0).tolist(), strict=True)
        ]


def _extent(lonlat: Array) -> dict[str, str]:
    lonlat = lonlat[np.isfinite(lonlat).all(axis=1) & (np.abs(lonlat[:, 1:]) <= 90).all(axis=1)]
    if not len(lonlat):
        return {}
    low, high = (end(check(lonlat).numpy(), axis=0) for end in (np.min, np.max))
    return {
        "longitude": f"{low[0]:.6g} to {high[0]:.6g}",
        "latitude": f"{low[1]:.6g} to {high[1]:.6g}",
    }
