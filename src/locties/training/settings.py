"""What a run starts from: its settings, encoder and modalities, checked before any work."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from numbers import Integral, Real
from typing import Any

import torch

from locties._util.matmul import bfloat16_is_fast
from locties._util.registry import check_choice, check_counts, check_options
from locties.encoder import LocationEncoder
from locties.lonlat import CELL_DEGREES, cell_index
from locties.modalities import MODALITIES, MONTHLY
from locties.modality import Modality, by_month, in_every_month
from locties.objectives import OBJECTIVES, Nested, Objective
from locties.training import processes
from locties.training.schedules import SCHEDULES, Schedule


@dataclass(frozen=True)
class Settings:
    """The arguments of `pretrain` that decide its numbers; wrong values raise ValueError."""

    schedule: str
    modalities: Sequence[str]
    pairs: int
    batch: int
    epochs: int
    learning_rate: float
    decay: str
    objective: str
    objective_options: Mapping[str, Any]
    locations: str
    samples: int
    seed: int
    device: str
    precision: str

    def __post_init__(self) -> None:
        check_counts(pairs=self.pairs, batch=self.batch, epochs=self.epochs, samples=self.samples)
        if not _is(Integral, self.seed) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed!r}: pass a whole number from 0 to 2**63 - 1")
        rate = self.learning_rate
        if not _is(Real, rate) or not 0 < rate < math.inf:
            raise ValueError(f"learning_rate={rate!r}: pass a positive number, such as 1e-4")
        for what, name, known in (
            ("schedule", self.schedule, SCHEDULES),
            ("objective", self.objective, OBJECTIVES),
            ("decay", self.decay, ("cosine", "constant")),
            ("kind of locations", self.locations, ("fixed", "fresh")),
            ("precision", self.precision, ("auto", "float32", "bfloat16")),
        ):
            check_choice(what, name, known)
        if not isinstance(self.device, str | torch.device):
            raise ValueError(f"device={self.device!r}: pass 'auto', 'cpu' or 'cuda'")
        for name in ("pairs", "batch", "epochs", "samples", "seed"):  # JSON refuses numpy's
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "learning_rate", float(rate))
        object.__setattr__(self, "objective_options", self._options())
        if self.batch < 2:
            raise ValueError(f"batch={self.batch}: a contrastive batch needs at least 2 pairs")
        if self.steps < self.epochs:
            raise ValueError(
                f"pairs={self.pairs} in batches of {self.batch} make fewer steps than epochs="
                f"{self.epochs}: raise pairs to {self.batch * self.epochs} or lower epochs"
            )

    def _options(self) -> dict[str, Any]:
        """The objective's options, with the schedule's direction if none is named."""
        options, objective = self.objective_options, OBJECTIVES[self.objective]
        if not isinstance(options, Mapping):
            raise ValueError(
                f"objective_options={options!r}: pass a dict, such as {{'direction': 'symmetric'}}"
            )
        check_options(objective, options, self.objective)
        if "direction" in inspect.signature(objective).parameters:
            return {"direction": self.make_schedule().direction, **options}
        return dict(options)

    @property
    def steps(self) -> int:
        """Steps of the optimiser in the whole run."""
        return self.pairs // self.batch

    def epoch_of(self, step: int) -> int:
        """The epoch of a step, both from 0; epoch e ends before step (e + 1) steps // epochs."""
        return ((step + 1) * self.epochs - 1) // self.steps

    def make_schedule(self) -> Schedule:
        schedule: Schedule = SCHEDULES[self.schedule](self.modalities)
        return schedule

    def make_objective(self, nested: Sequence[int], dim: int) -> Objective:
        """The objective of embeddings of `dim` numbers; `nested` as in `LocationEncoder`."""

        def make() -> Objective:
            objective: Objective = OBJECTIVES[self.objective](**self.objective_options)
            return objective

        return Nested(make, [*nested, dim]) if nested else make()

    def on(self, device: torch.device) -> Settings:
        """A copy with the device's name and the precision that "auto" means there."""
        gpu, precision = device.type == "cuda", self.precision
        name = torch.cuda.get_device_name(device) if gpu else device.type
        if processes.count() > 1:
            name = f"{processes.count()} x {name}"
        if precision == "auto":
            precision = "bfloat16" if gpu and torch.cuda.is_bf16_supported() else "float32"
        elif precision == "bfloat16" and device.type == "cpu" and not bfloat16_is_fast():
            message = (
                "precision='bfloat16' is slower than float32 on this processor, so the encoders "
                "train in float32: pass precision='float32'"
            )
            warnings.warn(message, stacklevel=3)
            precision = "float32"
        return replace(self, device=name, precision=precision)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        as_json = json.dumps(
            asdict(self), default=lambda x: x.item() if hasattr(x, "item") else repr(x)
        )
        values: dict[str, Any] = json.loads(as_json)
        return values


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_callback(checkpoint: object, after_epoch: object) -> None:
    """Raise ValueError now, and not after the first epoch."""
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise ValueError(f"checkpoint={checkpoint!r}: pass a folder")
    if after_epoch is not None and not callable(after_epoch):
        raise ValueError(f"after_epoch={after_epoch!r}: pass a function of an encoder and an epoch")


