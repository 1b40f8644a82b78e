"""Tables of embeddings computed elsewhere, such as AlphaEarth's and TESSERA's, as encoders."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import needs
from locties.lonlat import MEAN_EARTH_RADIUS_KM, LonLat, check, to_xyz

with needs("own,data", "a table of embeddings"):
    import pandas as pd
    from scipy.spatial import cKDTree

    from locties.apply.tables import (
        TABLES,
        Array,
        Problems,
        UnclearColumns,
        check_invalid,
        column_of,
        coordinate_columns,
        coordinates,
        float_points,
        has_points,
        numbers_of,
        read_table,
        suffix_of,
        usable,
    )
    from locties.apply.text import quoted, rewritten

ALPHAEARTH = tuple(f"A{axis:02d}" for axis in range(64))
_SAME_KM = 0.002  # float32 distinguishes places that are further apart
_SAMPLED = 10_000  # places from which the spacing is measured
_NEIGHBOURS = 0.95  # share of places that have a neighbour within the spacing
_DEFAULT = f" (within which {_NEIGHBOURS:.0%} of its places have a neighbour)"


class EmbeddingTable:
    """A table of places and embeddings, used as an encoder: lonlat (N, 2) to (N, dim) float32.

    A place gets the embedding of the nearest place in the table; without `within_km`, a warning
    says so. A place further than `within_km` from all of them raises ValueError.

    Whole numbers are taken as quantised. They stay as small as in the table, and each batch is
    converted when it is read. If there is a column ``scale`` or ``scales``, as in TESSERA, each
    value is multiplied by the scale of its row. Otherwise columns A00 to A63 follow AlphaEarth's
    rule: sign(v) (v / 127.5)^2, where -128 means no data. Other whole numbers are refused.

    Args:
        source: path of a Parquet, GeoParquet, CSV or another table that `locties.read_task` reads;
            or a frame.
        columns: names of the embedding's columns, or of one column of lists. By default columns
            numbered from 0 or 1 on, such as A00 to A63, or a column of lists. If more than one
            choice is possible, ValueError asks for the names.
        within_km: largest great-circle distance to the nearest place of the table. By default the
            distance within which 95% of the table's places have a neighbour, so that a grid also
            covers the space between its points. 0 accepts only places of the table. Coordinates
            are compared in float32, which distinguishes places 2 m apart.
        lon: column of longitudes, as in `locties.read_task`.
        lat: column of latitudes, as in `locties.read_task`.
        invalid: "raise" refuses a table with rows that cannot be used and names them; "drop" drops
            them with a warning.

    Example:
        >>> table = EmbeddingTable(pd.DataFrame(
        ...     {"lon": [13.4, 2.3], "lat": [52.5, 48.9], "e0": [0.5, 1.5], "e1": [2.0, 3.0]}
        ... ), within_km=50)
        >>> table([[13.5, 52.4]])
        tensor([[0.5000, 2.0000]])

    Sources: Google, "AlphaEarth Foundations GCS data" (the rule for its int8); geotessera's
    documentation, "Dequantization Process".
    """

    def __init__(
        self,
        source: Any,
        *,
        columns: str | Sequence[str] | None = None,
        within_km: float | None = None,
        lon: str | None = None,
        lat: str | None = None,
        invalid: str = "raise",
    ) -> None:
        check_invalid(invalid)
        if within_km is not None and not within_km >= 0:
            raise ValueError(f"within_km={within_km!r}: pass a distance in km, at least 0")
        frame = read_table(source).rename(columns=str)
        file = frame.attrs.get("file")
        self.name = "the table" if file is None else Path(file).name
        if not len(frame):
            raise ValueError(f"{self.name} has no row")
        try:
            lonlat, problems = coordinates(frame, lon, lat)
        except UnclearColumns as error:  # --lon and --lat are those of another table
            raise ValueError(
                f"{self.name}: {error.problem}. Rename one column 'lon' and one 'lat', and drop "
                "others of the kind, or name them to locties.EmbeddingTable"
            ) from None
        places = () if has_points(frame, lon, lat) else coordinate_columns(frame, lon, lat)
        names = _chosen(frame, columns) if columns is not None else _guessed(frame, places)
        values, lacking = _values(frame, names)
        scale, unusable = _scale(frame, names, values)
        problems = [*problems, *lacking, *unusable]
        drop = "locties.EmbeddingTable(..., invalid='drop')"
        keep = usable(problems, len(frame), invalid, f" of {self.name}", drop)
        if not keep.any():
            raise ValueError(f"{self.name} has no row that can be used")
        points, values = float_points(lonlat[keep]), values[keep]
        scale = None if scale is None else scale[keep]
        first = _distinct(points, values, scale, self.name)
        points, self._values = points[first], values[first]
        self._scale = None if scale is None else scale[first]
        self._tree = cKDTree(_unit_vectors(points))
        self.dim = values.shape[1]
        self._limit = "" if within_km is not None else _DEFAULT
        self.within_km = _spacing(self._tree) if within_km is None else float(within_km)
        parts = (points.numpy(), self._values, self._scale)
        digest = hashlib.sha256(b"".join(part.tobytes() for part in parts if part is not None))
        self.origin = {"name": self.name, "sha256": digest.hexdigest()}

    def __call__(self, lonlat: LonLat) -> Tensor:
        """(N, 2) degrees to (N, dim) float32, on the device of `lonlat`."""
        given = check(lonlat)
        points = given.cpu().float()
        chord, rows = self._tree.query(_unit_vectors(points))
        km = _km(chord)
        far = km > self.within_km
        if far.any():
            (x, y), distance = points[int(km.argmax())].tolist(), km.max()
            raise ValueError(
                f"{far.sum()} of {len(far)} places are further than {self.within_km:.4g} km"
                f"{self._limit} from the places of {self.name}, such as ({x:.6g}, {y:.6g}), which "
                f"is {distance:.4g} km away: drop them, keep the bounds of a map inside the table, "
                "or pass locties.EmbeddingTable(..., within_km=...)"
            )
        if self._limit and (km > _SAME_KM).any():
            warnings.warn(
                f"places that are not in {self.name} get the embedding of its nearest place, up to "
                f"{self.within_km:.4g} km away{self._limit}; to choose the distance, pass "
                "locties.EmbeddingTable(..., within_km=...)",
                stacklevel=2,
            )
        values = self._values[rows].astype(np.float32)
        if self._scale is not None:
            values *= self._scale[rows]
        elif self._values.dtype.kind == "i":
            values = np.sign(values) * np.square(values / np.float32(127.5))
        return torch.from_numpy(values).to(given.device)


def is_table(name: str | Path) -> bool:
    """Whether a contender's name is the path of a table."""
    return suffix_of(name) in TABLES and not Path(name).is_dir()


