"""S2-100K: 100,000 Sentinel-2 chips in tar shards, and folders of their features.

The dataset is ``torchgeo/s2-100k`` on Hugging Face: ``index.csv`` and 100 tar shards, 78 GB.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import needs
from locties._util.files import sha256_of, written_aside
from locties._util.registry import Registry
from locties.data.archive import Member, members
from locties.data.fetch import download
from locties.data.manifest import DataError, cache_folder
from locties.lonlat import check

BANDS, SIDE = 12, 256
SMALLEST = 10_000  # bytes; smaller files hold no data, and SatCLIP skips them


@dataclass(frozen=True, eq=False)
class Index:
    """File names of N chips, their centres (N, 2) float64 in degrees, and the index file itself."""

    names: tuple[str, ...]
    lonlat: Tensor
    content: bytes

    @property
    def sha256(self) -> str:
        """Hex sha256 of the index file."""
        return hashlib.sha256(self.content).hexdigest()


def read_index(path: str | os.PathLike[str]) -> Index:
    """Read S2-100K's ``index.csv``: a row for each chip, with columns fn, lon and lat."""
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
                raise DataError(f"{path}: line {line} names the chip {name!r}{earlier}")
            try:
                points.append((float(row["lon"]), float(row["lat"])))
                check([points[-1]])
            except (TypeError, ValueError):
                raise DataError(
                    f"{path}: line {line} has lon {row['lon']!r} and lat {row['lat']!r}; "
                    "both must be degrees, and lat within [-90, 90]"
                ) from None
            lines[name] = line
    except FileNotFoundError:
        raise DataError(f"there is no index {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}") from None
    if not points:
        raise DataError(f"{path} holds no chip")
    return Index(tuple(lines), check(points), content)


@dataclass(frozen=True, eq=False)
class Chip:
    """One file of a shard.

    Attributes:
        name: its file name.
        shard: number of its shard, from 0.
        member: its number in the shard, from 0.
        row: its row in the index; -1 if it is not there.
        pixels: (12, 256, 256) uint16, reflectance times 10,000, bands B1 to B8, B8A, B9, B11, B12.
        problem: why there are no pixels.
    """

    name: str
    shard: int
    member: int
    row: int
    pixels: np.ndarray | None
    problem: str | None


def chips(
    shards: Iterable[str | os.PathLike[str]], index: Index, first: int = 0, skip: int = 0
) -> Iterator[Chip]:
    """Yield every chip of the tar archives in order; threads decode a few ahead.

    A damaged chip (under 10 kB, or not a GeoTIFF of 12 bands of 256x256 uint16) has a problem
    instead of pixels. So does a file that is not in the index.

    Args:
        shards: paths; each is requested only after the one before it was read.
        index: where the chips are.
        first: number of the first of these shards.
        skip: files of the first shard to skip.
    """
    rows = {name: row for row, name in enumerate(index.names)}

    def decode(shard: int, number: int, member: Member, content: bytes) -> Chip:
        name = member.name.rpartition("/")[2]
        if name not in rows:
            return Chip(name, shard, number, -1, None, "is not in the index")
        return Chip(name, shard, number, rows[name], *_decode(content))

    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Any] = deque()
        for shard, path in enumerate(shards, first):
            for number, member in enumerate(members(path)):
                if shard > first or number >= skip:
                    ahead.append(pool.submit(decode, shard, number, member, member.read()))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            # The next shard begins only after all chips of this one were yielded.
            while ahead:
                yield ahead.popleft().result()


def _decode(content: bytes) -> tuple[np.ndarray | None, str | None]:
    """Pixels of a GeoTIFF, or what is wrong with it; tifffile alone cannot decode LZW."""
    with needs("data", "reading images"):
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
        from rasterio.io import MemoryFile

    if len(content) < SMALLEST:
        return None, f"has {len(content):,} bytes, fewer than {SMALLEST:,}"
    try:
        with (
            warnings.catch_warnings(category=NotGeoreferencedWarning, action="ignore"),
            MemoryFile(content) as file,
            file.open(driver="GTiff") as image,
        ):
            # Check before decoding, so that a small file cannot fill the memory.
            found = (image.count, image.height, image.width, *sorted(set(image.dtypes)))
            if found != (BANDS, SIDE, SIDE, "uint16"):
                return None, f"has (bands, height, width, type) {found}, not 12, 256, 256, uint16"
            return image.read(), None
    except RasterioError as error:
        return None, f"cannot be read: {error}"


