"""Add an objective: decoupled contrastive learning.

An objective is an `Objective` whose `forward` turns a `Batch` into a scalar loss; its parameters
are trained too. This one leaves the positive pair out of the denominator of NT-Xent. Two pairs at
one place are not each other's negatives. Source: Yeh et al., "Decoupled Contrastive Learning" (ECCV
2022, arXiv 2110.06848).
"""

import torch
from torch.nn.functional import normalize

import locties
from locties.objectives import OBJECTIVES, Batch, Objective


class Decoupled(Objective):
    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, batch: Batch) -> torch.Tensor:
        z, e = normalize(batch.samples.float()), normalize(batch.locations.float())
        logits = z @ e.T / self.temperature
        same_place = batch.place[:, None] == batch.place
        negatives = logits.masked_fill(same_place, -torch.inf).logsumexp(dim=1)
        return (negatives - logits.diagonal()).mean()


OBJECTIVES["decoupled"] = Decoupled

if __name__ == "__main__":
    small = {"samples": 2000, "pairs": 30_000, "batch": 250, "epochs": 4, "learning_rate": 1e-3}
    encoder = locties.LocationEncoder(dim=64, feature_options={"degree": 10})
    for objective in ("nt_xent", "decoupled"):
        run = locties.pretrain("melt", ["rain", "haze"], encoder, objective=objective, **small)
        recall = run.history.groupby("modality")["recall_at_10"].last()
        print(f"{objective}: recall at 10 of 1024 {recall.round(3).to_dict()}")
