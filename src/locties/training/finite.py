"""Where a run stopped being finite: which step, on which modalities, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from locties.modality import Modality


def find_fault(
    losses: Sequence[Tensor], step: int, learned: nn.Module, active: Mapping[str, Modality]
) -> str | None:
    """A message where one of the `losses` of the steps up to `step`, or a weight, is not finite.

    Called once an epoch: reading a loss at every step would make the host wait for the device.
    """
    finite = torch.stack(list(losses)).isfinite().tolist() if losses else []
    if not all(finite):
        bad = finite.index(False)
        what = f"the loss is {losses[bad].item()} at step {step - len(losses) + bad + 1}"
    elif not torch.stack([p.isfinite().all() for p in learned.parameters()]).all():
        what = f"a weight is not finite by step {step}"
    else:
        return None
    return f"{what}, on {', '.join(active)}: {_remedy(active)}"


def _remedy(active: Mapping[str, Modality]) -> str:
    for name, modality in active.items():
        for index in torch.split(torch.arange(len(modality.samples)), 1024):
            samples = modality.samples[index.to(modality.lonlat.device)]
            wrong = samples.isfinite().flatten(1).all(1).logical_not().nonzero()
            if len(wrong):
                return (
                    f"sample {int(index[wrong[0]])} of {name!r} is not finite: correct or drop it"
                )
    return "all their samples are finite, so training diverged: lower learning_rate"
