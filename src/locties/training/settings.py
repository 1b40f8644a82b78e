"""The settings of a run: checked before any work, and kept with its results."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from typing import Any

import torch

from locties._util.matmul import bfloat16_is_fast
from locties._util.registry import Registry, check_counts, check_options, unknown
from locties.objectives import OBJECTIVES, Objective
from locties.training import processes
from locties.training.schedules import SCHEDULES, Schedule


@dataclass(frozen=True)
class Settings:
    """The arguments of `pretrain` that decide its numbers; the wrong ones raise ValueError."""

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
        if not _is(Real, self.learning_rate) or not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate={self.learning_rate!r}: pass a positive number, such as 1e-4"
            )
        _one_of("decay", self.decay, "cosine", "constant")
        _one_of("kind of locations", self.locations, "fixed", "fresh")
        _one_of("precision", self.precision, "auto", "float32", "bfloat16")
        if not isinstance(self.device, str | torch.device):
            raise ValueError(f"device={self.device!r}: pass 'auto', 'cpu' or 'cuda'")
        for name in ("pairs", "batch", "epochs", "samples", "seed"):  # numpy's are not JSON's
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "learning_rate", float(self.learning_rate))
        object.__setattr__(self, "objective_options", self._options())
        if self.batch < 2:
            raise ValueError(f"batch={self.batch}: a contrastive batch needs at least 2 pairs")
        if self.steps < self.epochs:
            raise ValueError(
                f"pairs={self.pairs} in batches of {self.batch} make {self.steps} steps, fewer "
                f"than epochs={self.epochs}: raise pairs to {self.batch * self.epochs} or lower "
                "epochs"
            )

    def _options(self) -> dict[str, Any]:
        """The objective's options, with the schedule's direction where none is named."""
        options, objective = self.objective_options, _named(OBJECTIVES, self.objective)
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
        """The epoch, from 0, of a step, from 0; epoch e ends before step (e + 1) steps // epochs.

        Example: with 10 steps and 4 epochs, the epochs end before steps 2, 5, 7 and 10.
        """
        return ((step + 1) * self.epochs - 1) // self.steps

    def make_schedule(self) -> Schedule:
        """The schedule over the modalities."""
        schedule: Schedule = _named(SCHEDULES, self.schedule)(self.modalities)
        return schedule

    def make_objective(self) -> Objective:
        """The loss, with its options."""
        objective: Objective = OBJECTIVES[self.objective](**self.objective_options)
        return objective

    def on(self, device: torch.device) -> Settings:
        """The same with the device's name, and with the precision that "auto" takes there."""
        name, precision = device.type, self.precision
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        if processes.count() > 1:
            name = f"{processes.count()} x {name}"
        if precision == "auto":
            fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
            precision = "bfloat16" if fast else "float32"
        elif precision == "bfloat16" and device.type == "cpu" and not bfloat16_is_fast():
            warnings.warn(
                "precision='bfloat16': this processor multiplies bfloat16 slower than float32. "
                "Pass precision='float32' or 'auto'",
                stacklevel=3,
            )
        return replace(self, device=name, precision=precision)

    def plain(self) -> dict[str, Any]:
        """Plain values by name, as JSON holds them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_plain))
        return values


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else repr(value)


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _one_of(what: str, value: object, *known: str) -> None:
    if value not in known:
        raise unknown(what, value, known)


def _named(registry: Registry, name: object) -> Any:
    if not isinstance(name, str):
        raise unknown(registry.what, name, registry)
    return registry[name]
