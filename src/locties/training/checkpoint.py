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
from torch import Tensor, nn

from locties import __version__
from locties._util.files import written_aside
from locties._util.lock import only_process
from locties.modality import Modality
from locties.training.processes import count, rank

STATE = "state.pt"
SCHEMA = 2  # raise it when the layout of the state, or what a run computes, changes


class Checkpoint:
    """A folder for the state of one run, used in a ``with`` block.

    Inside the block another process is refused. SIGINT and SIGTERM only set `interrupted`, so that
    a step or a write is finished first; a second one acts as usual.

    In a run of several processes all read, and only the first one locks and writes. Signals then
    act as usual, because each process would stop at another step.

    Args:
        folder: made where it does not exist. None keeps nothing, and every method does nothing.
        settings: plain values by name: everything that decides what the run computes. With others,
            the state is neither read nor overwritten.

    Example:
        >>> with Checkpoint("state", {"seed": 0}) as checkpoint:
        ...     checkpoint.write({"step": 7, "weights": torch.ones(2)})
        ...     checkpoint.read()["step"]
        7
    """

    def __init__(self, folder: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.settings = json.loads(json.dumps(settings))
        self.interrupted = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Checkpoint:
        if self.folder is None or rank() > 0:
            return self
        self._check_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = only_process(self.folder)
        self._lock.__enter__()
        if threading.current_thread() is threading.main_thread() and count() == 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def _check_folder(self) -> None:
        """Refuse a file, and a folder with anything but the state of a run."""
        assert self.folder is not None
        named = f"checkpoint={str(self.folder)!r}"
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{named} is a file: pass a new folder")
        others = [path.name for path in self.folder.glob("[!.]*") if path.name != STATE]
        if others:
            raise ValueError(f"{named} holds other files ({sorted(others)[0]}): pass a new folder")

    def __exit__(self, *_: object) -> None:
        if self.folder is not None and rank() == 0:
            self._restore_handlers()
            self._lock.__exit__(None, None, None)

    def _interrupt(self, *_: object) -> None:
        self.interrupted = True
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def read(self) -> dict[str, Any] | None:
        """The state last written, with tensors on the CPU, or None. No code is unpickled."""
        if self.folder is None or not (path := self.folder / STATE).exists():
            return None
        remedy = f"Pass another folder, or delete {self.folder} to start again"
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is no state of a run ({error}). {remedy}") from None
        schema = kept.get("schema") if isinstance(kept, dict) else 1
        if schema != SCHEMA:
            raise ValueError(
                f"{path} has schema {schema}, and this locties ({__version__}) reads schema "
                f"{SCHEMA}. {remedy}, or continue with the locties that wrote it"
            )
        there, here = kept["settings"], self.settings
        differing = [
            f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
            for name in there | here
            if there.get(name) != here.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} holds the state of another run: {'; '.join(differing)}. {remedy}"
            )
        if kept["torch"] != torch.__version__:
            warnings.warn(
                f"{self.folder} was written with torch {kept['torch']}, and this is torch "
                f"{torch.__version__}: the run continues, and its last digits may differ",
                stacklevel=3,
            )
        state: dict[str, Any] = kept["state"]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state on disk by tensors and plain values, nested as you like."""
        if self.folder is None or rank() > 0:
            return
        kept = {"schema": SCHEMA, "settings": self.settings, "state": dict(state)}
        content = io.BytesIO()
        torch.save(kept | {"torch": str(torch.__version__)}, content)
        try:
            with written_aside(self.folder / STATE) as aside:
                # Not getbuffer(): Python 3.12.1 crashes when an error keeps that view alive.
                aside.write_bytes(content.getvalue())
        except OSError as error:
            message = (
                f"the state of the run ({content.tell() / 1e6:.1f} MB) cannot be written: "
                f"{error.strerror}. The state before it is whole: make room and start again"
            )
            raise OSError(error.errno, message, str(self.folder)) from None


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of the bits of tensors, in their order."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:12]


def digests(modalities: Mapping[str, Modality], learned: nn.Module) -> dict[str, str]:
    """Hashes of each modality's data and of the initial weights."""
    data = {f"samples of {name}": _of_data(m) for name, m in modalities.items()}
    return {**data, "initial weights": digest(learned.state_dict().values())}


def _of_data(modality: Modality) -> str:
    """All locations and some samples at even distances, held-out ones too."""
    sets = [modality] if modality.validation is None else [modality, modality.validation]
    some = (m.samples[torch.arange(0, len(m.lonlat), 1 + len(m.lonlat) // 256)] for m in sets)
    return digest([*(m.lonlat for m in sets), *some])
