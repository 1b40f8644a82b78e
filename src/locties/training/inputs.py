"""What a run starts from: its encoder and its modalities, as the user names them."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch

from locties.encoder import LocationEncoder
from locties.lonlat import CELL_DEGREES, cell_index
from locties.modalities import MODALITIES
from locties.modality import Modality
from locties.training import processes
from locties.training.settings import Settings


def starting_encoder(encoder: LocationEncoder | None, seed: int) -> LocationEncoder:
    """A copy of `encoder`; where there is none, the default one."""
    if encoder is None:
        return LocationEncoder(seed=seed)
    if not isinstance(encoder, LocationEncoder):
        raise ValueError(
            f"encoder={encoder!r} is no LocationEncoder: pass locties.LocationEncoder(...), or "
            "locties.load(...) of a name or folder"
        )
    return copy.deepcopy(encoder)


def list_modalities(modalities: Any) -> list[str | Modality]:
    """Names and Modality objects, each once; a single one is a list of one."""
    if isinstance(modalities, str | Modality):
        return [modalities]
    if isinstance(modalities, Mapping | set | frozenset) or not isinstance(modalities, Iterable):
        raise ValueError(f"modalities={modalities!r}: pass a list of names or Modality objects")
    given = list(modalities)
    if not given:
        raise ValueError(f"no modality given: name at least one of {', '.join(MODALITIES)}")
    for item in given:
        if not isinstance(item, str | Modality):
            raise ValueError(
                f"modality {item!r} is a {type(item).__name__}: pass a name "
                f"({', '.join(MODALITIES)}) or a Modality"
            )
    names = names_of(given)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"modality {name!r} is given twice: name each modality once")
    return given


def names_of(given: Sequence[str | Modality]) -> list[str]:
    """What each modality is called."""
    return [m.name if isinstance(m, Modality) else str(m) for m in given]


def load_modalities(given: Sequence[str | Modality], settings: Settings) -> dict[str, Modality]:
    """The modalities by name; those given by name are drawn by their factories."""
    factories = [m if isinstance(m, Modality) else MODALITIES[m] for m in given]
    loaded = {}
    for name, made in zip(names_of(given), factories, strict=True):
        modality = made if isinstance(made, Modality) else made(settings.samples, settings.seed)
        if not isinstance(modality, Modality) or modality.name != name:
            what = getattr(modality, "name", type(modality).__name__)
            raise ValueError(
                f"MODALITIES[{name!r}] returned {what!r}: let it return a Modality named {name!r}"
            )
        loaded[name] = modality
    _warn_of_shared_cells(loaded)
    return loaded


def _warn_of_shared_cells(modalities: Mapping[str, Modality]) -> None:
    cells = {
        name: torch.unique(cell_index(m.lonlat.cpu(), CELL_DEGREES))
        for name, m in modalities.items()
    }
    for one, other in combinations(cells, 2):
        shared = int(torch.isin(cells[one], cells[other]).sum())
        if shared:
            warnings.warn(
                f"modalities {one!r} and {other!r} share {shared} cells of about 50 km, so they "
                "are not unpaired there. Read your own with read_modality(..., beside=[...]), "
                "naming the others",
                stacklevel=4,
            )


def check_sizes(settings: Settings, modalities: Mapping[str, Modality]) -> None:
    """Raise ValueError where a batch takes more samples than a modality has, or too few."""
    schedule = settings.make_schedule()
    for epoch in range(settings.epochs):
        for name, n in schedule.counts(epoch, settings.batch).items():
            held = len(modalities[name].lonlat)
            if n < processes.count():
                raise ValueError(
                    f"batch={settings.batch} takes {n} samples of {name!r}, fewer than the "
                    f"{processes.count()} processes: raise batch"
                )
            if n > held and settings.locations == "fixed":
                raise ValueError(
                    f"batch={settings.batch} takes {n} samples of {name!r}, which has {held}: "
                    "lower batch, raise samples, or pass locations='fresh'"
                )


def check_callback(checkpoint: object, after_epoch: object) -> None:
    """Raise ValueError now, and not after the first epoch."""
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise ValueError(f"checkpoint={checkpoint!r}: pass a folder")
    if after_epoch is not None and not callable(after_epoch):
        raise ValueError(f"after_epoch={after_epoch!r}: pass a function of an encoder and an epoch")