def satclip_chip(pixels: Tensor) -> Tensor:
    """Scale chips as SatCLIP does: reflectance in units of 1, and zeros in place of B10.

    Chips of Level-2A have no B10; networks trained on the 13 bands of Level-1C expect it as channel
    10. Takes (..., 12, H, W), reflectance times 10,000; returns (..., 13, H, W) float32.

    Example:
        >>> satclip_chip(torch.full((12, 2, 2), 5000))[9:12, 0, 0].tolist()
        [0.5, 0.0, 0.5]
    """
    scaled = pixels.float() / 10_000
    before, after = torch.split(scaled, [10, 2], dim=-3)
    return torch.cat([before, torch.zeros_like(before[..., :1, :, :]), after], dim=-3)


TRANSFORMS = Registry("transform", satclip_chip=satclip_chip)


def obtain(address: str, folder: Path | None = None) -> Path:
    """The path of a file, or of its download from an http(s) address; it is downloaded once.

    We know of no checksums for S2-100K. So the size is compared with the server's, and a tar is
    read through.

    Args:
        address: path or address.
        folder: where downloads are kept; by default in the cache folder.
    """
    if not address.startswith(("http://", "https://")):
        return Path(address)
    key = hashlib.sha256(address.encode()).hexdigest()[:8]
    path = (folder or cache_folder() / "s2-100k") / key / file_name(address)
    if not path.exists():
        download(address, path, _problem)
    return path


def _problem(path: Path) -> str | None:
    """What is wrong with a downloaded file: a tar is read through, other files must be text."""
    if path.name.endswith(".tar.part"):
        try:
            deque(members(path), 0)
        except DataError as error:
            return f"is not a shard: {error}"
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page"
    return None if start else "is empty"


def file_name(address: str) -> str:
    """The last part of an address or a path."""
    return urlsplit(address).path.rpartition("/")[2]


# ---------------------------------------------------------------------------------------- features

FORMAT = 2  # of the manifest; raise it when older versions cannot resume from it
MANIFEST, ARRAY, INDEX = "manifest.json", "features.npy", "index.csv"


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
    """The index and the features in a folder that `features` wrote.

    The (N, d) features are mapped from the file and read only when they are used. A row without a
    chip is NaN.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} holds no features; run: locties s2 features --out {folder}")
    if not manifest["complete"]:
        raise DataError(
            f"{folder} is unfinished ({manifest['rows']:,} chips done); run the same "
            "`locties s2 features` again: it resumes"
        )
    index = read_index(folder / INDEX)
    if index.sha256 != manifest["recipe"]["index"]:
        raise DataError(f"{folder / INDEX} is altered; delete {folder} and compute it again")
    array = open_array(folder, manifest)
    if sha256_of(folder / ARRAY) != manifest["sha256"]:
        raise DataError(f"{folder / ARRAY} is altered; delete {folder} and compute it again")
    return index, torch.from_numpy(array)


def prefetch(folder: str | os.PathLike[str], features: Tensor, rows: Tensor) -> None:
    """Ask the system to read rows (B,) of `read_features` ahead; return immediately.

    Otherwise each row that is not in memory is waited for, and read with many bytes around it.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    size = features[0].nbytes
    handle = os.open(Path(folder) / ARRAY, os.O_RDONLY)
    try:
        begin = os.fstat(handle).st_size - len(features) * size
        for row in rows.tolist():
            os.posix_fadvise(handle, begin + row * size, size, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(handle)


def open_array(folder: Path, manifest: dict[str, Any]) -> np.ndarray:
    """The features, mapped from the file."""
    path = folder / ARRAY
    remedy = f"delete {folder} and compute it again"
    try:
        # Copy on write: torch has no read-only tensors, and nothing must change the file.
        array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # an altered head can raise anything, such as TokenError
        raise DataError(f"{path} is missing or altered ({error}); {remedy}") from None
    if [*array.shape, str(array.dtype)] != [*manifest["shape"], manifest["recipe"]["dtype"]]:
        raise DataError(f"{path} is altered: it holds {array.dtype} {array.shape}; {remedy}")
    return array
