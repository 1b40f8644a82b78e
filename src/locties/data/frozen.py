"""Compute the features of chips, photographs or texts with a frozen encoder, once.

SatCLIP's image networks are frozen up to the last layer (Klemmer et al., arXiv 2311.17179), so a
chip's features never change. They are written once to a memory-mapped array, and every epoch reads
it instead of the images.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from locties import __version__
from locties._util.extras import needs
from locties._util.files import DataError, remedy, sha256_of, uninterrupted, written_aside
from locties._util.lock import only_process
from locties._util.registry import check_choice, check_counts
from locties.data.frozen_encoders import FrozenEncoder
from locties.data.frozen_folder import (
    ARRAY,
    FORMAT,
    INDEX,
    Index,
    open_array,
    read_manifest,
    write_manifest,
)


@dataclass(frozen=True, eq=False)
class Item:
    """One chip, photograph or text.

    Attributes:
        name: its name in the index and in messages.
        row: its row in the index; -1 if it is not there.
        after: position of the next item, from which a resumed run continues; only the source
            interprets these numbers.
        content: what an encoder reads.
        problem: why there is no content.
    """

    name: str
    row: int
    after: list[int]
    content: Any
    problem: str | None = None


class Source(Protocol):
    """Chips, photographs or texts, each at a place.

    Attributes:
        kind: "chips", "photos" or "texts".
        index: their names and places.
        recipe: whatever else distinguishes this source from another, as JSON.
        unusable: names and problems of the items that were left out of the index.
        forms: for each kind of `FrozenEncoder` that can read this source, the function that
            prepares an item's content for it.
    """

    kind: str
    index: Index
    recipe: dict[str, Any]
    unusable: list[tuple[str, str]]
    forms: Mapping[str, Callable[[Any], Any]]

    def items(self, manifest: dict[str, Any]) -> Iterator[Item]:
        """The items after ``manifest["position"]``, in order."""


def as_it_is(content: Any) -> Any:
    """The content unchanged: the form for encoders that need no other."""
    return content


def in_order(index: Index, contents: Sequence[Any], manifest: Mapping[str, Any]) -> Iterator[Item]:
    """The items after the manifest's position, of contents in memory."""
    (begin,) = manifest["position"] or (0,)
    for row in range(begin, len(contents)):
        yield Item(index.names[row], row, [row + 1], contents[row])


