"""The state of a run on disk: written whole or not at all, used by one process at a time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from locties import __version__
from locties._util.files import written_aside
from locties._util.lock import only_process
from locties.training.processes import count, rank

_STATE = "state.pt"
# The sources that decide what a run computes.
_DECIDING = (
    *(f"{name}.py" for name in ("lonlat", "harmonics", "features", "networks", "encoder")),
    *("modalities.py", "objectives.py", "products.py", "data/*.py", "training/*.py"),
)


class Checkpoint:
    """A folder for the state of one run, used in a ``with`` block.

    Inside the block the folder belongs to this process: another one that enters is refused. The
    lock is the operating system's and goes with its process, however that ends. SIGINT and SIGTERM
    only set `interrupted` there, so that a step or a write is finished first; a second one acts as
    usual.

    In a run of several processes, all read and the first alone enters and writes; their signals act
    as usual, since each would stop at another step.

    Args:
        folder: made where it is not there. None keeps nothing, and every method does nothing.
        settings: plain values by name, all that decides what the run computes.

    Raises:
        RuntimeError: on entering, where another process is inside, naming it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, Checkpoint(folder, {"seed": 0}) as checkpoint:
        ...     checkpoint.write({"step": 7, "weights": torch.ones(2)})
        ...     checkpoint.read()["step"]
        7
    """

    def __init__(self, folder: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.settings = json.loads(json.dumps(settings))
        code = hashlib.sha256()
        package = Path(__file__).parents[1]
        for source in sorted(path for part in _DECIDING for path in package.glob(part)):
            code.update(source.read_bytes())
        self.made_by = f"locties {__version__} ({code.hexdigest()[:12]}), torch {torch.__version__}"
        self.interrupted = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Checkpoint:
        if self.folder is None or rank() > 0:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hold = only_process(self.folder)
        self._hold.__enter__()
        if threading.current_thread() is threading.main_thread() and count() == 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None and rank() == 0:
            self._restore_handlers()
            self._hold.__exit__(None, None, None)

    def _interrupt(self, *_: object) -> None:
        self.interrupted = True
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def read(self) -> dict[str, Any] | None:
        """The state last written, with tensors on the CPU, or None. No code is unpickled.

        A state that other code wrote is passed over with a warning: a run that goes on from it
        would be neither the one nor the other.

        Returns:
            What `write` was last given.

        Raises:
            ValueError: where it was written with other settings, naming them, or is damaged.

        Example:
            >>> with Checkpoint("state", {"seed": 0}) as checkpoint:
            ...     checkpoint.read() is None
            True
            >>> with Checkpoint("state", {"seed": 0}) as checkpoint:
            ...     checkpoint.write({"step": 7})
            >>> Checkpoint("state", {"seed": 1}).read()  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ValueError: state holds the state of another run: seed is 0 there and 1 here. Take...
        """
        if self.folder is None or not (path := self.folder / _STATE).exists():
            return None
        try:
            settings, made_by, state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is no state of a run ({error}): delete {self.folder} to begin anew"
            ) from None
        if made_by != self.made_by:
            warnings.warn(
                f"{self.folder} holds a run of {made_by}; this is {self.made_by}: beginning anew",
                stacklevel=3,
            )
            return None
        differing = [
            f"{name} is {settings.get(name)!r} there and {self.settings.get(name)!r} here"
            for name in settings | self.settings
            if settings.get(name) != self.settings.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} holds the state of another run: {'; '.join(differing)}. Take "
                "another folder, or delete this one to begin anew"
            )
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state on disk: written aside, synced to the disk, renamed.

        Args:
            state: tensors and plain values, nested as you like.

        Raises:
            OSError: where there is no room; the state before is still whole.

        Example:
            >>> with Checkpoint("state", {"seed": 0}) as checkpoint:
            ...     checkpoint.write({"step": 7, "weights": torch.ones(2)})
            ...     checkpoint.write({"step": 8, "weights": torch.ones(2)})
            ...     checkpoint.read()["step"]
            8
        """
        if self.folder is None or rank() > 0:
            return
        content = io.BytesIO()
        torch.save((self.settings, self.made_by, dict(state)), content)
        try:
            with written_aside(self.folder / _STATE) as aside:
                aside.write_bytes(content.getbuffer())
        except OSError as error:
            raise OSError(
                error.errno,
                f"the state of the run ({content.tell() / 1e6:.1f} MB) cannot be written: "
                f"{error.strerror}. What was written before is whole: make room and start again",
                str(self.folder),
            ) from None


def digest(tensors: Iterable[Tensor]) -> str:
    """A short hash of tensors, by which a run recognises its data and its initial weights."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:12]
