"""S2-100K: 100,000 Sentinel-2 chips in tar shards.

The dataset is ``torchgeo/s2-100k`` on Hugging Face: ``index.csv`` and 100 tar shards, 78 GB.
"""

from __future__ import annotations

import csv
import hashlib
import io
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
        raise DataError(f"{path} is no CSV file: {error}") from None
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
        row: its row in the index; -1 where the index does not have it.
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
    """Every chip of the tar archives, in their order; threads decode a few ahead.

    A damaged chip (under 10 kB, or no GeoTIFF of 12 bands of 256x256 uint16) has a problem instead
    of pixels; so has a file that is not in the index.

    Args:
        shards: paths; each is asked for when the one before is read.
        index: where the chips are.
        first: number of the first of these shards.
        skip: files of that shard to leave out.
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
            # The next shard begins only after all chips of this one are handed out.
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
            # Checked before decoding, so that a small file cannot fill the memory.
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


def obtain(address: str) -> Path:
    """A file by its path, or by its http(s) address: then it is downloaded, once.

    S2-100K publishes no checksums that we know of: the size that the server states is checked, and
    of a tar its own structure.
    """
    if not address.startswith(("http://", "https://")):
        return Path(address)
    key = hashlib.sha256(address.encode()).hexdigest()[:8]
    path = cache_folder() / "s2-100k" / key / file_name(address)
    if not path.exists():
        download(address, path, _problem)
    return path


def _problem(path: Path) -> str | None:
    """What is wrong with a downloaded file: a tar is read through, another one must hold bytes."""
    if path.name.endswith(".tar.part"):
        try:
            deque(members(path), 0)
        except DataError as error:
            return f"is no shard: {error}"
    return None if path.stat().st_size else "is empty"


def file_name(address: str) -> str:
    """The last part of an address or a path."""
    return urlsplit(address).path.rpartition("/")[2]
