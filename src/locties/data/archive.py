"""Read tar archives member by member, and refuse dangerous ones."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from locties.data.manifest import DataError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstandard"}
# Kinds of headers that tarfile reads whole: long names, extended attributes.
_EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_HEADER_BYTES = 2**16  # real headers have some hundred


@dataclass(frozen=True)
class Member:
    """One file in an archive: its path there, its size in bytes, and a function to read it."""

    name: str
    size: int
    read: Callable[[], bytes]  # call it before the next member is read


def members(
    path: str | os.PathLike[str], most: int = 100_000, largest: int = 2**26
) -> Iterator[Member]:
    """The files of a plain tar archive, one by one, in its order; nothing is unpacked to disk.

    A compressed archive is refused unread: a small file could expand and fill the disk. DataError
    names the archive, the member and the problem: an absolute path, a ``..``, a link, a device, a
    sparse file, a member above `largest` bytes, more than `most` members, or a truncated archive.
    """
    archive = Path(path)

    class Header(tarfile.TarInfo):
        """Check every raw header, also those of long names, before tarfile acts on it."""

        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
            header = super().frombuf(buf, encoding, errors)
            bound = min(largest, _HEADER_BYTES) if header.type in _EXTENDED else largest
            _check_size(archive, header, bound)
            return header

    try:
        with archive.open("rb") as stream:
            _check_plain(archive, stream.read(8))
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as tar:
                for number, info in enumerate(tar):
                    if number == most:
                        raise _refused(archive, info.name, f"is one more than {most:,} members")
                    _check(archive, info, largest)
                    if info.isreg():
                        yield Member(info.name, info.size, _reader(archive, tar, info))
                # tarfile takes a damaged header, or the end of a truncated file, for the end mark.
                stream.seek(tar.offset)
                if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise _torn(archive, "no end mark")
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"there is no archive {archive}") from None
    except Exception as error:
        # Altered bytes can fail in any way inside tarfile.
        raise _torn(archive, f"{type(error).__name__}: {error}") from error


def _check_plain(path: Path, head: bytes) -> None:
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(f"{path} is compressed ({kind}); only plain tar archives are read")


def _check(path: Path, info: tarfile.TarInfo, largest: int) -> None:
    for flavour in (PurePosixPath(info.name), PureWindowsPath(info.name)):
        if flavour.is_absolute() or flavour.drive:
            raise _refused(path, info.name, "has an absolute path")
        if ".." in flavour.parts:
            raise _refused(path, info.name, "climbs out of its folder with '..'")
    if info.issym() or info.islnk():
        raise _refused(path, info.name, f"is a link to {info.linkname!r}")
    if info.issparse() or not (info.isreg() or info.isdir()):
        raise _refused(path, info.name, "is neither a plain file nor a folder")
    # Extended attributes can declare a different size from the header that was checked.
    _check_size(path, info, largest)


def _check_size(path: Path, info: tarfile.TarInfo, bound: int) -> None:
    if not 0 <= info.size <= bound:
        raise _refused(path, info.name, f"declares {info.size:,} bytes; at most {bound:,} are read")


def _reader(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            content = tar.extractfile(info)
            assert content is not None  # only links and folders have none
            return content.read()
        except tarfile.TarError as error:
            raise _torn(path, f"{info.name}: {error}") from None

    return read


def _refused(path: Path, member: str, why: str) -> DataError:
    return DataError(f"{path} is refused: its member {member!r} {why}")


def _torn(path: Path, why: str) -> DataError:
    return DataError(f"{path} is truncated or altered ({why}); delete it and fetch it again")
