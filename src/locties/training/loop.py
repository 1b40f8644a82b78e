"""The training loop that MELT, SALT and the two-modality baseline share."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from locties._util.files import written_aside
from locties._util.matmul import ByOneDNN
from locties._util.registry import check_options, device_of, unknown
from locties.encoder import LocationEncoder
from locties.lonlat import CELL_DEGREES, cell_index
from locties.modalities import MODALITIES
from locties.modality import Modality
from locties.objectives import INITIAL_LOG_SCALE, OBJECTIVES, Batch, nt_xent, place_of
from locties.training import processes
from locties.training.checkpoint import Checkpoint, digest
from locties.training.schedules import SCHEDULES

if TYPE_CHECKING:
    import pandas as pd

WARM_UP = 0.05  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Run:
    """What a pretraining leaves.

    Attributes:
        encoder: the trained location encoder.
        modality_encoders: by name of modality.
        history: a tidy table, one row for each epoch and modality: epoch, step, pairs, flops,
            seconds (all since the start), learning_rate, modality, active (whether it was in the
            epoch's batches), train_loss (mean over the epoch, of all active modalities together),
            validation_loss and recall_at_10 (from a held-out sample to its own location among
            the held-out locations; one temperature of 0.07 for every run).
        settings: the arguments that made it.

    Example:
        >>> run = pretrain("clip", ["haze"], LocationEncoder("xyz", "linear", dim=8), pairs=256,
        ...                batch=64, epochs=2, samples=128, progress=False)
        >>> run.history[["modality", "pairs"]].to_numpy().tolist()
        [['haze', 128], ['haze', 256]]
    """

    encoder: LocationEncoder
    modality_encoders: nn.ModuleDict
    history: pd.DataFrame
    settings: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write ``encoder/``, ``history.parquet`` and ``settings.json`` into `folder`.

        In a run of several processes, the first alone does.

        Args:
            folder: made where it is not there.

        Raises:
            FileExistsError: where ``encoder/`` is there and holds anything but an encoder.

        Example:
            >>> encoder = LocationEncoder("xyz", "linear", dim=8)
            >>> run = pretrain("clip", ["haze"], encoder, pairs=128, batch=64, epochs=1,
            ...                samples=128, progress=False)
            >>> run.save("run")
            >>> sorted(path.name for path in Path("run").iterdir())
            ['encoder', 'history.parquet', 'settings.json']
        """
        if processes.rank() > 0:
            return
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / "encoder")
        for name, write in {
            "history.parquet": lambda path: self.history.to_parquet(path, index=False),
            "settings.json": lambda path: path.write_text(json.dumps(self.settings, indent=2)),
        }.items():
            with written_aside(folder / name) as aside:
                write(aside)


