"""A folder of frozen features: the features, where each row lies, and what they were made of.

`locties.data.frozen.features` writes it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locties._util.files import DataError, sha256_of, written_aside
from locties.lonlat import check

FORMAT = 3  # of the manifest; raise it when older versions cannot resume from it
MANIFEST, ARRAY, INDEX = "manifest.json", "features.npy", "index.csv"
WHOLE = 2**28  # bytes; a file of at most this size is read ahead as a whole


@dataclass(frozen=True, eq=False)
class Index:
    """Names of N places, their coordinates (N, 2) float64 in degrees, and the index file itself."""

    names: tuple[str, ...]
    lonlat: Tensor
    content: bytes

    @property
    def sha256(self) -> str:
        """Hex sha256 of the index file."""
        return hashlib.sha256(self.content).hexdigest()


def read_index(path: str | os.PathLike[str]) -> Index:
    """Read an ``index.csv`` in S2-100K's form: a row for each name, with columns fn, lon, lat."""
    try:
        content = Path(path).read_bytes()
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        lacking = sorted({"fn", "lon", "lat"} - set(rows.fieldnames or ()))
        if lacking:
            raise DataError(f"{path} has no column {', '.join(lacking)}: it must have fn, lon, lat")
        lines: dict[str, int] = {}
        points = []
        for row in rows:
            name, line = row["fn"], rows.line_num
            if not name or name in lines:
                earlier = f", as does line {lines[name]}" if name else ""
                raise DataError(f"{path}: line {line} has the name {name!r}{earlier}")
            points.append((row["lon"], row["lat"]))
            lines[name] = line
    except FileNotFoundError:
        raise DataError(f"there is no index {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}") from None
    if not points:
        raise DataError(f"{path} names nothing")
    try:
        lonlat = check(np.array(points, np.float64))
    except (TypeError, ValueError):
        for (lon, lat), line in zip(points, lines.values(), strict=True):
            try:
                check([(float(lon), float(lat))])
            except (TypeError, ValueError):
                raise DataError(
                    f"{path}: line {line} has lon {lon!r} and lat {lat!r}; "
                    "both must be degrees, and lat within [-90, 90]"
                ) from None
        raise
    return Index(tuple(lines), lonlat, content)


def make_index(names: list[str], lonlat: np.ndarray, **columns: list[int]) -> Index:
    """An index of these names and places (N, 2), with more columns if given."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fn", "lon", "lat", *columns])
    places = check(lonlat)
    writer.writerows(zip(names, *places.T.tolist(), *columns.values(), strict=True))
    return Index(tuple(names), places, text.getvalue().encode())


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The manifest of features in a folder, or None if there is none."""
    path = Path(folder) / MANIFEST
    if not path.exists():
        return None
    again = f"delete {folder} and compute it again"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise DataError(f"{path} has format {manifest['format']!r}, not {FORMAT}; {again}")
        whole = manifest.pop("manifest_sha256") == _digest(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{path} is altered; {again}")
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with its own sha256, which `read_manifest` checks."""
    content = manifest | {"manifest_sha256": _digest(manifest)}
    with written_aside(folder / MANIFEST) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n")


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def read_features(folder: str | os.PathLike[str]) -> tuple[Index, Tensor]:
    """The index and the features in a folder that `locties.data.frozen.features` wrote.

    The (N, d) features are mapped from the file and read only when they are used. A row without
    features is NaN.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(
            f"{folder} holds no features; run: locties features chips|photos|texts SOURCE "
            f"--encoder NAME --output {folder}"
        )
    if not manifest["complete"]:
        raise DataError(
            f"{folder} is unfinished ({manifest['rows']:,} rows done); run the same "
            "`locties features` again: it resumes"
        )
    index = read_index(folder / INDEX)
    if index.sha256 != manifest["source"]["index"]:
        raise DataError(f"{folder / INDEX} is altered; delete {folder} and compute it again")
    array = open_array(folder, manifest)
    if sha256_of(folder / ARRAY) != manifest["sha256"]:
        raise DataError(
            f"{folder / ARRAY} is altered, or not by {manifest['encoder']['name']}, as "
            f"{MANIFEST} says; delete {folder} and compute it again"
        )
    return index, torch.from_numpy(array)


def open_array(folder: Path, manifest: dict[str, Any]) -> np.ndarray:
    """The features, mapped from the file."""
    path = folder / ARRAY
    remedy = f"delete {folder} and compute it again"
    try:
        # Copy on write: torch has no read-only tensors, and nothing must change the file.
        array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # an altered head can raise anything, such as TokenError
        raise DataError(f"{path} is missing or altered ({error}); {remedy}") from None
    if [*array.shape, str(array.dtype)] != [*manifest["shape"], manifest["settings"]["dtype"]]:
        raise DataError(f"{path} is altered: it holds {array.dtype} {array.shape}; {remedy}")
    return array


def prefetch(folder: str | os.PathLike[str], features: Tensor, rows: Tensor | None = None) -> None:
    """Ask the system to read rows (B,) of `read_features` ahead, or all; return immediately.

    Without this, the reader waits for each row that is not in memory, and for many bytes around it.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    size = features[0].nbytes
    handle = os.open(Path(folder) / ARRAY, os.O_RDONLY)
    try:
        if rows is None:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            return
        begin = os.fstat(handle).st_size - len(features) * size
        for row in rows.tolist():
            os.posix_fadvise(handle, begin + row * size, size, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(handle)


@dataclass(frozen=True, eq=False)
class Mapped:
    """Samples in a memory-mapped file, read when they are indexed.

    After `expect`, the operating system reads the next batch while the current step is computed.

    Args:
        lonlat: (P, 2) degrees, a pool of places.
        rows: (P,) int64, the row of each place in the file.
        array: (R, d) the mapped file.
        folder: its folder, written by `locties.data.frozen.features`.
        index: (N,) int64, the chosen places of the pool.
        device: where batches are put.
    """

    lonlat: Tensor
    rows: Tensor
    array: Tensor
    folder: str | os.PathLike[str]
    index: Tensor
    device: torch.device | str = "cpu"
    _asked: list[bool] = field(default_factory=list, init=False)  # whether the whole file was
    _expected: list[Tensor] = field(default_factory=list, init=False)  # rows of the next step

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._read(self.index[index.cpu()])

    def expect(self, index: Tensor) -> None:
        """Start reading the samples of the next step, without waiting for them."""
        rows = self.rows[self.index[index.cpu()]]
        self._ask(rows)
        self._expected[:] = [rows]

    def __len__(self) -> int:
        return len(self.index)

    def _ask(self, rows: Tensor) -> None:
        if self.array.nbytes > WHOLE:
            prefetch(self.folder, self.array, rows)
        elif not self._asked:
            prefetch(self.folder, self.array)
            self._asked.append(True)

    def _read(self, places: Tensor) -> Tensor:
        rows = self.rows[places]
        if not (self._asked or (self._expected and torch.isin(rows, self._expected[0]).all())):
            self._ask(rows)
        return self.array[rows].to(self.device, torch.float32)

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw places (n, 2) from the pool, with their samples."""
        drawn = torch.randint(len(self.rows), (n,), generator=generator)
        return self.lonlat[drawn].to(self.device), self._read(drawn)

    def to(self, device: torch.device) -> Mapped:
        """A copy that puts its batches on `device`; the file itself is not copied."""
        return replace(self, device=device)