class _Choice(NamedTuple):
    """Columns that could be the embedding; `pattern` is a regular expression for their names."""

    names: list[str]
    pattern: str

    @property
    def text(self) -> str:
        return " to ".join(dict.fromkeys([self.names[0], self.names[-1]]))


def _unit_vectors(points: Tensor) -> Array:
    return to_xyz(points.double()).numpy()


def _km(chord: Array) -> Array:
    """Great-circle distances of chords of the unit sphere."""
    return 2 * MEAN_EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))


def _spacing(tree: cKDTree) -> float:
    """The distance in km within which 95% of the places have a neighbour; 0 for one place."""
    if tree.n < 2:
        return 0.0
    some = np.random.default_rng(0).permutation(tree.n)[:_SAMPLED]
    nearest = _km(tree.query(tree.data[some], k=2)[0][:, 1])
    return float(np.quantile(nearest, _NEIGHBOURS, method="higher"))


def _distinct(points: Tensor, values: Array, scale: Array | None, name: str) -> Array:
    """The first row of each place; ValueError if a place has several embeddings."""
    places = torch.view_as_complex(points.contiguous()).numpy()  # sorts faster than pairs
    _, first, inverse = np.unique(places, return_index=True, return_inverse=True)
    original = first[inverse]
    different = (values != values[original]).any(axis=1)
    if scale is not None:
        different |= (scale != scale[original]).any(axis=1)
    if different.any():
        lon, lat = points[int(different.argmax())].tolist()
        raise ValueError(
            f"{name} has several embeddings of one place in {different.sum()} rows, such as at "
            f"({lon:.6g}, {lat:.6g}): keep one row of each place, such as those of one year"
        )
    return np.sort(first)


def _chosen(frame: Any, columns: str | Sequence[str]) -> list[str]:
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names:
        raise ValueError("columns=[]: give at least one name")
    for name in names:
        column_of(frame, name)
    return names


def _guessed(frame: Any, places: Sequence[str]) -> list[str]:
    """The only choice of columns that can be the embedding."""
    numbered: dict[str, dict[int, str]] = {}
    choices = []
    for name in map(str, frame.columns):
        if name in places or _is_scale(name):
            continue
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match and pd.api.types.is_numeric_dtype(column_of(frame, name)):
            numbered.setdefault(match[1], {})[int(match[2])] = name
        elif _is_lists(column_of(frame, name)):
            choices.append(_Choice([name], f"^{re.escape(name)}$"))
    for stem, group in numbered.items():
        numbers = sorted(group)
        if len(group) > 1 and numbers[0] in (0, 1):
            missing = set(range(numbers[0], numbers[-1] + 1)) - set(numbers)
            choice = _Choice([group[n] for n in numbers], rf"^{re.escape(stem)}\d+$")
            if missing:
                raise ValueError(
                    f"the columns {choice.text} could be the embedding, but number {min(missing)} "
                    "is missing or holds no numbers: add it, or name the columns with columns=[...]"
                )
            choices.append(choice)
    if len(choices) == 1:
        return choices[0].names
    if not choices:
        raise ValueError(
            f"no columns can be the embedding among {', '.join(frame.columns)}: number them from 0 "
            "on, such as e0 to e63, or name them with columns=[...]"
        )
    drop = f".pipe(lambda t: t.drop(columns=t.filter(regex={quoted(choices[-1].pattern)}).columns))"
    raise ValueError(
        f"the embedding could be {' or '.join(choice.text for choice in choices)}: name its "
        f"columns with columns=[...], or drop the others: {rewritten(frame, drop)}"
    )