class _Stream:
    """Indices of a modality's samples in shuffled order, shuffled anew when all were seen."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.generator = torch.Generator().manual_seed(seed)
        self.rest = torch.empty(0, dtype=torch.int64)

    def coming(self, n: int) -> Tensor:
        """The next n, which stay to be taken."""
        while len(self.rest) < n:
            order = torch.randperm(self.length, generator=self.generator)
            self.rest = torch.cat([self.rest, order])
        return self.rest[:n]

    def take(self, n: int) -> Tensor:
        taken = self.coming(n)
        self.rest = self.rest[n:]
        return taken

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state(), "rest": self.rest.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])
        self.rest = state["rest"]


def pretrain(
    schedule: str,
    modalities: Sequence[str | Modality],
    encoder: LocationEncoder | None = None,
    *,
    pairs: int = 5_000_000,
    batch: int = 2048,
    epochs: int = 50,
    learning_rate: float = 1e-4,
    decay: Literal["cosine", "constant"] = "cosine",
    objective: str = "nt_xent",
    objective_options: Mapping[str, Any] | None = None,
    locations: Literal["fixed", "fresh"] = "fixed",
    samples: int = 20_000,
    seed: int = 0,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    watch: Callable[[LocationEncoder, int], object] | None = None,
) -> Run:
    """Train a location encoder by contrast with modalities that share nothing but the Earth.

    Runs are compared at equal compute: `pairs` counts (sample, location) pairs over the whole
    run, whatever the schedule and the number of modalities. A run takes ``pairs // batch`` steps,
    cut into `epochs` of equal length; an epoch is where SALT changes its modality and where the
    validation is done.

    Args:
        schedule: "melt", "salt" or "clip" (one modality).
        modalities: names in `locties.modalities.MODALITIES`, or `Modality` objects.
        encoder: where to start; left as it is, a copy is trained. Default: spherical harmonics of
            degree 40 and SIREN.
        pairs: (sample, location) pairs seen in all.
        batch: pairs in a batch, all modalities together.
        epochs: parts of the run.
        learning_rate: of AdamW, at its peak after a linear warm-up over 5% of the steps.
        decay: "cosine" to zero at the end, or "constant".
        objective: name in `locties.objectives.OBJECTIVES`.
        objective_options: its options. An objective that has a direction takes the schedule's
            own unless they name one (asymmetric for MELT and SALT, symmetric for clip).
        locations: "fixed" draws each modality's locations once; "fresh" draws new ones for every
            batch.
        samples: samples of each modality named by a string, when locations are fixed.
        seed: of weights, samples and order. With one thread, two runs on a CPU are identical.
        device: "auto" takes a GPU when there is one.
        precision: of the encoders; the loss is always float32. "auto" is bfloat16 on a GPU that
            has it, else float32.
        progress: show a progress bar on stderr.
        checkpoint: folder for the state of the run, written at the end of each epoch and at an
            interrupt (SIGINT, SIGTERM). The same call goes on from there, and with one thread on a
            CPU it ends with the bits of an unbroken run; once the run is whole it returns at once.
            Delete the folder when the run is saved, in a run of several processes by the first
            alone. Default: nothing is kept. Samples drawn by a
            modality of one's own must depend on the generator that it is given alone.
        watch: called at the end of each epoch, before its state is written, with a copy of the
            encoder and the number of the epoch, from 1; whatever it does, the run is the same.
            After a kill it may be called once more for the same epoch with the same encoder. In a
            run of several processes, the first alone calls it.

    Returns:
        The trained encoder, its history and settings.

    Raises:
        ValueError: at a name, number or combination that cannot be trained, before any work; where
            `checkpoint` holds a run with other settings, naming them.
        RuntimeError: where another process uses `checkpoint`, naming it.
        FloatingPointError: where the loss stops being finite, naming step, modality and remedy;
            the state in `checkpoint` stays the last good one.
        OSError: where there is no room for the state; the one before stays.
        KeyboardInterrupt: at an interrupt, after the state was written.
        ImportError: where several processes were started and ``lightning-fabric`` is not installed.
        DataError: where the data of a modality are missing; the message says what to run.

    Example:
        >>> encoder = LocationEncoder("xyz", "mlp", dim=16, network_options={"hidden": 32})
        >>> run = pretrain("melt", ["climate", "haze"], encoder, pairs=512, batch=128, epochs=2,
        ...                samples=256, progress=False)
        >>> run.encoder([[13.4, 52.5]]).shape
        torch.Size([1, 16])

    Source: Hecht et al., arXiv 2606.20167 (MELT, SALT); Klemmer et al., arXiv 2311.17179 (clip);
    Loshchilov and Hutter, arXiv 1711.05101 (AdamW).
    """
    names = [m if isinstance(m, str) else m.name for m in modalities]
    plan = SCHEDULES[schedule](names)
    steps = _steps(pairs, batch, epochs)
    _check_choices(learning_rate, decay, locations, precision)
    options = dict(objective_options or {})
    check_options(OBJECTIVES[objective], options, objective)
    if "direction" in inspect.signature(OBJECTIVES[objective]).parameters:
        options = {"direction": plan.direction} | options
    loss_function = OBJECTIVES[objective](**options)
    chosen_device = processes.join(device_of(device))
    bfloat16 = precision == "bfloat16" or (
        precision == "auto" and chosen_device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    encoder = LocationEncoder(seed=seed) if encoder is None else copy.deepcopy(encoder)

    loaded = {m.name: m for m in _load(modalities, samples, seed)}
    needed = [plan.counts(epoch, batch) for epoch in range(epochs)]
    _check_sizes(loaded, needed, batch, locations)
    data = {} if checkpoint is None else {f"samples of {n}": _digest(loaded[n]) for n in names}
    loaded = {name: m.to(chosen_device) for name, m in loaded.items()}
    encoder.to(chosen_device).train()
    modality_encoders = nn.ModuleDict(
        {name: _seeded(m, encoder.network_dim, seed) for name, m in loaded.items()}
    ).to(chosen_device)
    loss_function.prepare(loaded, encoder.network_dim)
    loss_function.to(chosen_device)
    learned = nn.ModuleList([encoder, modality_encoders, loss_function])
    optimiser = _optimiser([learned], learning_rate)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, _rate(steps, decay))
    streams = {name: _Stream(len(m.lonlat), _seed_of(name, seed)) for name, m in loaded.items()}
    number = {name: i for i, name in enumerate(loaded)}
    by_onednn = ByOneDNN() if chosen_device.type == "cpu" else nullcontext()
    settings = {
        "schedule": schedule,
        "modalities": names,
        "encoder": encoder.config,
        "pairs": pairs,
        "batch": batch,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "decay": decay,
        "objective": objective,
        "objective_options": options,
        "locations": locations,
        "samples": samples,
        "seed": seed,
        "device": _device_name(chosen_device),
        "precision": "bfloat16" if bfloat16 else "float32",
    }

    def draw(name: str, n: int) -> tuple[Tensor, Callable[[slice], Tensor]]:
        """Locations (n, 2), and a function that reads some of their samples."""
        modality, stream = loaded[name], streams[name]
        if locations == "fresh":
            lonlat, samples = modality.fresh(n, stream.generator)
            return lonlat, samples.__getitem__
        index = stream.take(n).to(chosen_device)
        return modality.lonlat[index], lambda rows: modality.samples[index[rows]]

    several = processes.count() > 1
    whole = several and loss_function.reads_samples  # then each process reads the samples of all

    def step_loss(counts: Mapping[str, int], following: Mapping[str, int]) -> Tensor:
        drawn = {name: draw(name, n) for name, n in counts.items()}
        shares = {name: processes.share(n) for name, n in counts.items()}
        raw = {
            name: read(slice(None) if whole else shares[name]) for name, (_, read) in drawn.items()
        }
        for name, n in following.items() if locations == "fixed" else ():
            expect = getattr(loaded[name].samples, "expect", None)
            if expect is not None:
                expect(streams[name].coming(n)[slice(None) if whole else processes.share(n)])
        samples = {name: part[shares[name]] if whole else part for name, part in raw.items()}
        lonlat = torch.cat([part for part, _ in drawn.values()])
        modality = torch.repeat_interleave(
            torch.tensor([number[name] for name in counts]), torch.tensor(list(counts.values()))
        ).to(chosen_device)
        if several:
            blocks = torch.arange(batch, device=chosen_device).split(list(counts.values()))
            own = torch.cat([block[processes.share(len(block))] for block in blocks])
        with torch.autocast(chosen_device.type, torch.bfloat16, enabled=bfloat16):
            e = encoder.encode(lonlat[own] if several else lonlat)
            z = torch.cat([modality_encoders[name](part) for name, part in samples.items()])
        if several:
            z, e = (processes.gather(x, own, batch) for x in (z, e))
        by_number = {number[name]: part for name, part in raw.items()}
        return loss_function(Batch(z, e, modality, place_of(lonlat), by_number))

    def gradients(counts: Mapping[str, int], following: Mapping[str, int]) -> Tensor:
        with by_onednn:
            loss = step_loss(counts, following)
            loss.backward()
        if several:
            processes.sum_gradients(nn.ModuleList([encoder, modality_encoders]), loss_function)
        return loss.detach()

    parts: dict[str, Any] = {"learned": learned, "optimiser": optimiser, "rate": rate}
    parts |= {f"stream of {name}": stream for name, stream in streams.items()}
    identity = {**settings, **data, "initial weights": digest(learned.state_dict().values())}
    with (
        Checkpoint(checkpoint, identity) as kept,
        _bar(
            steps,
            f"{schedule} on {'+'.join(names)}, seed {seed}",
            progress and processes.rank() == 0,
        ) as bar,
    ):
        done = _Progress()
        if (state := kept.read()) is not None:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            done = _Progress(**state["progress"])
            done.losses = [loss.to(chosen_device) for loss in done.losses]
            _set_random_state(chosen_device, state["random"])
        start = time.perf_counter() - done.seconds

        def keep() -> None:
            done.seconds = time.perf_counter() - start
            states = {name: part.state_dict() for name, part in parts.items()}
            kept.write({**states, "progress": vars(done), "random": _random_state(chosen_device)})
            if kept.interrupted:
                raise KeyboardInterrupt(
                    f"stopped after step {done.step} of {steps}: the same call with "
                    f"checkpoint={str(kept.folder)!r} goes on from there"
                )

        bar.update(done.step)
        for epoch in range(len(done.rows) // len(loaded), epochs):
            counts = needed[epoch]
            first, end = epoch * steps // epochs, (epoch + 1) * steps // epochs
            pattern = tuple(counts.items())
            while done.step < end:
                if done.step + 1 < end:
                    following = counts
                else:
                    following = needed[epoch + 1] if epoch + 1 < epochs else {}
                optimiser.zero_grad(set_to_none=True)
                if pattern not in done.flops_of_step:
                    with FlopCounterMode(display=False) as counter:
                        loss = gradients(counts, following)
                    flops = processes.total(counter.get_total_flops(), chosen_device)
                    done.flops_of_step[pattern] = flops
                else:
                    loss = gradients(counts, following)
                optimiser.step()
                rate.step()
                loss_function.clamp_()
                done.losses.append(loss)
                done.step += 1
                bar.update()
                if kept.interrupted:
                    _check_finite(done, learned, {name: loaded[name] for name in counts}, kept)
                    keep()
            _check_finite(done, learned, {name: loaded[name] for name in counts}, kept)
            mean = torch.stack(done.losses).mean().item()
            done.losses.clear()
            done.flops += done.flops_of_step[pattern] * (end - first)
            bar.set_postfix(epoch=epoch + 1, loss=f"{mean:.3f}")
            for name, scores in _validate(encoder, modality_encoders, loaded).items():
                done.rows.append(
                    {
                        "epoch": epoch + 1,
                        "step": done.step,
                        "pairs": done.step * batch,
                        "flops": done.flops,
                        "seconds": time.perf_counter() - start,
                        "learning_rate": rate.get_last_lr()[0],
                        "modality": name,
                        "active": name in counts,
                        "train_loss": mean,
                        **scores,
                    }
                )
            if watch is not None and processes.rank() == 0:
                drawn = _random_state(chosen_device)
                watch(copy.deepcopy(encoder).eval(), epoch + 1)
                _set_random_state(chosen_device, drawn)
            keep()
    processes.wait()  # for the last state, which is the first process's to write
    import pandas as pd

    settings["seconds"] = round(done.seconds, 1)
    return Run(encoder.eval(), modality_encoders.eval(), pd.DataFrame(done.rows), settings)


# ------------------------------------------------------------------------------- before the loop


def _steps(pairs: int, batch: int, epochs: int) -> int:
    for name, value in {"pairs": pairs, "batch": batch, "epochs": epochs}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1")
    if batch < 2:
        raise ValueError(f"batch={batch}: a contrastive batch needs at least 2 pairs")
    steps = pairs // batch
    if steps < epochs:
        raise ValueError(
            f"pairs={pairs} in batches of {batch} make {steps} steps, fewer than "
            f"epochs={epochs}: raise pairs to {batch * epochs} or lower epochs"
        )
    return steps


def _check_choices(learning_rate: float, decay: str, locations: str, precision: str) -> None:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate}: it must be positive and finite")
    for what, value, known in (
        ("decay", decay, ("cosine", "constant")),
        ("kind of locations", locations, ("fixed", "fresh")),
        ("precision", precision, ("auto", "float32", "bfloat16")),
    ):
        if value not in known:
            raise unknown(what, value, known)


def _device_name(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if processes.count() == 1 else f"{processes.count()} x {name}"


def _load(modalities: Sequence[str | Modality], samples: int, seed: int) -> list[Modality]:
    if not modalities:
        raise ValueError(f"no modality given: name at least one of {', '.join(MODALITIES)}")
    if samples < 1:
        raise ValueError(f"samples={samples}: a modality needs at least 1")
    factories = [m if isinstance(m, Modality) else MODALITIES[m] for m in modalities]
    loaded = [m if isinstance(m, Modality) else m(samples, seed) for m in factories]
    names = [m.name for m in loaded]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"modality {name!r} is given twice: name each modality once")
    _warn_of_shared_cells(loaded)
    return loaded


def _warn_of_shared_cells(modalities: Sequence[Modality]) -> None:
    cells = {m.name: cell_index(m.lonlat.cpu(), CELL_DEGREES).unique() for m in modalities}
    for one, other in combinations(cells, 2):
        shared = int(torch.isin(cells[one], cells[other]).sum())
        if shared:
            warnings.warn(
                f"modalities {one!r} and {other!r} share {shared} cells of about 50 km: they are "
                "not unpaired there. Read your own with read_modality(..., beside=[...]), naming "
                "the others",
                stacklevel=4,
            )


def _check_sizes(
    modalities: Mapping[str, Modality],
    needed: Sequence[Mapping[str, int]],
    batch: int,
    locations: str,
) -> None:
    for counts in needed:
        for name, n in counts.items():
            if n < processes.count():
                raise ValueError(
                    f"a batch of {batch} takes {n} samples of {name!r}, fewer than the "
                    f"{processes.count()} processes: raise batch"
                )
            held = len(modalities[name].lonlat)
            if n > held and locations == "fixed":
                raise ValueError(
                    f"a batch of {batch} takes {n} samples of {name!r}, which has {held}: "
                    f"lower batch, raise samples, or take locations='fresh'"
                )


def _seeded(modality: Modality, dim: int, seed: int) -> nn.Module:
    """A modality encoder whose initial weights depend on its name and the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed_of(modality.name, seed))
        return modality.encoder(dim)


