"""NT-Xent of large batches: the loss of `nt_xent_formula`, in little memory.

The formula keeps several B x B matrices, of 4.3 GB each at 32,768 pairs. Here only some rows of one
matrix exist at a time: they add their part to the loss and the gradients and are overwritten. The
gain:

- memory: 32,768 pairs of 256 numbers take about 150 MB, gradients included;
- time: at 8,192 pairs, three quarters of the formula's time on one thread;
- no slow denormal numbers: shares below 1e-30 become zero before they are multiplied.

The price: gradients are written by hand and cannot be differentiated again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from locties._util.matmul import NEGLIGIBLE, bfloat16_is_fast
from locties.objectives.base import Batch, Negatives, all_are_negatives, not_negatives

CHUNK = 2**20  # logits of a chunk: 4 MB, which stay in a CPU's cache
CHUNK_ROWS = 64  # the fewest rows of a chunk: with fewer, each row takes longer


def lean_nt_xent(batch: Batch, log_scale: Tensor, direction: str, negatives: Negatives) -> Tensor:
    """`nt_xent_formula` in chunks."""
    scale = log_scale.to(batch.samples.device, batch.dtype)
    inputs = (batch.samples, batch.locations, scale)
    with_gradients = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.autocast(batch.samples.device.type, enabled=False):
        apply: Any = _LeanNTXent.apply
        loss: Tensor = apply(*inputs, batch, direction, negatives, with_gradients)
    return loss


class _LeanNTXent(torch.autograd.Function):
    """The forward pass computes the gradients too, while each chunk of logits exists."""

    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        locations: Tensor,
        log_scale: Tensor,
        batch: Batch,
        direction: str,
        negatives: Negatives,
        with_gradients: bool,
    ) -> Tensor:
        swapped, symmetric = direction == "location_to_modality", direction == "symmetric"
        anchors, candidates = (locations, samples) if swapped else (samples, locations)
        scale, pairs, dtype = log_scale.exp(), len(samples), log_scale.dtype
        halves = samples.dtype == locations.dtype == torch.bfloat16
        # Gradients of bfloat16 embeddings are rounded to bfloat16 anyway.
        half_products = halves and not (samples.is_cpu and not bfloat16_is_fast())
        product_dtype = torch.bfloat16 if half_products else dtype
        masked = not all_are_negatives(batch, negatives)

        anchor_norms, candidate_norms = (
            torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype).clamp_min(1e-12)
            for x in (anchors, candidates)
        )
        unit_candidates = candidates / candidate_norms
        anchor_grad, candidate_grad = (
            torch.zeros_like(x, dtype=dtype) for x in (anchors, candidates)
        )
        size = min(pairs, max(CHUNK_ROWS, CHUNK // pairs))
        chunks = [slice(first, min(pairs, first + size)) for first in range(0, pairs, size)]
        # Allocated once: fresh memory costs a page fault for every 4 kB.
        logits_memory, shares_memory = scale.new_empty(2, size, pairs)

        def units_and_logits(rows: slice) -> tuple[Tensor, Tensor]:
            units = anchors[rows] / anchor_norms[rows]
            logits = torch.mm(scale * units, unit_candidates.T, out=logits_memory[: len(units)])
            if masked:
                logits.masked_fill_(not_negatives(batch, negatives, rows), -torch.inf)
            return units, logits

        # Column sums of exp(logit - peak), where peak is the column's largest logit so far.
        peaks = torch.full_like(candidate_norms[:, 0], torch.finfo(dtype).min)
        sums = torch.zeros_like(peaks)
        for rows in chunks if symmetric else []:
            _, logits = units_and_logits(rows)
            before, peaks = peaks, torch.maximum(peaks, logits.amax(0))
            sums = sums * (before - peaks).exp() + logits.sub_(peaks).exp_().sum(0)

        loss = torch.zeros_like(scale)
        multiplied = unit_candidates.to(product_dtype)
        for rows in chunks:
            units, logits = units_and_logits(rows)
            shares = torch.log_softmax(logits, 1, out=shares_memory[: len(units)])
            loss -= shares[:, rows].diagonal().sum()
            shares.exp_()
            if symmetric:
                logits.sub_(peaks).sub_(sums.log())
                loss -= logits[:, rows].diagonal().sum()
                shares += logits.exp_()
            if not with_gradients:
                continue
            if samples.is_cpu:
                F.threshold(shares, NEGLIGIBLE, 0.0, inplace=True)
            shares[:, rows].diagonal().sub_(2 if symmetric else 1)
            shares, units = shares.to(product_dtype), units.to(product_dtype)
            anchor_grad[rows] = shares @ multiplied
            # In parts, to save memory. Not by addmm_: torch's FLOP counter does not count it.
            for grad, columns in zip(
                torch.split(candidate_grad, 4096), torch.split(shares, 4096, dim=1), strict=True
            ):
                grad += columns.T @ units

        parts = pairs * (2 if symmetric else 1)
        scale_grad = torch.zeros_like(scale)
        for x, norms, x_grad in (
            (anchors, anchor_norms, anchor_grad),
            (candidates, candidate_norms, candidate_grad),
        ):
            for rows in (slice(i, i + 1024) for i in range(0, pairs, 1024)):
                # Only the direction of an embedding matters, not its length.
                units, grad = x[rows] / norms[rows], x_grad[rows]
                along = (units * grad).sum(1, keepdim=True)
                if x is anchors:
                    scale_grad += along.sum() * scale / parts
                grad -= units * along
                grad *= scale / parts / norms[rows]
        grads = (candidate_grad, anchor_grad) if swapped else (anchor_grad, candidate_grad)
        ctx.save_for_backward(*grads, scale_grad)
        return loss / parts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: without this the graph would end silently
            pairs = len(ctx.saved_tensors[0])
            raise NotImplementedError(
                f"nt_xent of {pairs} pairs is computed in chunks and cannot be differentiated "
                "twice (create_graph=True); use locties.objectives.nt_xent_formula"
            )
        return *(grads[0] * saved for saved in ctx.saved_tensors), None, None, None, None
