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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from locties import __version__
from locties._util.files import UnusableFile, written_aside
from locties._util.lock import only_process
from locties.modality import Modality
from locties.training.processes import count, rank

STATE = "state.pt"
SCHEMA = 3  # raise it when the layout of the state, or what a run computes, changes
_HASHED = ("samples of ", "initial weights")  # settings that are hashes; see `digests`


class Checkpoint:
    """A folder for the state of one run, used in a ``with`` block.

    Inside the block another process is refused. SIGINT and SIGTERM only set `interrupted`, so that
    a step or a write is finished first; a second one acts as usual.

    In a run of several processes all read, and only the first one locks and writes. Signals then
    act as usual, because each process would stop at a different step.

    Args:
        folder: made if it does not exist. With None, nothing is kept and every method does nothing.
        settings: plain values by name: everything that decides what the run computes. The state of
            a run with other settings is neither read nor overwritten.

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
        self._held = ExitStack()

    def __enter__(self) -> Checkpoint:
        if self.folder is None or rank() > 0:
            return self
        self._check_folder(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(only_process(self.folder))
        if threading.current_thread() is threading.main_thread() and count() == 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    @staticmethod
    def _check_folder(folder: Path) -> None:
        """Refuse a file, and a folder with anything but the state of a run."""
        named = f"checkpoint={str(folder)!r}"
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{named} is a file: pass a new folder")
        others = [path.name for path in folder.glob("[!.]*") if path.name != STATE]
        if others:
            raise ValueError(f"{named} holds other files ({min(others)}): pass a new folder")

    def __exit__(self, *_: object) -> None:
        self._restore_handlers()
        self._held.close()

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
            kept = load_state(path)
        except UnusableFile as error:
            raise UnusableFile(
                f"{error}. {remedy}, or resume with the locties that wrote it"
            ) from None
        if differing := _differences(kept["settings"], self.settings):
            raise ValueError(f"{self.folder} holds the state of another run: {differing}. {remedy}")
        if kept["torch"] != torch.__version__:
            warnings.warn(
                f"{self.folder} was written with torch {kept['torch']}, and this is torch "
                f"{torch.__version__}: the run resumes, and its last digits may differ",
                stacklevel=3,
            )
        state: dict[str, Any] = kept["state"]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state on disk by tensors and plain values, nested as you like."""
        if self.folder is None or rank() > 0:
            return
        kept = {"settings": self.settings, "torch": str(torch.__version__), "state": dict(state)}
        stream = io.BytesIO()
        torch.save(kept, stream)
        content = stream.getvalue()
        try:
            with written_aside(self.folder / STATE) as aside, aside.open("wb") as file:
                file.write(_seal(content) + b"\n")
                file.write(content)
        except OSError as error:
            message = (
                f"the state of the run ({len(content) / 1e6:.1f} MB) cannot be written: "
                f"{error.strerror}. The previous state is intact: make room and start again"
            )
            raise OSError(error.errno, message, str(self.folder)) from None


def load_state(path: Path) -> dict[str, Any]:
    """The settings, the version of torch and the state in a file of `Checkpoint.write`."""
    seal, _, content = path.read_bytes().partition(b"\n")
    if seal != _seal(content):
        raise UnusableFile(
            f"{path} is truncated or altered, or not a state of schema {SCHEMA}, which locties "
            f"{__version__} reads: its first line is not its sha256"
        )
    try:
        kept: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except pickle.UnpicklingError as error:
        raise UnusableFile(f"{path} is not the state of a run ({error})") from None
    return kept


def _seal(content: bytes) -> bytes:
    """The first line of a state with this content."""
    return f"locties state {SCHEMA}, sha256 {hashlib.sha256(content).hexdigest()}".encode()


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How two runs differ, in their settings or else in their data; empty if they agree."""
    there, here = (_flat(settings) for settings in (there, here))
    names = [name for name in there | here if there.get(name) != here.get(name)]
    hashed = [name for name in names if name.startswith(_HASHED)]
    if names == hashed:  # other settings make other hashes
        return ", ".join(f"the {name} differ" for name in hashed)
    return "; ".join(
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in names
        if name not in hashed
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's settings beside the others, as "encoder network" and the like."""
    inner = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    parts = {f"{name} {key}": part for name, value in inner.items() for key, part in value.items()}
    return {**{name: value for name, value in settings.items() if name not in inner}, **parts}


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
    """A hash of all locations and of some evenly spaced samples, held-out ones included."""
    sets = [modality] if modality.validation is None else [modality, modality.validation]
    some = (m.samples[torch.arange(0, len(m.lonlat), 1 + len(m.lonlat) // 256)] for m in sets)
    months = (m.month for m in sets if m.month is not None)
    return digest([*(m.lonlat for m in sets), *some, *months])