def _digest(modality: Modality) -> str:
    """A hash of all locations and the first samples, held-out ones too."""
    sets = [modality] if modality.validation is None else [modality, modality.validation]
    some = (m.samples[torch.arange(min(64, len(m.lonlat)))] for m in sets)
    return digest([*(m.lonlat for m in sets), *some])


def _seed_of(name: str, seed: int) -> int:
    return zlib.crc32(f"{name}/{seed}".encode())


def _optimiser(modules: Sequence[nn.Module], learning_rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone: none on biases, norms and the temperature."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def _rate(steps: int, decay: str) -> Any:
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / warm_up)
        if decay == "constant":
            return rising
        along = max(0, step - warm_up) / max(1, steps - warm_up)
        return rising * (1 + math.cos(math.pi * along)) / 2

    return factor


# ------------------------------------------------------------------------------ within the loop


@dataclass
class _Progress:
    """How far a run is: what of its state lies in no module, optimiser or stream."""

    step: int = 0
    flops: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)  # scalars, of the epoch's steps so far
    flops_of_step: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)


def _random_state(device: torch.device) -> list[Tensor]:
    """The global generators, from which dropout in an encoder draws."""
    gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *gpu]


def _set_random_state(device: torch.device, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


def _check_finite(
    done: _Progress, learned: nn.Module, active: Mapping[str, Modality], kept: Checkpoint
) -> None:
    """Stop where a loss of this epoch, or a weight after it, is not finite.

    Looked at once an epoch: the host would wait for the device at every step otherwise.
    """
    losses = torch.stack(done.losses).isfinite()
    weights = torch.stack([p.isfinite().all() for p in learned.parameters()])
    if losses.all() and weights.all():
        return
    first = done.step - len(losses)
    if losses.all():
        what = f"a weight is not finite by step {done.step}"
    else:
        bad = int(losses.logical_not().nonzero()[0])
        what = f"the loss is {done.losses[bad].item()} at step {first + bad + 1}"
    message = f"{what}, on {', '.join(active)}: {_remedy(active)}"
    if (state := kept.read()) is not None:
        message += f". The state of step {state['progress']['step']} stays in {kept.folder}"
    raise FloatingPointError(message)


def _remedy(active: Mapping[str, Modality]) -> str:
    for name, modality in active.items():
        for index in torch.arange(len(modality.samples)).split(1024):
            samples = modality.samples[index.to(modality.lonlat.device)]
            wrong = samples.isfinite().flatten(1).all(1).logical_not().nonzero()
            if len(wrong):
                return f"sample {int(index[wrong[0]])} of {name!r} is not finite: mend or drop it"
    return "their samples are finite, so training diverged: lower learning_rate"


@torch.no_grad()
def _validate(
    encoder: LocationEncoder, modality_encoders: nn.ModuleDict, modalities: Mapping[str, Modality]
) -> dict[str, dict[str, float]]:
    """Loss and recall from each modality's held-out samples to their locations."""
    encoder.eval()
    modality_encoders.eval()
    scores = {}
    for name, modality in modalities.items():
        held_out = modality.validation
        if held_out is None:
            scores[name] = {"validation_loss": math.nan, "recall_at_10": math.nan}
            continue
        index = torch.arange(len(held_out.lonlat), device=held_out.lonlat.device)
        e = encoder.encode(held_out.lonlat)
        z = modality_encoders[name](held_out.samples[index])
        batch = Batch(z, e, torch.zeros_like(index), place_of(held_out.lonlat))
        similarity = F.normalize(z, dim=1) @ F.normalize(e, dim=1).T
        better = (similarity > similarity.diagonal()[:, None]).sum(1)
        scores[name] = {
            "validation_loss": nt_xent(batch, torch.tensor(INITIAL_LOG_SCALE)).item(),
            "recall_at_10": (better < 10).float().mean().item(),
        }
    encoder.train()
    modality_encoders.train()
    return scores


def _bar(steps: int, title: str, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, desc=title, unit="step", disable=not progress)