def _is_scale(name: str) -> bool:
    return name.lower() in ("scale", "scales")


def _is_lists(column: Any) -> bool:
    """Whether a column holds lists of numbers."""
    if column.dtype != object:
        return False
    first = next(iter(column.dropna()), None)
    if not isinstance(first, list | tuple | np.ndarray):
        return False
    return len(first) > 0 and np.asarray(first).dtype.kind in "iuf"


def _matrix(frame: Any, names: list[str]) -> Array:
    """Columns of numbers, or one of lists, as (N, dim); NaN where numbers are missing."""
    columns = [column_of(frame, name) for name in names]
    if len(names) == 1 and _is_lists(columns[0]):
        dim = int(_lengths(columns[0]).mode()[0])
        return np.stack([_row(values, dim) for values in columns[0]])
    kind = columns[0].dtype
    if isinstance(kind, np.dtype) and kind.kind in "iuf" and all(c.dtype == kind for c in columns):
        return frame[names].to_numpy()  # type: ignore[no-any-return]
    return np.stack([numbers_of(frame, name)[0] for name in names], axis=1)


def _lengths(lists: Any) -> Any:
    """How many numbers each list of a column has; NaN for what is no list."""
    return lists.map(lambda values: len(values) if np.ndim(values) else np.nan)


def _row(values: Any, dim: int) -> Array:
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and len(values) == dim:
        return values
    try:
        row = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        row = np.empty(0)
    return row if row.shape == (dim,) else np.full(dim, np.nan)


def _values(frame: Any, names: list[str]) -> tuple[Array, Problems]:
    """Values (N, dim), whole numbers in the smallest type, and the rows with a missing value."""
    raw = _matrix(frame, names)
    finite = np.asarray(np.isfinite(raw).all(axis=1))
    problems = [("the embedding has a value that is missing or not finite", ~finite)]
    if raw.shape[1] != len(names):
        lengths = _lengths(frame[names[0]])
        other = (lengths.notna() & (lengths != raw.shape[1])).to_numpy()
        what = f"{names[0]!r} has not {raw.shape[1]} numbers, as most lists have"
        problems = [(what, other), (problems[0][0], ~finite & ~other)]
    raw = raw if finite.all() else np.where(finite[:, None], raw, np.zeros(1, raw.dtype))
    if raw.dtype.kind in "iu" or (finite.any() and (raw == np.rint(raw)).all()):
        low, high = raw.min(), raw.max()
        kinds = [np.iinfo(kind) for kind in ("int8", "int16", "int32", "int64")]
        return raw.astype(next(k for k in kinds if k.min <= low and high <= k.max).dtype), problems
    return raw if raw.dtype == np.float16 else raw.astype(np.float32), problems


def _scale(frame: Any, names: list[str], values: Array) -> tuple[Array | None, Problems]:
    """The scale of quantised values, (N, 1) or (N, dim), and the rows that lack it.

    None for values that are not quantised, and for AlphaEarth's.
    """
    scales = [name for name in frame.columns if _is_scale(name)]
    if values.dtype.kind != "i":
        return None, []
    if len(scales) > 1:
        raise ValueError(f"the columns {' and '.join(scales)} could be the scale: drop one")
    if scales:
        scale = _matrix(frame, scales).astype(np.float32)
        lacking = ~np.asarray(np.isfinite(scale).all(axis=1))
        if scale.shape[1] not in (1, values.shape[1]):
            raise ValueError(
                f"column {scales[0]!r} holds {scale.shape[1]} numbers a row: give 1, or one for "
                f"each of the {values.shape[1]} values"
            )
        return scale, [("the scale is missing or not finite", lacking)]
    if tuple(names) != ALPHAEARTH or values.dtype != np.int8:
        raise ValueError(
            f"the embedding ({_Choice(names, '').text}) holds whole numbers from {values.min()} to "
            f"{values.max()}, quantised by an unknown rule: add a column 'scale' by which each row "
            f"is multiplied; if it is 1: {rewritten(frame, '.assign(scale=1)')}"
        )
    return None, [("AlphaEarth has no data (-128)", (values == -128).any(axis=1))]
