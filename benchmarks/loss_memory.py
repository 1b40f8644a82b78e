"""Measure the memory that NT-Xent and its gradients add to a process, and their time.

    python benchmarks/loss_memory.py 32768 256 symmetric float32

It prints MB and processor seconds for 32,768 pairs of 256 numbers in float32, in both directions.
The gradients of the embeddings count; the embeddings do not. It needs Linux: /proc gives the peak
memory of this process alone, while `getrusage` starts from its parent's.
"""

import re
import sys
import time
from pathlib import Path

import torch

from locties.objectives import Batch, nt_xent


def largest() -> float:
    """Peak memory of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def pairs_of(n: int, dim: int, kind: torch.dtype) -> Batch:
    z, e = (torch.randn(n, dim).to(kind).requires_grad_() for _ in range(2))
    ids = torch.arange(n)
    return Batch(z, e, ids % 3, ids)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pairs, dim, direction = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    kind = getattr(torch, sys.argv[4])
    scale = torch.tensor(2.6, requires_grad=True)
    nt_xent(pairs_of(64, dim, kind), scale, direction).backward()  # loads libraries
    batch = pairs_of(pairs, dim, kind)
    before, start = largest(), time.process_time()
    nt_xent(batch, scale, direction).backward()
    print(largest() - before, time.process_time() - start)


if __name__ == "__main__":
    main()
