"""Photographs with positions, from a table or from the EXIF data of a folder of pictures."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from locties._util.extras import needs
from locties._util.files import DataError
from locties.data.frozen import Item, ahead, as_it_is, nothing_usable
from locties.data.frozen_folder import make_index

with needs("data,own", "photos"):
    from PIL import Image, ImageOps
    from PIL.ExifTags import GPS, IFD
    from tqdm import tqdm

    from locties.apply.tables import coordinates, one_column, read_table, unusable_rows

# A folder's other files are left alone. Those that PIL cannot decode are named, not skipped.
PICTURES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"),
    *(".heic", ".heif", ".dng", ".cr2", ".nef", ".arw"),
)
COLUMNS = ("path", "file", "filename", "file_name", "image", "photo", "picture", "fn")
MODES = ("RGB", "L", "P", "RGBA", "LA", "1")  # 8 bits a colour; others need a choice
SHORT = 512  # pixels; larger photographs are scaled down, so that a batch fits into memory


class Photos:
    """Photographs for `locties.data.frozen.features`.

    A file that cannot be used is named with its reason: it is missing, empty, truncated, animated,
    larger than PIL allows, in 16 bits or CMYK, or its position is missing or cannot be right.

    Args:
        source: a folder, whose pictures (also in subfolders) have EXIF positions; or a table, as
            for `locties.read_task`, with a column of paths, relative to the table.
        path: column of paths; guessed by default.
        lon: column of longitudes; guessed by default.
        lat: column of latitudes.
        progress: show a bar on stderr while positions are read.
    """

    kind = "photos"
    forms: Mapping[str, Callable[[Any], Any]] = {"images": as_it_is}

    def __init__(
        self,
        source: Any,
        *,
        path: str | None = None,
        lon: str | None = None,
        lat: str | None = None,
        progress: bool = True,
    ) -> None:
        if isinstance(source, str | Path) and Path(source).is_dir():
            for argument, given in {"path": path, "lon": lon, "lat": lat}.items():
                if given is not None:
                    raise ValueError(f"{argument}={given!r}: a folder has no columns; pass a table")
            self.folder, name = Path(source), Path(source).resolve().name
            found = _in_folder(self.folder, progress)
        else:
            is_file = isinstance(source, str | Path)
            self.folder = Path(source).parent if is_file else Path()
            name = Path(source).name if is_file else "a table"
            found = _in_table(read_table(source), path, lon, lat)
        self.unusable: list[tuple[str, str]] = []
        names: list[str] = []
        places: list[tuple[float, float]] = []
        self.sizes: list[int] = []
        seen: set[str] = set()
        for file, place, problem in found:
            problem = problem or _file_problem(self.folder / file)
            if problem is None and file in seen:
                problem = "is given twice"
            if problem is not None or place is None:
                self.unusable.append((file, str(problem)))
                continue
            seen.add(file)
            names.append(file)
            places.append(place)
            self.sizes.append((self.folder / file).stat().st_size)
        if not names:
            raise DataError(nothing_usable(self.kind, source, self.unusable))
        self.index = make_index(names, np.array(places), bytes=self.sizes)
        self.recipe: dict[str, Any] = {"name": name}

    def items(self, manifest: dict[str, Any]) -> Iterator[Item]:
        """The photos after the manifest's position."""
        (begin,) = manifest["position"] or (0,)
        return ahead(partial(self._read, row) for row in range(begin, len(self.index.names)))

    def _read(self, row: int) -> Item:
        name = self.index.names[row]
        path = self.folder / name
        if not path.is_file() or path.stat().st_size != self.sizes[row]:
            raise DataError(f"{path} has changed since the run began: begin in another folder")
        return Item(name, row, [row + 1], *read_photo(path))


