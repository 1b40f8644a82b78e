"""S2-100K: 100,000 Sentinel-2 chips in tar shards, and their features by a frozen network.

SatCLIP trains its location encoder against image networks that stay frozen up to the last layer
(Klemmer et al., arXiv 2311.17179). A chip's features therefore never change: they are computed once
into a memory-mapped array, and every epoch reads them instead of the images.

The dataset is ``torchgeo/s2-100k`` on Hugging Face: ``index.csv`` and 100 tar shards, 78 GB.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from locties import __version__
from locties._util.extras import needs
from locties._util.files import remedy, sha256_of, uninterrupted, written_aside
from locties._util.lock import only_process
from locties._util.registry import Registry, check_counts, device_of, unknown
from locties.data.archive import Member, members
from locties.data.fetch import download
from locties.data.manifest import DataError, cache_folder
from locties.lonlat import check

BANDS, SIDE = 12, 256
SMALLEST = 10_000  # bytes; smaller files hold no data, and SatCLIP skips them
_FORMAT = 1  # of the manifest; raised when an older locties could not continue from it
_KEYS = {"recipe", "shape", "shards", "position", "rows", "damaged", "unindexed", "complete"}
_MANIFEST, _ARRAY, _INDEX = "manifest.json", "features.npy", "index.csv"


# ------------------------------------------------------------------------------ index and chips


@dataclass(frozen=True, eq=False)
class Index:
    """Where the chips are.

    Attributes:
        names: file name of each of N chips.
        lonlat: (N, 2) float64 degrees, their centres.
        content: the index file itself.
    """

    names: tuple[str, ...]
    lonlat: Tensor
    content: bytes

    @property
    def sha256(self) -> str:
        """Hex sha256 of the index file."""
        return hashlib.sha256(self.content).hexdigest()


def read_index(path: str | os.PathLike[str]) -> Index:
    """Read S2-100K's ``index.csv``: a row for each chip, with columns fn, lon and lat.

    Raises:
        DataError: the file is missing or no CSV, lacks a column, names a chip twice or has a wrong
            location; the message names the line.
    """
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
        shard: number of the shard that holds it, from 0.
        member: its number in that shard, from 0.
        row: its row in the index; -1 where it is not in it.
        pixels: (12, 256, 256) uint16, reflectance times 10,000, bands B1 to B8, B8A, B9, B11, B12;
            None where there is a problem.
        problem: why there are no pixels, or None.
    """

    name: str
    shard: int
    member: int
    row: int
    pixels: np.ndarray | None
    problem: str | None


def chips(shards: Iterable[str | os.PathLike[str]], index: Index, skip: int = 0) -> Iterator[Chip]:
    """Every chip of the shards, in their order, read once and straight from the tar.

    Chips are decoded in threads, a few ahead. A damaged chip (under 10 kB, or no GeoTIFF of 12
    bands of 256x256 uint16) has no pixels but a problem; so has a file that is not in the index.

    Args:
        shards: paths of tar archives; each is asked for when the one before is read.
        index: where the chips are.
        skip: files of the first shard to leave out.

    Raises:
        DataError: at a shard that `locties.data.archive.members` refuses.
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
        for shard, path in enumerate(shards):
            for number, member in enumerate(members(path)):
                if shard > 0 or number >= skip:
                    ahead.append(pool.submit(decode, shard, number, member, member.read()))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            # The next shard begins only after all chips of this one are handed out.
            while ahead:
                yield ahead.popleft().result()


def _decode(content: bytes) -> tuple[np.ndarray | None, str | None]:
    """Pixels of a GeoTIFF, or what is wrong with it.

    GDAL decodes the chips' LZW; tifffile would need a second package for it.
    """
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

    S2-100K's chips are of Level-2A, which has no B10; networks trained on all 13 bands of Level-1C
    expect it as channel 10.

    Args:
        pixels: (..., 12, H, W), reflectance times 10,000.

    Returns:
        (..., 13, H, W) float32.

    Example:
        >>> satclip_chip(torch.full((12, 2, 2), 5000))[9:12, 0, 0].tolist()
        [0.5, 0.0, 0.5]
    """
    scaled = pixels.float() / 10_000
    before, after = torch.split(scaled, [10, 2], dim=-3)
    return torch.cat([before, torch.zeros_like(before[..., :1, :, :]), after], dim=-3)