def ahead(jobs: Iterable[Callable[[], Item]]) -> Iterator[Item]:
    """Run jobs in threads, a few ahead, and yield their results in order."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Any] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def nothing_usable(kind: str, source: Any, unusable: Sequence[Sequence[str]]) -> str:
    """The message about a source without a usable item."""
    where = source if isinstance(source, str | Path) else "the table"
    if not unusable:
        return f"{where} holds no {kind}"
    first = "; ".join(": ".join(each) for each in unusable[:3])
    more = f"; and {len(unusable) - 3:,} more" if len(unusable) > 3 else ""
    return f"none of {len(unusable):,} {kind} of {where} can be used. {first}{more}"


def features(
    source: Source,
    encoder: FrozenEncoder,
    output: str | os.PathLike[str],
    *,
    batch: int = 64,
    dtype: str = "float32",
    progress: bool = True,
) -> dict[str, Any]:
    """Compute the features of all of a source with a frozen encoder into a memory-mapped array.

    `output` gets ``features.npy`` (a row for each row of the index; NaN if it has no features),
    ``index.csv`` and ``manifest.json``. If the process ends, the same call resumes after the last
    batch on disk. On the same machine the array is bit-identical to that of an unbroken run.

    Args:
        source: `locties.data.sentinel2.Chips`, `locties.data.photos.Photos` or
            `locties.data.texts.Texts`.
        encoder: from `locties.data.frozen_encoders.frozen_encoder`.
        output: folder of the result.
        batch: items computed at once.
        dtype: type of the array, "float32" or "float16".
        progress: show a bar on stderr.

    Returns:
        The manifest: source and encoder, shape, number of rows done, names of unusable items and
        their problems, number of rows of the index that no item had.
    """
    check_counts(batch=batch)
    check_choice("dtype", dtype, ("float32", "float16"))
    if encoder.kind not in source.forms:
        raise ValueError(
            f"encoder={encoder.name!r} reads {encoder.kind}, not {source.kind}: pass another"
        )
    if Path(output).is_file():
        raise ValueError(f"output={str(output)!r} is a file: pass a new folder")
    recipe = {
        "source": {"kind": source.kind, **source.recipe, "index": source.index.sha256},
        "encoder": {
            "name": encoder.name,
            "version": encoder.version,
            "sha256": encoder.sha256,
            "reads": encoder.kind,
        },
        # The last bits of a row depend on its batch.
        "settings": {"batch": batch, "dtype": dtype, "device": encoder.device},
    }
    work = _Work(Path(output), source, encoder, recipe)
    work.out.mkdir(parents=True, exist_ok=True)
    with only_process(work.out):
        try:
            return work.run(progress)
        except KeyboardInterrupt:
            done = (read_manifest(work.out) or {"rows": 0})["rows"]
            raise KeyboardInterrupt(
                f"stopped after {done} of {len(source.index.names)} {source.kind}: the same call "
                f"with output={str(work.out)!r} resumes"
            ) from None
        except DataError:
            raise
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise DataError(
                f"{work.out}: {cause}. Computed features are kept: {remedy(error)}, and the same "
                "call resumes"
            ) from error


@dataclass
class _Work:
    """One call of `features`."""

    out: Path
    source: Source
    encoder: FrozenEncoder
    recipe: dict[str, dict[str, Any]]

    def run(self, progress: bool) -> dict[str, Any]:
        with needs("data", "computing features"):
            from tqdm import tqdm

        manifest = self.resume() or self.new_manifest()
        if manifest["complete"]:
            return manifest
        total, done = len(self.source.index.names), manifest["rows"]
        unit = self.source.kind.removesuffix("s")
        bar = tqdm(
            total=total, initial=done, desc=self.encoder.name, unit=unit, disable=not progress
        )
        with bar:
            pending: list[Item] = []
            for item in self.source.items(manifest):
                if item.problem:
                    manifest["unusable"].append([item.name, item.problem])
                else:
                    pending.append(item)
                # Only in memory: `commit` writes it together with its batch.
                manifest["position"] = item.after
                if len(pending) == self.recipe["settings"]["batch"]:
                    self.commit(pending, manifest)
                    bar.update(len(pending))
                    pending.clear()
            if pending:
                self.commit(pending, manifest)
                bar.update(len(pending))
        if not manifest["rows"]:
            raise DataError(nothing_usable(self.source.kind, "the source", manifest["unusable"]))
        self.finish(manifest)
        return manifest

    def resume(self) -> dict[str, Any] | None:
        """The manifest to resume from; None if nothing is computed yet."""
        manifest = read_manifest(self.out)
        if not manifest:
            index, array = self.out / INDEX, self.out / ARRAY
            foreign = index.exists() and index.read_bytes() != self.source.index.content
            if foreign or array.exists():
                raise ValueError(
                    f"{self.out} holds another {INDEX if foreign else ARRAY}, which would be "
                    "lost; choose another folder"
                )
            return None
        if not manifest["rows"] and not manifest["complete"]:
            return None
        for part, wanted in self.recipe.items():
            for key in dict.fromkeys([*wanted, *manifest[part]]):
                values = (manifest[part].get(key), wanted.get(key))
                if values[0] != values[1]:
                    there, here = (textwrap.shorten(str(value), 80) for value in values)
                    raise ValueError(
                        f"{self.out} holds features of another {part}: {key} {there} there, "
                        f"{here} here; choose another folder"
                    )
        open_array(self.out, manifest)
        return manifest

    def new_manifest(self) -> dict[str, Any]:
        """The manifest before the first batch."""
        return {
            "format": FORMAT,
            "locties": __version__,
            **self.recipe,
            "shape": None,
            "position": [],  # where to go on
            "rows": 0,
            "unusable": [list(each) for each in self.source.unusable],  # name and problem
            "missing": None,  # number of rows that no item had
            "sha256": None,  # of the array, once it is complete
            "complete": False,
        }

    def begin(self, manifest: dict[str, Any], dim: int) -> None:
        """Write the index, the manifest without a row, and an empty array."""
        manifest["shape"] = shape = [len(self.source.index.names), dim]
        with written_aside(self.out / INDEX) as aside:
            aside.write_bytes(self.source.index.content)
        write_manifest(self.out, manifest)
        # Write the whole array as NaN, so that a full disk is noticed now.
        dtype = np.dtype(self.recipe["settings"]["dtype"])
        row = np.full(dim, np.nan, dtype).tobytes()
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

    def commit(self, batch: list[Item], manifest: dict[str, Any]) -> None:
        """Write and sync the features of one batch, then count them in the manifest."""
        form = self.source.forms[self.encoder.kind]
        exact = self.encoder([form(item.content) for item in batch])
        if manifest["shape"] is None:
            self.begin(manifest, exact.shape[1])
        if exact.shape[1] != manifest["shape"][1]:
            raise ValueError(
                f"{self.encoder.name} returns {exact.shape[1]} features for an item, and returned "
                f"{manifest['shape'][1]} before: it must return equally many for every item"
            )
        dtype = self.recipe["settings"]["dtype"]
        with np.errstate(over="ignore"):
            computed = exact.astype(dtype)
        finite = np.isfinite(computed).all(axis=1)
        computed[~finite] = np.nan
        with uninterrupted(), (self.out / ARRAY).open("r+b") as array:
            start = os.fstat(array.fileno()).st_size - manifest["shape"][0] * computed[0].nbytes
            for item, row, usable in zip(batch, computed, finite, strict=True):
                if not usable:
                    problem = f"its features are not finite in {dtype}"
                    manifest["unusable"].append([item.name, problem])
                # Not through a memory map: on a full disk, it ends the process without an error.
                array.seek(start + item.row * row.nbytes)
                array.write(row.tobytes())
            array.flush()
            os.fsync(array.fileno())
            manifest["rows"] += int(finite.sum())
            write_manifest(self.out, manifest)

    def finish(self, manifest: dict[str, Any]) -> None:
        """Count the rows that no item had, and mark the manifest as complete."""
        array = open_array(self.out, manifest)
        empty = np.flatnonzero(np.isnan(array[:, 0]))
        manifest["rows"] = len(array) - len(empty)  # an item found twice counts once
        unusable = {name for name, _ in manifest["unusable"]}
        names = self.source.index.names
        manifest["missing"] = sum(names[row] not in unusable for row in empty)
        manifest["sha256"] = sha256_of(self.out / ARRAY)
        manifest["complete"] = True
        write_manifest(self.out, manifest)