def starting_encoder(encoder: LocationEncoder | None, seed: int) -> LocationEncoder:
    """A copy of `encoder`; if it is None, the default encoder."""
    if encoder is None:
        return LocationEncoder(seed=seed)
    if not isinstance(encoder, LocationEncoder):
        raise ValueError(
            f"encoder={encoder!r}: pass locties.LocationEncoder(...) or locties.load(...)"
        )
    if encoder.month is not None:
        raise ValueError(
            f"the encoder is fixed in month {encoder.month}: pass the one that takes a month, and "
            f"call in_month({encoder.month}) on run.encoder"
        )
    return copy.deepcopy(encoder)


def by_name(modalities: Any) -> dict[str, str | Modality]:
    """The `modalities` of `pretrain` by name; a single one counts as a list of one."""
    if isinstance(modalities, str | Modality):
        modalities = [modalities]
    if isinstance(modalities, Mapping | set | frozenset) or not isinstance(modalities, Iterable):
        raise ValueError(f"modalities={modalities!r}: pass a list of names or Modality objects")
    named: dict[str, str | Modality] = {}
    for item in modalities:
        if not isinstance(item, str | Modality):
            raise ValueError(
                f"modality {item!r}: pass a name ({', '.join(MODALITIES)}) or a Modality"
            )
        name = item.name if isinstance(item, Modality) else str(item)
        if name in named:
            raise ValueError(f"modality {name!r} is given twice: name each modality once")
        named[name] = item
    if not named:
        raise ValueError(f"no modality given: name at least one of {', '.join(MODALITIES)}")
    return named


def load_modalities(
    named: Mapping[str, str | Modality], settings: Settings, time: str | None = None
) -> dict[str, Modality]:
    """The modalities; those given by name are made by their factories.

    `time` is the encoder's.
    """
    factories = [m if isinstance(m, Modality) else MODALITIES[m] for m in named.values()]
    loaded = {}
    for name, made in zip(named, factories, strict=True):
        modality = made if isinstance(made, Modality) else made(settings.samples, settings.seed)
        if not isinstance(modality, Modality) or modality.name != name:
            what = getattr(modality, "name", type(modality).__name__)
            raise ValueError(
                f"MODALITIES[{name!r}] returned {what!r}: let it return a Modality named {name!r}"
            )
        loaded[name] = modality
    loaded = _with_months(named, loaded, time)
    _check_sizes(settings, loaded)
    cells = {
        name: torch.unique(cell_index(m.lonlat.cpu(), CELL_DEGREES)) for name, m in loaded.items()
    }
    for one, other in combinations(cells, 2):
        if shared := int(torch.isin(cells[one], cells[other]).sum()):
            warnings.warn(
                f"modalities {one!r} and {other!r} share {shared} cells of about 50 km: they are "
                "paired there. Read your own with read_modality(..., beside=[the others])",
                stacklevel=3,
            )
    return loaded


def _with_months(
    named: Mapping[str, str | Modality], loaded: Mapping[str, Modality], time: str | None
) -> dict[str, Modality]:
    """All modalities with months for an encoder that takes them; ValueError if none has any."""
    if time is None:
        if with_month := [name for name, m in loaded.items() if m.month is not None]:
            raise ValueError(
                f"modality {with_month[0]!r} has months and the encoder takes none: pass "
                "LocationEncoder(..., time='month')"
            )
        return dict(loaded)
    made = {
        name: by_month(m) if isinstance(named[name], str) and name in MONTHLY else m
        for name, m in loaded.items()
    }
    if all(m.month is None for m in made.values()):
        raise ValueError(
            f"the encoder takes a month and none of {', '.join(made)} has months: add one of "
            f"{', '.join(MONTHLY)} or a Modality(..., month=...), or pass a LocationEncoder "
            "without time"
        )
    return {name: in_every_month(m) if m.month is None else m for name, m in made.items()}


def _check_sizes(settings: Settings, modalities: Mapping[str, Modality]) -> None:
    """Raise ValueError if a batch takes more samples than a modality has, or too few."""
    schedule = settings.make_schedule()
    for epoch in range(settings.epochs):
        for name, n in schedule.counts(epoch, settings.batch).items():
            held = len(modalities[name].lonlat)
            what = f"batch={settings.batch} takes {n} samples of {name!r}"
            if n < (several := processes.count()):
                raise ValueError(f"{what}, fewer than the {several} processes: raise batch")
            if n > held and settings.locations == "fixed":
                raise ValueError(
                    f"{what}, which has {held}: lower batch, raise samples, or pass "
                    "locations='fresh'"
                )
