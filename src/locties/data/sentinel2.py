"""S2-100K: 100,000 Sentinel-2 chips in tar shards.

The dataset is ``torchgeo/s2-100k`` on Hugging Face: ``index.csv`` and 100 tar shards, 78 GB.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from locties._util.extras import needs
from locties._util.files import sha256_of
from locties.data.archive import Member, members
from locties.data.fetch import download
from locties.data.frozen import Item, ahead, as_it_is
from locties.data.frozen_folder import INDEX, read_index
from locties.data.manifest import DataError, cache_folder

BANDS, SIDE = 12, 256
SMALLEST = 10_000  # bytes; smaller files hold no data, and SatCLIP skips them
RED_GREEN_BLUE = [3, 2, 1]  # B4, B3, B2
WHITE = 3000  # reflectance of 0.3, above which almost only clouds and snow lie


def true_colour(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 of a chip (12, H, W): B4, B3, B2, reflectance 0 to 0.3.

    Example:
        >>> true_colour(np.full((12, 1, 1), 1500, np.uint16)).tolist()
        [[[127, 127, 127]]]
    """
    bands = pixels[RED_GREEN_BLUE].transpose(1, 2, 0)
    return (np.minimum(bands, WHITE).astype(np.float32) * (255 / WHITE)).astype(np.uint8)


class Chips:
    """Chips of 12 bands in tar shards or folders, for `locties.data.frozen.features`.

    Args:
        shards: paths or http(s) addresses of tar archives, or folders of .tif files; each address
            is downloaded into the cache folder when it is needed.
        index: path or address of S2-100K's ``index.csv``; by default the one in the first folder.
    """

    kind = "chips"
    forms: Mapping[str, Callable[[Any], Any]] = {"chips": as_it_is, "images": true_colour}

    def __init__(
        self,
        shards: Sequence[str | os.PathLike[str]],
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        self.shards = [str(shard) for shard in shards]
        names = [file_name(shard) for shard in self.shards]
        if not names:
            raise ValueError("no shard is given")
        if len(set(names)) < len(names):
            raise ValueError(f"shard {Counter(names).most_common(1)[0][0]} is given twice")
        if index is None:
            if not Path(self.shards[0]).is_dir():
                raise ValueError(
                    f"{self.shards[0]} is not a folder with {INDEX}: pass index='FILE'"
                )
            index = Path(self.shards[0]) / INDEX
        self.index = read_index(obtain(str(index)))
        self.rows = {name: row for row, name in enumerate(self.index.names)}
        self.recipe = {"shards": names}
        self.unusable: list[tuple[str, str]] = []

    def items(self, manifest: dict[str, Any]) -> Iterator[Item]:
        """Every chip after the manifest's position; each shard is requested when it is begun.

        A damaged chip (under 10 kB, or not a GeoTIFF of 12 bands of 256x256 uint16) has a problem
        instead of pixels. So does a file that is not in the index.
        """
        first, skip = manifest["position"] or (0, 0)
        for number, address in enumerate(self.shards[first:], first):
            path = obtain(address)
            _check_unchanged(path, number, manifest.setdefault("shards", []))
            yield from ahead(self._jobs(path, number, skip if number == first else 0))

    def _jobs(self, path: Path, shard: int, skip: int) -> Iterator[Callable[[], Item]]:
        for number, member in enumerate(_members(path)):
            if number >= skip:
                yield partial(self._decode, member.name, [shard, number + 1], member.read())

    def _decode(self, path: str, after: list[int], content: bytes) -> Item:
        name = path.rpartition("/")[2]
        if name not in self.rows:
            return Item(name, -1, after, None, "is not in the index")
        return Item(name, self.rows[name], after, *_decode(content))


def _members(path: Path) -> Iterator[Member]:
    """The files of a tar archive, or the .tif files of a folder by name."""
    if not path.is_dir():
        yield from members(path)
        return
    for file in sorted(path.glob("*.tif")):
        yield Member(file.name, file.stat().st_size, file.read_bytes)


def _check_unchanged(path: Path, number: int, recorded: list[dict[str, Any]]) -> None:
    """Record size and sha256 of a shard when it is begun; DataError if it has changed since."""
    if path.is_dir():
        files = [(file.name, sha256_of(file)) for file in sorted(path.glob("*.tif"))]
        size = sum((path / name).stat().st_size for name, _ in files)
        sha256 = hashlib.sha256(repr(files).encode()).hexdigest()
    elif path.is_file():
        size, sha256 = path.stat().st_size, sha256_of(path)
    else:
        raise DataError(f"there is no shard {path}")
    if number == len(recorded):
        recorded.append({"name": path.name, "bytes": size, "sha256": sha256})
    before = recorded[number]
    if (before["bytes"], before["sha256"]) != (size, sha256):
        raise DataError(
            f"{path} has changed since its first chips were read: it had {before['bytes']:,} bytes "
            f"and sha256 {before['sha256']}, it has {size:,} and {sha256}"
        )


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
    return urlsplit(address).path.rstrip("/").rpartition("/")[2]