TRANSFORMS = Registry("transform", satclip_chip=satclip_chip)


# --------------------------------------------------------------------------- the frozen backbone


def load_weights(backbone: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load weights into a network, in place. Nothing is unpickled.

    Args:
        backbone: the network.
        path: a ``.safetensors`` file, or what ``torch.save`` wrote of a state dict, which may lie
            under the key "state_dict".

    Returns:
        The network.

    Raises:
        DataError: the file is missing or damaged, or holds anything but tensors.
        ValueError: its tensors do not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Files with code and damaged files fail in many ways.
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is refused: it is damaged, or holds more than tensors ({reason}). Nothing in "
            "it was run. Save the state dict alone, as safetensors"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(f"{path} is refused: it is no state dict, a dict of tensors by name")
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the backbone: {error}") from None
    return backbone


def _weights_hash(backbone: nn.Module) -> str:
    """Hex sha256 of all weights and buffers, with names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


# ----------------------------------------------------------------------------- features, on disk


def features(
    shards: Sequence[str | os.PathLike[str]],
    index: str | os.PathLike[str],
    backbone: nn.Module,
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    transform: str = "satclip_chip",
    batch: int = 64,
    dtype: str = "float32",
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Compute the features of every chip by a frozen network, once, into a memory-mapped array.

    `out` gets ``features.npy`` (a row for each row of the index; NaN where there is no chip),
    ``index.csv`` and ``manifest.json``. Whatever ends the process, the same call goes on after the
    last batch on disk, and on the same machine the array is bit-identical to that of an unbroken
    run.

    Args:
        shards: tar archives: paths, or http(s) addresses, each downloaded into `cache_folder` when
            its turn comes.
        index: S2-100K's ``index.csv``: path or address.
        backbone: takes (B, 13, 256, 256) float32, or what else `transform` gives, and returns
            (B, d). It is put in eval mode and moved to `device`.
        out: folder of the result.
        name: of the backbone in the manifest; default: its class.
        transform: a name in `TRANSFORMS`.
        batch: chips computed at once.
        dtype: of the array, "float32" or "float16".
        device: "auto" takes a GPU where there is one.
        progress: show a bar on stderr.

    Returns:
        The manifest: recipe, shape, shards with sizes and hashes, number of rows done, damaged
        files and their problems, files that are not in the index, number of rows without a chip.

    Raises:
        ValueError: an argument is impossible, the backbone returns another shape, or `out` holds
            features of another recipe; the message says what differs.
        DataError: a missing, refused or altered file, or a full disk; what was computed is kept.
        RuntimeError: another process works in `out`.
        KeyboardInterrupt: after an interrupt; the batch in hand is written first.

    Example:
        >>> features(["shard-00000.tar"], "index.csv", network, "s2")  # doctest: +SKIP
    """
    addresses = [str(shard) for shard in shards]
    names = [_file_name(shard) for shard in addresses]
    twice = sorted({shard for shard in names if names.count(shard) > 1})
    if not names or twice:
        raise ValueError(f"shard {twice[0]} is given twice" if twice else "no shard is given")
    check_counts(batch=batch)
    if dtype not in ("float32", "float16"):
        raise unknown("dtype", dtype, ("float32", "float16"))
    found = read_index(obtain(str(index), cache_folder() / "s2-100k"))
    prepare, chosen, kind = TRANSFORMS[transform], device_of(device), type(backbone)
    recipe = {
        "backbone": name or f"{kind.__module__}:{kind.__qualname__}",
        "weights": _weights_hash(backbone),
        "transform": transform,
        "index": found.sha256,
        "shards": names,
        "batch": batch,  # a row's last bits depend on the rows computed with it
        "dtype": dtype,
        "device": chosen.type,
    }
    compute = partial(_compute, backbone.eval().to(chosen), prepare, chosen, np.dtype(dtype))
    work = _Work(Path(out), addresses, found, recipe, compute)
    work.out.mkdir(parents=True, exist_ok=True)
    with only_process(work.out):
        try:
            return work.run(progress)
        except KeyboardInterrupt:
            done = (read_manifest(work.out) or {"rows": 0})["rows"]
            raise KeyboardInterrupt(
                f"stopped after {done} of {len(found.names)} chips: the same call with "
                f"out={str(work.out)!r} goes on from there"
            ) from None
        except DataError:
            raise
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise DataError(
                f"{work.out}: {cause}. What was computed is safe: {remedy(error)}, and the same "
                "call goes on from there"
            ) from error


@torch.inference_mode()
def _compute(
    backbone: nn.Module, prepare: Any, device: torch.device, dtype: np.dtype, pixels: np.ndarray
) -> np.ndarray:
    """Features (B, d) of chips (B, 12, 256, 256), in the array's dtype."""
    images = torch.from_numpy(pixels.astype(np.float32)).to(device)
    computed = backbone(prepare(images))
    if not isinstance(computed, Tensor) or computed.ndim != 2 or len(computed) != len(pixels):
        found = tuple(computed.shape) if isinstance(computed, Tensor) else type(computed)
        raise ValueError(
            f"the backbone returns {found} for {len(pixels)} chips: it must return one row of "
            "features for each; put torch.nn.Identity() in place of its classifier"
        )
    with np.errstate(over="ignore"):  # the caller finds infinite values
        return computed.float().cpu().numpy().astype(dtype)


@dataclass
class _Work:
    """One call of `features`."""

    out: Path
    shards: list[str]
    index: Index
    recipe: dict[str, Any]
    compute: Callable[[np.ndarray], np.ndarray]

    def run(self, progress: bool) -> dict[str, Any]:
        manifest = self.resume_or_begin()
        if manifest["complete"]:
            return manifest
        with needs("data", "computing features"):
            from tqdm import tqdm

        bar = tqdm(
            total=len(self.index.names),
            initial=manifest["rows"],
            desc=self.recipe["backbone"],
            unit="chip",
            disable=not progress,
        )
        with bar, (self.out / _ARRAY).open("r+b") as array:
            pending: list[Chip] = []
            for chip in self.left(manifest):
                if chip.row < 0:
                    manifest["unindexed"].append(chip.name)
                elif chip.pixels is None:
                    manifest["damaged"].append([chip.name, chip.problem])
                else:
                    pending.append(chip)
                # In memory only: `commit` writes it together with its batch.
                manifest["position"] = [chip.shard, chip.member + 1]
                if len(pending) == self.recipe["batch"]:
                    self.commit(pending, manifest, array)
                    bar.update(len(pending))
                    pending = []
            if pending:
                self.commit(pending, manifest, array)
                bar.update(len(pending))
        if not manifest["rows"]:
            raise DataError(
                f"no chip of {', '.join(self.recipe['shards'][:3])} could be used: "
                f"{len(manifest['unindexed'])} are not in the index, {len(manifest['damaged'])} "
                f"are damaged{_first(manifest['damaged'])}"
            )
        self.finish(manifest)
        return manifest

    def resume_or_begin(self) -> dict[str, Any]:
        """The manifest to go on from; a new one is written with its index and array."""
        manifest = read_manifest(self.out)
        if manifest and (manifest["rows"] or manifest["complete"]):
            recorded: dict[str, Any] = manifest["recipe"]
            for key, wanted in self.recipe.items():
                if recorded[key] != wanted:
                    raise ValueError(
                        f"{self.out} holds features of another {key}: {_brief(recorded[key])} "
                        f"there, {_brief(wanted)} here; choose another folder"
                    )
            _open_array(self.out, manifest)
            return manifest
        index = self.out / _INDEX
        foreign = index.exists() and index.read_bytes() != self.index.content
        if not manifest and (foreign or (self.out / _ARRAY).exists()):
            raise ValueError(
                f"{self.out} holds another {_INDEX if foreign else _ARRAY}, which would be lost; "
                "choose another folder"
            )
        dim = self.compute(np.zeros((2, BANDS, SIDE, SIDE), np.uint16)).shape[1]
        shape = [len(self.index.names), dim]
        manifest = {
            "format": _FORMAT,
            "locties": __version__,
            "recipe": self.recipe,
            "shape": shape,
            "shards": [],  # name, size and sha256 of those begun
            "position": [0, 0],  # shard, and number of its files that are done
            "rows": 0,
            "damaged": [],  # name and problem
            "unindexed": [],
            "missing": None,  # number of rows without a chip
            "complete": False,
        }
        _write(index, self.index.content)
        _write(self.out / _MANIFEST, _json(manifest))
        self.allocate(shape)
        return manifest

    def allocate(self, shape: list[int]) -> None:
        """Write the whole array as NaN, so that a disk too small is noticed now."""
        dtype = np.dtype(self.recipe["dtype"])
        row = np.full(shape[1], np.nan, dtype).tobytes()
        needed = shape[0] * len(row)
        try:
            with written_aside(self.out / _ARRAY) as aside, aside.open("wb") as file:
                header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(file, header)
                for begin in range(0, shape[0], 1024):
                    file.write(row * min(1024, shape[0] - begin))
        except OSError as error:
            free = shutil.disk_usage(self.out).free
            raise DataError(
                f"{self.out} has no room for the features ({error.strerror}): they take "
                f"{needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free. Make room, and start again"
            ) from error

    def left(self, manifest: dict[str, Any]) -> Iterator[Chip]:
        """The chips after the manifest's position."""
        first, skip = manifest["position"]

        def opened() -> Iterator[Path]:
            for number, address in enumerate(self.shards[first:], first):
                path = obtain(address, cache_folder() / "s2-100k")
                if not path.is_file():
                    raise DataError(f"there is no shard {path}")
                sha256 = sha256_of(path)
                found = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256}
                if number == len(manifest["shards"]):
                    manifest["shards"].append(found)
                recorded = manifest["shards"][number]
                if found != recorded:
                    raise DataError(
                        f"{path} has changed since its first chips were read: it had "
                        f"{recorded['bytes']:,} bytes and sha256 {recorded['sha256']}, it has "
                        f"{found['bytes']:,} and {sha256}"
                    )
                yield path

        for chip in chips(opened(), self.index, skip):
            yield replace(chip, shard=chip.shard + first)

    def commit(self, batch: list[Chip], manifest: dict[str, Any], array: Any) -> None:
        """Write the features of one batch, sync them, and then count them in the manifest."""
        computed = self.compute(np.stack([np.asarray(chip.pixels) for chip in batch]))
        finite = np.isfinite(computed).all(axis=1)
        computed[~finite] = np.nan
        start = os.fstat(array.fileno()).st_size - len(self.index.names) * computed[0].nbytes
        with uninterrupted():
            for chip, row, usable in zip(batch, computed, finite, strict=True):
                if not usable:
                    problem = f"its features are not finite in {self.recipe['dtype']}"
                    manifest["damaged"].append([chip.name, problem])
                # Not through a memory map: on a full disk that ends the process without an error.
                array.seek(start + chip.row * row.nbytes)
                array.write(row.tobytes())
            array.flush()
            os.fsync(array.fileno())
            manifest["rows"] += int(finite.sum())
            _write(self.out / _MANIFEST, _json(manifest))

    def finish(self, manifest: dict[str, Any]) -> None:
        """Count the rows without a chip, and mark the manifest as complete."""
        array = _open_array(self.out, manifest)
        empty = np.flatnonzero(np.isnan(array[:, 0]))
        manifest["rows"] = len(array) - len(empty)  # a chip found twice counts once
        damaged = {name for name, _ in manifest["damaged"]}
        manifest["missing"] = sum(self.index.names[row] not in damaged for row in empty)
        manifest["complete"] = True
        _write(self.out / _MANIFEST, _json(manifest))


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The manifest of features in a folder, or None where there is none."""
    path = Path(folder) / _MANIFEST
    if not path.exists():
        return None
    altered = DataError(f"{path} is altered; delete {folder} and compute it again")
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        written = manifest["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise altered from None
    if written != _FORMAT:
        raise DataError(f"{path} has format {written}, locties {__version__} reads {_FORMAT}")
    if not manifest.keys() >= _KEYS:
        raise altered
    return manifest


def read_features(folder: str | os.PathLike[str]) -> tuple[Index, Tensor]:
    """The index and the features in a folder that `features` wrote.

    Returns:
        The index of N chips, and (N, d) features, mapped from the file and read only where they
        are used; a row is NaN where there is no chip.

    Raises:
        DataError: they are missing, unfinished or altered.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} holds no features; run: locties s2 features --out {folder}")
    if not manifest["complete"]:
        raise DataError(
            f"{folder} is unfinished ({manifest['rows']:,} chips done); run the same "
            "`locties s2 features` again: it goes on from there"
        )
    index = read_index(folder / _INDEX)
    if index.sha256 != manifest["recipe"]["index"]:
        raise DataError(f"{folder / _INDEX} is altered; delete {folder} and compute it again")
    return index, torch.from_numpy(_open_array(folder, manifest))


