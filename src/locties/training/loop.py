"""The training loop that MELT, SALT and the two-modality baseline share."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from locties._util.making import Making
from locties._util.matmul import ByOneDNN
from locties._util.registry import device_of
from locties.encoder import LocationEncoder
from locties.modality import Modality
from locties.objectives import Batch, Objective, place_of
from locties.training import processes
from locties.training.batches import Batches, Pairs, seed_of
from locties.training.checkpoint import Checkpoint, digests
from locties.training.run import Flops, Progress, Run, progress_bar, random_state, set_random_state
from locties.training.settings import (
    Settings,
    by_name,
    check_callback,
    load_modalities,
    starting_encoder,
)
from locties.training.validation import find_fault, held_out_scores

WARM_UP = 0.05  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 0.01
AfterEpoch = Callable[[LocationEncoder, int], object]


def pretrain(
    schedule: str,
    modalities: str | Modality | Sequence[str | Modality],
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
    after_epoch: AfterEpoch | None = None,
) -> Run:
    """Train a location encoder on samples of one or more unpaired modalities.

    A run takes ``pairs // batch`` steps, whatever the schedule and the number of modalities. They
    are divided into `epochs` of equal length. After each epoch, SALT changes its modality, and all
    modalities are validated.

    Args:
        schedule: "melt", "salt" or "clip" (one modality); see `locties.training.schedules`.
        modalities: names in `locties.modalities.MODALITIES`, or `Modality` objects.
        encoder: the encoder to start from; a copy of it is trained. Default: spherical harmonics of
            degree 40 and SIREN. Its `nested` dimensions are trained to be embeddings too: the loss
            is the mean over them and the whole embedding.
        pairs: (sample, location) pairs seen in all.
        batch: pairs in a batch, all modalities together.
        epochs: number of epochs.
        learning_rate: peak learning rate of AdamW, after a linear rise over 5% of the steps.
        decay: "cosine" to zero at the end, or "constant".
        objective: name in `locties.objectives.OBJECTIVES`.
        objective_options: its options. The default of `direction` is the schedule's: samples to
            locations for MELT and SALT, symmetric for clip.
        locations: "fixed" draws each modality's locations once, "fresh" new ones for every batch.
        samples: number of samples of each modality given by name, when locations are fixed.
        seed: determines weights, samples and their order. On one thread of a CPU two runs are
            identical.
        device: "auto" takes a GPU when there is one.
        precision: precision of the encoders; the loss is always float32. "auto" is bfloat16 on a
            GPU that has it, else float32. On a CPU that is slower in bfloat16, a run in "bfloat16"
            becomes one in float32, with a warning.
        progress: show a progress bar on stderr.
        checkpoint: folder for the state of the run, written at the end of each epoch and at an
            interrupt (SIGINT, SIGTERM). The same call resumes. On one thread of a CPU the result is
            bit-identical to that of an unbroken run, if modalities of your own draw only from the
            generator that they are given. Delete the folder when the run is saved.
        after_epoch: called at the end of each epoch, in the first process, with a copy of the
            encoder and the number of the epoch, from 1. The function cannot change the run. After a
            kill it may be called again for the same epoch.

    Raises:
        ValueError: an argument is wrong, or `checkpoint` holds another run.
        RuntimeError: another process uses `checkpoint`.
        FloatingPointError: loss or weights are not finite; `checkpoint` keeps the last good state.

    Example:
        >>> encoder = LocationEncoder("xyz", "mlp", dim=16, network_options={"hidden": 32})
        >>> run = pretrain("melt", ["rain", "haze"], encoder, pairs=512, batch=128, epochs=2,
        ...                samples=256, progress=False)
        >>> run.encoder([[13.4, 52.5]]).shape
        torch.Size([1, 16])

    Source: Hecht et al., arXiv 2606.20167 (MELT, SALT); Klemmer et al., arXiv 2311.17179 (clip).
    """
    named = by_name(modalities)
    settings = Settings(
        schedule=schedule,
        modalities=list(named),
        pairs=pairs,
        batch=batch,
        epochs=epochs,
        learning_rate=learning_rate,
        decay=decay,
        objective=objective,
        objective_options={} if objective_options is None else objective_options,
        locations=locations,
        samples=samples,
        seed=seed,
        device=device,
        precision=precision,
    )
    check_callback(checkpoint, after_epoch)
    encoder = starting_encoder(encoder, settings.seed)
    loss = settings.make_objective(encoder.nested, encoder.network_dim)
    on = processes.join(device_of(device))
    settings = settings.on(on)
    loaded = load_modalities(named, settings, encoder.time)
    loop = Loop(settings, encoder, loaded, loss, on)
    identity = {} if checkpoint is None else {**loop.described(), **digests(loaded, loop.learned)}
    title = f"{schedule} on {'+'.join(settings.modalities)}, seed {seed}"
    with (
        Checkpoint(checkpoint, identity) as kept,
        progress_bar(settings.steps, title, progress) as bar,
    ):
        loop.run(kept, bar, after_epoch)
    processes.wait()  # for the first process to write the last state
    return loop.result()


class Loop:
    """A run under way: all that a step changes, and the step."""

    def __init__(
        self,
        settings: Settings,
        encoder: LocationEncoder,
        modalities: Mapping[str, Modality],
        objective: Objective,
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        self.schedule = settings.make_schedule()
        self.modalities = {name: m.to(device) for name, m in modalities.items()}
        self.encoder = encoder.to(device).train()
        self.modality_encoders = nn.ModuleDict(
            {name: self._modality_encoder(m) for name, m in self.modalities.items()}
        ).to(device)
        self.objective = objective
        self.objective.prepare(self.modalities, encoder.network_dim)
        self.encoders = nn.ModuleList([self.encoder, self.modality_encoders])
        self.learned = nn.ModuleList([*self.encoders, self.objective.to(device)])
        self.optimiser = adamw(self.learned, settings.learning_rate)
        self.rate = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, rate_factor(settings.steps, settings.decay)
        )
        self.batches = Batches(
            self.modalities, settings.locations, settings.seed, objective.reads_samples
        )
        self.progress, self.flops = Progress(), Flops(device)
        self.matmul = ByOneDNN() if device.type == "cpu" else nullcontext()
        self.started = time.perf_counter()

    def run(self, checkpoint: Checkpoint, bar: Any, after_epoch: AfterEpoch | None) -> None:
        """Train to the end, from the state in `checkpoint` if there is one."""
        if (state := checkpoint.read()) is not None:
            self.load_state_dict(state)
        progress, settings = self.progress, self.settings
        bar.initial = bar.n = progress.step
        while progress.epoch < settings.epochs:
            end = (progress.epoch + 1) * settings.steps // settings.epochs
            while progress.step < end and not checkpoint.interrupted:
                self.step()
                bar.update()
            self.check_finite(checkpoint)
            if progress.step == end:
                bar.set_postfix(epoch=progress.epoch + 1, loss=f"{self.validate():.3f}")
                if after_epoch is not None and processes.rank() == 0:
                    gpus = [self.device] if self.device.type == "cuda" else []
                    with torch.random.fork_rng(gpus):
                        after_epoch(copy.deepcopy(self.encoder).eval(), progress.epoch)
            checkpoint.write(self.state_dict())
            if checkpoint.interrupted:
                raise KeyboardInterrupt(
                    f"stopped after step {progress.step} of {settings.steps}: the same call with "
                    f"checkpoint={str(checkpoint.folder)!r} resumes"
                )

    def step(self) -> None:
        """Draw a batch, compute its loss and update the encoders it used; others do not change."""
        counts, following = self.counts(self.progress.step), self.counts(self.progress.step + 1)
        self.optimiser.zero_grad(set_to_none=True)
        with self.matmul, self.flops.counted(counts, self.progress):
            loss = self.loss(self.batches.draw(counts, following))
            torch.autograd.backward(loss)
        processes.sum_gradients(self.encoders, self.objective)
        self.optimiser.step()
        self.rate.step()
        self.objective.clamp_()
        self.progress.losses.append(loss.detach())
        self.progress.step += 1

    def loss(self, drawn: Pairs) -> Tensor:
        """The objective on the embeddings of the whole batch, those of other processes included."""
        bfloat16 = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            month = None if drawn.month is None else drawn.month[drawn.rows]
            e = self.encoder.encode(drawn.lonlat[drawn.rows], month)
            if self.objective.encodes_samples:
                z = torch.cat([self.modality_encoders[k](x) for k, x in drawn.samples.items()])
            else:
                z = torch.zeros_like(e)
        z, e = (processes.gather(x, drawn.rows, len(drawn.lonlat)) for x in (z, e))
        batch = Batch(z, e, drawn.modality, place_of(drawn.lonlat), drawn.raw)
        loss: Tensor = self.objective(batch)
        return loss

    def counts(self, step: int) -> dict[str, int]:
        """How many samples of each modality a step takes; none after the last step."""
        if step >= self.settings.steps:
            return {}
        return self.schedule.counts(self.settings.epoch_of(step), self.settings.batch)

    def validate(self) -> float:
        """End the epoch: add its rows to the history, and return its mean loss."""
        progress, active = self.progress, self.counts(self.progress.step - 1)
        mean = torch.stack(progress.losses).mean().item()
        progress.losses.clear()
        progress.epoch += 1
        self.encoders.eval()
        for name, modality in self.modalities.items():
            encoders = self.encoder, self.modality_encoders[name]
            held_out = modality.validation if self.objective.encodes_samples else None
            progress.rows.append(
                {
                    "epoch": progress.epoch,
                    "step": progress.step,
                    "pairs": progress.step * self.settings.batch,
                    "flops": progress.flops,
                    "seconds": time.perf_counter() - self.started,
                    "learning_rate": self.rate.get_last_lr()[0],
                    "modality": name,
                    "active": name in active,
                    "train_loss": mean,
                    **held_out_scores(*encoders, held_out),
                }
            )
        self.encoders.train()
        return mean

    def check_finite(self, checkpoint: Checkpoint) -> None:
        """Stop if a loss of this epoch, or a weight after it, is not finite."""
        progress = self.progress
        active = {name: self.modalities[name] for name in self.counts(max(0, progress.step - 1))}
        if fault := find_fault(progress.losses, progress.step, self.learned, active):
            if (state := checkpoint.read()) is not None:
                step = state["progress"]["step"]
                fault += f". The state of step {step} stays in {checkpoint.folder}"
            raise FloatingPointError(fault)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        self.progress.seconds = time.perf_counter() - self.started
        return {
            "learned": self.learned.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rate": self.rate.state_dict(),
            "batches": self.batches.state_dict(),
            "progress": vars(self.progress),
            "random": random_state(self.device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("learned", "optimiser", "rate", "batches"):
            getattr(self, name).load_state_dict(state[name])
        self.progress = Progress(**state["progress"])
        self.progress.losses = [loss.to(self.device) for loss in self.progress.losses]
        self.started = time.perf_counter() - self.progress.seconds
        set_random_state(self.device, state["random"])

    def described(self) -> dict[str, Any]:
        """The settings of the run and the encoder's, as plain values."""
        return {**self.settings.plain(), "encoder": self.encoder.config}

    def result(self) -> Run:
        """The trained encoders, with the history and the settings."""
        import pandas as pd

        history = pd.DataFrame(self.progress.rows)
        settings = self.described() | {"seconds": round(self.progress.seconds, 1)}
        return Run(self.encoder.eval(), self.modality_encoders.eval(), history, settings)

    def _modality_encoder(self, modality: Modality) -> nn.Module:
        """Initial weights depend only on the modality's name and the seed."""
        with Making(seed_of(modality.name, self.settings.seed)):
            return modality.encoder(self.encoder.network_dim)


def adamw(learned: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101); weight decay on matrices, none on biases, norms, temperature."""
    parameters = [p for p in learned.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def rate_factor(steps: int, decay: str) -> Callable[[int], float]:
    """The learning rate of a step as a share of its peak: a linear rise, then `decay`."""
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / warm_up)
        if decay == "constant":
            return rising
        along = max(0, step - warm_up) / max(1, steps - warm_up)
        return rising * (1 + math.cos(math.pi * along)) / 2

    return factor
