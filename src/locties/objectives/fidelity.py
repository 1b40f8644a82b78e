"""Fidelity: align samples with locations, and keep what alignment would erase."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from locties._util.registry import check_choice
from locties.modality import Modality
from locties.objectives.base import Batch, Negatives
from locties.objectives.content import contents_of, make_decoders, reading_error
from locties.objectives.contrastive import Direction, NTXent, nt_xent

Read = Literal["samples", "locations"]


def fidelity(
    batch: Batch,
    log_scale: Tensor,
    decoders: Sequence[nn.Module],
    contents: Mapping[int, Tensor],
    weight: float = 0.5,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
    read: Read = "samples",
) -> Tensor:
    """Alignment, plus the error of reading each sample's content from an embedding.

    With M modalities in the batch, z_i the embedding of sample i (not normalised), x_i its
    standardised `content` (c_m numbers) and W_m, b_m the linear decoder of its modality::

        L = (1 - weight) nt_xent + weight 1/M sum_m 1/(B_m c_m) sum_(i in m) |W_m z_i + b_m - x_i|^2

    If content is read from locations, the second term has e_i, the embedding of the location, in
    place of z_i. That term is then the loss of `Regression`, so L is contrast and regression.

    The second term is the share of content that the decoders do not read: about 1 for decoders that
    predict the mean, 0 for perfect ones. It is computed in float32, or in float64 if an embedding
    has it.

    Args:
        batch, log_scale, direction, negatives: see `nt_xent`.
        decoders: by number m of modality, from (B_m, d) to (B_m, c_m).
        contents: by number m of modality, (B_m, c_m) of its samples, in the order of the batch.
        weight: 0 is `nt_xent`; 1 is the second term alone, without alignment.
        read: "samples" or "locations": the embeddings from which content is read.

    Source: a design of this project. Thoreau, Levillain and Derksen (arXiv 2509.17943) ask what
    alignment erases; the objective is not theirs.
    """
    with torch.autocast(batch.samples.device.type, enabled=False):
        alignment = nt_xent(batch, log_scale, direction, negatives)
        embeddings = getattr(batch, read).to(batch.dtype)
        error = reading_error(embeddings, batch.modality, decoders, contents)
        return (1 - weight) * alignment + weight * error


class Fidelity(NTXent):
    """`fidelity` with a learned temperature and learned decoders.

    If a batch holds no sample of a modality, its decoder and encoder stay unchanged.

    `weight`, in [0, 1], is the weight of the term that keeps content. `read` says which embeddings
    keep it, those of "samples" or of "locations".
    """

    reads_samples = True

    def __init__(
        self,
        weight: float = 0.5,
        direction: Direction = "modality_to_location",
        negatives: Negatives = "joint",
        read: Read = "samples",
    ) -> None:
        super().__init__(direction, negatives)
        check_choice("embeddings to read", read, get_args(Read))
        if not 0 <= weight <= 1:
            raise ValueError(f"weight={weight}: it must be in [0, 1]")
        self.weight, self.read = weight, read
        self.decoders: Any = nn.ModuleList()

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        """Make a decoder for each modality; decoders made before are replaced."""
        self.decoders = make_decoders(modalities, dim)

    def forward(self, batch: Batch) -> Tensor:
        contents = contents_of(batch.raw, self.decoders, "fidelity")
        return fidelity(
            batch,
            self.log_scale,
            self.decoders,
            contents,
            self.weight,
            self.direction,
            self.negatives,
            self.read,
        )