def ask_for(folder: str | os.PathLike[str], features: Tensor, rows: Tensor) -> None:
    """Ask the system to read rows that will be used soon, all at once; returns immediately.

    Otherwise each row that is not in memory would be waited for, and read with much around it.

    Args:
        folder: that `read_features` read.
        features: (N, d) from there.
        rows: (B,) int64.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    size = features[0].nbytes
    handle = os.open(Path(folder) / _ARRAY, os.O_RDONLY)
    try:
        begin = os.fstat(handle).st_size - len(features) * size
        for row in rows.tolist():
            os.posix_fadvise(handle, begin + row * size, size, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(handle)


def _open_array(folder: Path, manifest: dict[str, Any]) -> np.ndarray:
    """The features, mapped from the file."""
    path = folder / _ARRAY
    remedy = f"delete {folder} and compute it again"
    try:
        # Copy on write, so that nothing can change the file: torch has no read-only tensors.
        array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is missing or altered ({error}); {remedy}") from None
    if [*array.shape, str(array.dtype)] != [*manifest["shape"], manifest["recipe"]["dtype"]]:
        raise DataError(f"{path} is altered: it holds {array.dtype} {array.shape}; {remedy}")
    return array


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _first(problems: list[list[str]]) -> str:
    return f", the first: {problems[0][0]} {problems[0][1]}" if problems else ""


def _json(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    with written_aside(path) as aside:
        aside.write_bytes(content)


# ----------------------------------------------------------------------------------- the download


def obtain(address: str, folder: Path) -> Path:
    """A file by its path, or by its http(s) address: then it is downloaded into `folder`, once.

    S2-100K publishes no checksums that we know of, so a file is checked against the size that the
    server states, and a tar against its own structure.
    """
    if not address.startswith(("http://", "https://")):
        return Path(address)
    key = hashlib.sha256(address.encode()).hexdigest()[:8]
    path = folder / key / _file_name(address)
    if not path.exists():
        download(address, path, _archive_problem if path.suffix == ".tar" else _empty)
    return path


def _archive_problem(path: Path) -> str | None:
    try:
        for _ in members(path):
            pass
    except DataError as error:
        return f"is no shard: {error}"
    return None


def _empty(path: Path) -> str | None:
    return None if path.stat().st_size else "is empty"


def _file_name(address: str) -> str:
    return urlsplit(address).path.rpartition("/")[2]
