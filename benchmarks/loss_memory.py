"""The memory that NT-Xent and its gradients add to a process, and how long they take.

    python benchmarks/loss_memory.py 32768 256 symmetric float32

prints MB and seconds: of so many pairs, of so many numbers each, in one direction or both, of
embeddings of this kind. The embeddings themselves are there before; their gradients are counted. On
Linux alone, whose own count of a process's largest size begins with the process: `getrusage` begins
with the parent's.
"""

import re
import sys
import time
from pathlib import Path

import torch

from locties.objectives import Batch, nt_xent


def largest() -> float:
    """MB of memory that this process has had at once."""
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
    nt_xent(pairs_of(64, dim, kind), scale, direction).backward()  # what the first call loads
    batch = pairs_of(pairs, dim, kind)
    before, start = largest(), time.process_time()
    nt_xent(batch, scale, direction).backward()
    print(largest() - before, time.process_time() - start)


if __name__ == "__main__":
    main()