def read_photo(path: Path) -> tuple[np.ndarray | None, str | None]:
    """Pixels (H, W, 3) uint8 of a picture, upright, or what is wrong with it.

    A picture whose shorter side has more than `SHORT` pixels is scaled down to it.
    """
    try:
        with (
            warnings.catch_warnings(category=Image.DecompressionBombWarning, action="ignore"),
            Image.open(path) as image,
        ):
            # MPO is a photo with a second one, such as a preview, behind it.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                return None, "is animated or has several pages: save one of them"
            if image.mode not in MODES:
                return None, f"has colours of the mode {image.mode}: save it as RGB with 8 bits"
            short, long = sorted(image.size)
            # A JPEG is decoded at half its size, or less, if that is still large enough.
            image.draft(image.mode, (SHORT, SHORT * long // short))
            picture = ImageOps.exif_transpose(image).convert("RGB")
            scale = SHORT / min(picture.size)
            if scale < 1:
                size = [round(side * scale) for side in picture.size]
                picture = picture.resize(size, Image.Resampling.BICUBIC)
            return np.asarray(picture), None
    except Exception as error:  # a damaged file can fail in any way inside PIL
        return None, f"cannot be read: {error}"


def _in_folder(
    folder: Path, progress: bool
) -> Iterator[tuple[str, tuple[float, float] | None, str | None]]:
    """Names of the pictures in a folder, and the place of each or what is wrong with it."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    for path in tqdm(paths, "positions", unit="photo", file=sys.stderr, disable=not progress):
        name = path.relative_to(folder).as_posix()
        problem = _file_problem(path)
        yield (name, None, problem) if problem else (name, *exif_place(path))


def _in_table(
    frame: Any, path: str | None, lon: str | None, lat: str | None
) -> Iterator[tuple[str, tuple[float, float] | None, str | None]]:
    """Names of the pictures in a table, and the place of each or what is wrong with it."""
    column = one_column(frame, path, COLUMNS, "path")
    lonlat, problems = coordinates(frame, lon, lat)
    faults = unusable_rows(problems)
    for row, (name, (x, y)) in enumerate(zip(frame[column], lonlat.tolist(), strict=True)):
        if not isinstance(name, str) or not name.strip():
            yield f"row {row}", None, "has no path"
        else:
            yield (name, None, faults[row]) if row in faults else (name, (x, y), None)


def _file_problem(path: Path) -> str | None:
    """Why a file cannot hold a photo, or None."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8: rename it"
    if not path.is_file():
        return "is not a file" if path.exists() else "is not there"
    return None if path.stat().st_size else "is empty (0 bytes)"


def exif_place(path: Path) -> tuple[tuple[float, float] | None, str | None]:
    """Longitude and latitude of a picture from its EXIF data, or why there are none.

    Example:
        >>> exif_place(Path("no_such.jpg"))
        (None, "cannot be read: [Errno 2] No such file or directory: 'no_such.jpg'")
    """
    try:
        with (
            warnings.catch_warnings(category=Image.DecompressionBombWarning, action="ignore"),
            Image.open(path) as image,
        ):
            tags = dict(image.getexif().get_ifd(IFD.GPSInfo))
    except Exception as error:  # as in `read_photo`
        return None, f"cannot be read: {error}"
    if GPS.GPSLatitude not in tags or GPS.GPSLongitude not in tags:
        return None, "has no position in its EXIF data"
    if _text(tags, GPS.GPSStatus) == "V":
        return None, "has a position that its camera calls void"
    datum = _text(tags, GPS.GPSMapDatum)
    if datum.replace("-", "").replace(" ", "").replace("_", "") not in ("", "WGS84"):
        return None, f"has a position in the datum {datum!r}, not WGS-84"
    lon = _degrees(tags, GPS.GPSLongitude, GPS.GPSLongitudeRef, "EW")
    lat = _degrees(tags, GPS.GPSLatitude, GPS.GPSLatitudeRef, "NS")
    for each in (lon, lat):
        if isinstance(each, str):
            return None, each
    assert isinstance(lon, float)
    assert isinstance(lat, float)
    if lon == lat == 0:
        return None, "lies at 0, 0, which cameras write when they do not know the place"
    if abs(lat) > 90 or abs(lon) > 180:
        return None, f"lies at longitude {lon:g}, latitude {lat:g}, which is nowhere"
    return (lon, lat), None


def _text(tags: Mapping[int, Any], tag: int) -> str:
    value = tags.get(tag, "")
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ").upper()


def _degrees(tags: Mapping[int, Any], tag: int, sign: int, letters: str) -> float | str:
    """Decimal degrees from degrees, minutes, seconds and a letter, or what is wrong with these."""
    letter = _text(tags, sign)
    if letter not in tuple(letters):
        said = f"the letter {letter!r}" if letter else "no letter"
        return f"has a position with {said} where {letters[0]} or {letters[1]} must be"
    try:
        parts = [float(part) for part in tags[tag]]
    except (TypeError, ValueError, ZeroDivisionError):
        parts = []
    if len(parts) != 3 or not all(math.isfinite(part) and part >= 0 for part in parts):
        return f"has a position that is not degrees, minutes, seconds: {tags[tag]}"
    degrees, minutes, seconds = parts
    size = degrees + minutes / 60 + seconds / 3600
    return -size if letter == letters[1] else size
