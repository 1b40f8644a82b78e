"""Files that appear whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to in place of `path`: then synced to the disk, and renamed.

    After an error what stood at `path` is still there, and nothing beside it.

    Example:
        >>> with written_aside(Path("notes.txt")) as aside:
        ...     _ = aside.write_text("whole")
        >>> Path("notes.txt").read_text()
        'whole'
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        with aside.open("r+b") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can open a folder at all."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
