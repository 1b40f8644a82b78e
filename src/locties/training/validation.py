"""Checks between epochs: scores on held-out samples, and whether all numbers are finite."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties.encoder import LocationEncoder
from locties.modality import Modality
from locties.objectives import INITIAL_LOG_SCALE, Batch, nt_xent, place_of


@torch.no_grad()
def held_out_scores(
    encoder: LocationEncoder, modality_encoder: nn.Module, held_out: Modality | None
) -> dict[str, float]:
    """How well held-out samples find their own locations, at temperature 0.07; NaN for none."""
    if held_out is None:
        return {"validation_loss": math.nan, "recall_at_10": math.nan}
    index = torch.arange(len(held_out.lonlat), device=held_out.lonlat.device)
    e = encoder.encode(held_out.lonlat, held_out.month)
    z = modality_encoder(held_out.samples[index])
    batch = Batch(z, e, torch.zeros_like(index), place_of(held_out.lonlat))
    similarity = F.normalize(z, dim=1) @ F.normalize(e, dim=1).T
    better = (similarity > similarity.diagonal()[:, None]).sum(1)
    return {
        "validation_loss": nt_xent(batch, torch.tensor(INITIAL_LOG_SCALE)).item(),
        "recall_at_10": (better < 10).float().mean().item(),
    }


def find_fault(
    losses: Sequence[Tensor], step: int, learned: nn.Module, active: Mapping[str, Modality]
) -> str | None:
    """A message if one of the `losses` of the steps up to `step`, or a weight, is not finite.

    It is called once an epoch: at every step, it would make the CPU wait for the GPU.
    """
    finite = torch.stack(list(losses)).isfinite().tolist() if losses else []
    if not all(finite):
        bad = finite.index(False)
        what = f"the loss is {losses[bad].item()} at step {step - len(losses) + bad + 1}"
    elif not torch.stack([p.isfinite().all() for p in learned.parameters()]).all():
        what = f"a weight is not finite by step {step}"
    else:
        return None
    what += f", on {', '.join(active)}"
    for name, modality in active.items():
        for index in torch.split(torch.arange(len(modality.samples)), 1024):
            samples = modality.samples[index.to(modality.lonlat.device)]
            wrong = samples.isfinite().flatten(1).all(1).logical_not().nonzero()
            if len(wrong):
                row = int(index[wrong[0]])
                return f"{what}: sample {row} of {name!r} is not finite: correct or drop it"
    return f"{what}: all their samples are finite, so training diverged: lower learning_rate"
