"""One run in several processes: who they are, and what they exchange.

Every process draws the same batches, embeds its share of each, and computes the loss of the whole
batch. The gradient of its share is then exact, whatever the objective. In a run of one process
these functions do nothing: its share is everything.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from locties._util.extras import needs


def join(device: torch.device) -> torch.device:
    """Join the processes that torchrun or srun started, if any; return this process's device."""
    # SLURM_NTASKS is also set in batch scripts, where only srun starts several processes.
    several = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", 1)))
    if several == 1 or _joined():
        return device
    with needs("distributed", f"training in {several} processes"):
        from lightning_fabric import Fabric
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", several // nodes))
    fabric = Fabric(
        accelerator=device.type, strategy="ddp", devices=here, num_nodes=several // here
    )
    fabric.launch()
    return fabric.device


def rank() -> int:
    """The number of this process, from 0; only the first one writes."""
    return dist.get_rank() if _joined() else 0


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _joined() else 1


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def wait() -> None:
    """Wait for every process to arrive here."""
    if count() > 1:
        dist.barrier()


def total(number: int, device: torch.device) -> int:
    """The sum over all processes."""
    if count() == 1:
        return number
    summed = torch.tensor(number, device=device)
    dist.all_reduce(summed)
    return int(summed)


def share(n: int) -> slice:
    """This process's share of n rows; some shares have one more if n is not divisible."""
    return slice(n * rank() // count(), n * (rank() + 1) // count())


def rows(sizes: Sequence[int], device: torch.device) -> Tensor | slice:
    """This process's rows of a batch of blocks of these sizes: its share of each block."""
    if count() == 1:
        return slice(None)
    blocks = torch.split(torch.arange(sum(sizes), device=device), list(sizes))
    return torch.cat([block[share(len(block))] for block in blocks])


def gather(part: Tensor, rows: Tensor | slice, total: int) -> Tensor:
    """All rows (total, d), with gradient, from each process's `part` (n, d) at its `rows`."""
    if count() == 1:
        return part
    gathered: Callable[..., Tensor] = _Gather.apply
    return gathered(part, rows, total)


class _Gather(torch.autograd.Function):
    """Sum rows that are zero in all processes but one: exact, and shares may differ in size."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(rows)
        whole = part.new_zeros(total, *part.shape[1:])
        whole[rows] = part
        dist.all_reduce(whole)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Each process has the loss of the whole batch, so the gradient of its rows is complete.
        return grad[ctx.saved_tensors[0]], None, None


def sum_gradients(split: nn.Module, whole: nn.Module) -> None:
    """Give every process the gradients of the whole batch; None stays None.

    The two modules saw different rows: each process ran `split` on its own share of the batch, and
    `whole` on the full batch.
    """
    if count() == 1:
        return
    for parameter in whole.parameters():
        if parameter.grad is not None:
            parameter.grad /= count()
    parameters = (p for module in (split, whole) for p in module.parameters())
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for grad, summed in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
        grad.copy_(summed.view_as(grad))
