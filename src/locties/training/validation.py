"""How well a modality's held-out samples find their own locations."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from locties.encoder import LocationEncoder
from locties.modality import Modality
from locties.objectives import INITIAL_LOG_SCALE, Batch, nt_xent, place_of


@torch.no_grad()
def held_out_scores(
    encoder: LocationEncoder, modality_encoder: nn.Module, held_out: Modality | None
) -> dict[str, float]:
    """Loss at a temperature of 0.07, and recall at 10; NaN where nothing is held out."""
    if held_out is None:
        return {"validation_loss": math.nan, "recall_at_10": math.nan}
    index = torch.arange(len(held_out.lonlat), device=held_out.lonlat.device)
    e = encoder.encode(held_out.lonlat)
    z = modality_encoder(held_out.samples[index])
    batch = Batch(z, e, torch.zeros_like(index), place_of(held_out.lonlat))
    similarity = F.normalize(z, dim=1) @ F.normalize(e, dim=1).T
    better = (similarity > similarity.diagonal()[:, None]).sum(1)
    return {
        "validation_loss": nt_xent(batch, torch.tensor(INITIAL_LOG_SCALE)).item(),
        "recall_at_10": (better < 10).float().mean().item(),
    }
