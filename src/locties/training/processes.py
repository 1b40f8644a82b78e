"""One run in several processes: who they are, and what they bring together.

Every process draws the same batches, embeds its own share of each, and takes the loss of the whole
batch: its own share of that loss's gradient is then exact, whatever the objective. A run in one
process neither needs nor imports anything of this but its answers, 0 and 1.
"""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def join(device: torch.device) -> torch.device:
    """Join the other processes where torchrun or srun started several; else do nothing.

    Args:
        device: of the kind that each of them takes one of.

    Returns:
        This process's own device.

    Raises:
        ImportError: where several were started and ``lightning-fabric`` is not installed.
    """
    # SLURM_NTASKS is set in a batch script too, where nothing but srun starts several.
    several = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", 1)))
    if several == 1 or (dist.is_available() and dist.is_initialized()):
        return device
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise ImportError(
            f"{several} processes were started: install locties[distributed] to train in several"
        ) from None
    nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", several // nodes))
    fabric = Fabric(
        accelerator=device.type, strategy="ddp", devices=here, num_nodes=several // here
    )
    fabric.launch()
    return fabric.device


def rank() -> int:
    """The number of this process, from 0; the first alone writes."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def wait() -> None:
    """Go on when every process is here."""
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
    """Which of n rows are this process's own; where n cannot be divided, some have one more.

    Example:
        >>> share(7)
        slice(0, 7, None)
    """
    return slice(n * rank() // count(), n * (rank() + 1) // count())


def gather(own: Tensor, rows: Tensor, total: int) -> Tensor:
    """All processes' rows, with gradient.

    Args:
        own: (n, d) of this process.
        rows: (n,) int64, which rows of the whole they are.
        total: rows in all.

    Returns:
        (total, d), the same in every process.
    """
    return _Gather.apply(own, rows, total)


class _Gather(torch.autograd.Function):
    """Sums of rows and zeros are exact, and need no equal shares."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(rows)
        whole = own.new_zeros(total, *own.shape[1:])
        whole[rows] = own
        dist.all_reduce(whole)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Every process takes the same loss of the whole, so its own rows' gradient is complete.
        return grad[ctx.saved_tensors[0]], None, None


def sum_gradients(split: nn.Module, whole: nn.Module) -> None:
    """Make the gradients of all processes those of the whole batch; None stays None.

    Args:
        split: each process has seen its own share of the batch with it.
        whole: each has seen the whole batch with it, as with the objective.
    """
    for parameter in whole.parameters():
        if parameter.grad is not None:
            parameter.grad /= count()
    parameters = (p for module in (split, whole) for p in module.parameters())
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for grad, summed in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(summed.view_as(grad))
