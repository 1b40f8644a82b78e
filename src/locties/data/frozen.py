"""Compute features of Sentinel-2 chips with a frozen network, once.

SatCLIP's image networks are frozen up to the last layer (Klemmer et al., arXiv 2311.17179), so a
chip's features never change. They are written once to a memory-mapped array, and every epoch reads
it instead of the images.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from locties import __version__
from locties._util.extras import needs
from locties._util.files import remedy, sha256_of, uninterrupted, written_aside
from locties._util.lock import only_process
from locties._util.registry import check_counts, device_of, unknown
from locties._util.weights import read_weights
from locties.data.manifest import DataError
from locties.data.sentinel2 import (
    ARRAY,
    BANDS,
    FORMAT,
    INDEX,
    SIDE,
    TRANSFORMS,
    Chip,
    Index,
    chips,
    file_name,
    obtain,
    open_array,
    read_index,
    read_manifest,
    write_manifest,
)


def load_weights(backbone: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load weights into a network, in place, and return it. No code in the file is run.

    `path` is a ``.safetensors`` file, or a state dict written by ``torch.save``, possibly under the
    key "state_dict".
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file of weights {path}")
    state, _ = read_weights(path)
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
    """Compute the features of every chip with a frozen network into a memory-mapped array.

    `out` gets ``features.npy`` (a row for each row of the index; NaN if there is no chip),
    ``index.csv`` and ``manifest.json``. If the process ends, the same call resumes after the last
    batch on disk. On the same machine the array is bit-identical to that of an unbroken run.

    Args:
        shards: paths or http(s) addresses of tar archives; each address is downloaded into the
            cache folder when it is needed.
        index: S2-100K's ``index.csv``: path or address.
        backbone: a network from (B, 13, 256, 256) float32, or from the output of `transform`, to
            (B, d). It is put in eval mode and moved to `device`.
        out: folder of the result.
        name: name of the backbone in the manifest; default: its class.
        transform: a name in `TRANSFORMS`.
        batch: chips computed at once.
        dtype: type of the array, "float32" or "float16".
        device: "auto" takes a GPU if there is one.
        progress: show a bar on stderr.

    Returns:
        The manifest: recipe, shape, shards with sizes and hashes, number of rows done, damaged
        files and their problems, files that are not in the index, number of rows without a chip.
    """
    addresses = [str(shard) for shard in shards]
    names = [file_name(shard) for shard in addresses]
    if not names:
        raise ValueError("no shard is given")
    if len(set(names)) < len(names):
        raise ValueError(f"shard {Counter(names).most_common(1)[0][0]} is given twice")
    check_counts(batch=batch)
    if dtype not in ("float32", "float16"):
        raise unknown("dtype", dtype, ("float32", "float16"))
    found = read_index(obtain(str(index)))
    prepare, chosen, kind = TRANSFORMS[transform], device_of(device), type(backbone)
    recipe = {
        "backbone": name or f"{kind.__module__}:{kind.__qualname__}",
        "weights": _weights_hash(backbone),
        "transform": transform,
        "index": found.sha256,
        "shards": names,
        "batch": batch,  # the last bits of a row depend on its batch
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
                f"out={str(work.out)!r} resumes"
            ) from None
        except DataError:
            raise
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise DataError(
                f"{work.out}: {cause}. Computed features are kept: {remedy(error)}, and the same "
                "call resumes"
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
        with needs("data", "computing features"):
            from tqdm import tqdm

        manifest = self.resume() or self.begin()
        if manifest["complete"]:
            return manifest
        total, done = len(self.index.names), manifest["rows"]
        name = self.recipe["backbone"]
        bar = tqdm(total=total, initial=done, desc=name, unit="chip", disable=not progress)
        with bar, (self.out / ARRAY).open("r+b") as array:
            pending: list[Chip] = []
            for chip in chips(self.opened(manifest), self.index, *manifest["position"]):
                if chip.row < 0:
                    manifest["unindexed"].append(chip.name)
                elif chip.pixels is None:
                    manifest["damaged"].append([chip.name, chip.problem])
                else:
                    pending.append(chip)
                # Only in memory: `commit` writes it together with its batch.
                manifest["position"] = [chip.shard, chip.member + 1]
                if len(pending) == self.recipe["batch"]:
                    self.commit(pending, manifest, array)
                    bar.update(len(pending))
                    pending.clear()
            if pending:
                self.commit(pending, manifest, array)
                bar.update(len(pending))
        if not manifest["rows"]:
            damaged = manifest["damaged"]
            raise DataError(
                f"no chip of {', '.join(self.recipe['shards'][:3])} could be used: "
                f"{len(manifest['unindexed'])} are not in the index, {len(damaged)} are damaged"
                + (f", the first: {' '.join(damaged[0])}" if damaged else "")
            )
        self.finish(manifest)
        return manifest

    def resume(self) -> dict[str, Any] | None:
        """The manifest to resume from; None if nothing is computed yet."""
        manifest = read_manifest(self.out)
        if not manifest:
            index, array = self.out / INDEX, self.out / ARRAY
            foreign = index.exists() and index.read_bytes() != self.index.content
            if foreign or array.exists():
                raise ValueError(
                    f"{self.out} holds another {INDEX if foreign else ARRAY}, which would be "
                    "lost; choose another folder"
                )
            return None
        if not manifest["rows"] and not manifest["complete"]:
            return None
        for key, wanted in self.recipe.items():
            recorded = manifest["recipe"][key]
            if recorded != wanted:
                there, here = (textwrap.shorten(str(each), 80) for each in (recorded, wanted))
                raise ValueError(
                    f"{self.out} holds features of another {key}: {there} there, {here} here; "
                    "choose another folder"
                )
        open_array(self.out, manifest)
        return manifest

    def begin(self) -> dict[str, Any]:
        """Write the index, a new manifest and an empty array."""
        dim = self.compute(np.zeros((2, BANDS, SIDE, SIDE), np.uint16)).shape[1]
        shape = [len(self.index.names), dim]
        manifest = {
            "format": FORMAT,
            "locties": __version__,
            "recipe": self.recipe,
            "shape": shape,
            "shards": [],  # name, size and sha256 of each shard begun
            "position": [0, 0],  # shard, and number of its files done
            "rows": 0,
            "damaged": [],  # name and problem
            "unindexed": [],
            "missing": None,  # number of rows without a chip
            "sha256": None,  # of the array, once it is complete
            "complete": False,
        }
        with written_aside(self.out / INDEX) as aside:
            aside.write_bytes(self.index.content)
        write_manifest(self.out, manifest)
        # Write the whole array as NaN, so that a full disk is noticed now.
        dtype = np.dtype(self.recipe["dtype"])
        row = np.full(shape[1], np.nan, dtype).tobytes()
        try:
            with written_aside(self.out / ARRAY) as aside, aside.open("wb") as file:
                header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(file, header)
                for begin in range(0, shape[0], 1024):
                    file.write(row * min(1024, shape[0] - begin))
        except OSError as error:
            needed, free = shape[0] * len(row) / 1e6, shutil.disk_usage(self.out).free / 1e6
            raise DataError(
                f"{self.out} has no room for the features ({error.strerror}): they take "
                f"{needed:,.1f} MB, {free:,.1f} MB are free. Make room, and start again"
            ) from error
        return manifest

    def opened(self, manifest: dict[str, Any]) -> Iterator[Path]:
        """The shards from the manifest's position on; DataError if one has changed."""
        first = manifest["position"][0]
        for number, address in enumerate(self.shards[first:], first):
            path = obtain(address)
            if not path.is_file():
                raise DataError(f"there is no shard {path}")
            size, sha256 = path.stat().st_size, sha256_of(path)
            found = {"name": path.name, "bytes": size, "sha256": sha256}
            if number == len(manifest["shards"]):
                manifest["shards"].append(found)
            recorded = manifest["shards"][number]
            if found != recorded:
                raise DataError(
                    f"{path} has changed since its first chips were read: it had "
                    f"{recorded['bytes']:,} bytes and sha256 {recorded['sha256']}, it has "
                    f"{size:,} and {sha256}"
                )
            yield path

    def commit(self, batch: list[Chip], manifest: dict[str, Any], array: Any) -> None:
        """Write and sync the features of one batch, then count them in the manifest."""
        computed = self.compute(np.stack([np.asarray(chip.pixels) for chip in batch]))
        finite = np.isfinite(computed).all(axis=1)
        computed[~finite] = np.nan
        start = os.fstat(array.fileno()).st_size - len(self.index.names) * computed[0].nbytes
        with uninterrupted():
            for chip, row, usable in zip(batch, computed, finite, strict=True):
                if not usable:
                    problem = f"its features are not finite in {self.recipe['dtype']}"
                    manifest["damaged"].append([chip.name, problem])
                # Not through a memory map: on a full disk, it ends the process without an error.
                array.seek(start + chip.row * row.nbytes)
                array.write(row.tobytes())
            array.flush()
            os.fsync(array.fileno())
            manifest["rows"] += int(finite.sum())
            write_manifest(self.out, manifest)

    def finish(self, manifest: dict[str, Any]) -> None:
        """Count the rows without a chip, and mark the manifest as complete."""
        array = open_array(self.out, manifest)
        empty = np.flatnonzero(np.isnan(array[:, 0]))
        manifest["rows"] = len(array) - len(empty)  # a chip found twice counts once
        damaged = {name for name, _ in manifest["damaged"]}
        manifest["missing"] = sum(self.index.names[row] not in damaged for row in empty)
        manifest["sha256"] = sha256_of(self.out / ARRAY)
        manifest["complete"] = True
        write_manifest(self.out, manifest)
