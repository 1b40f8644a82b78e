"""What the benchmarks count, on a machine of any kind; what they time is nobody's test."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu_step(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_step

    return gpu_step


def test_a_product_is_counted_with_what_it_reads_and_writes(gpu_step):
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    counts = gpu_step.count(lambda: (a @ b.view(30, 20).view(20, 30))[0])
    assert counts == (2 * 10 * 20 * 30, 4 * (10 * 20 + 20 * 30 + 10 * 30), 1)


def test_what_is_overwritten_is_counted_and_what_is_only_allocated_is_not(gpu_step):
    a = torch.zeros(100)
    counts = gpu_step.count(lambda: (torch.empty(1000), a.add_(1.0)))
    assert counts == (0, 2 * 400, 1)


def test_a_step_of_three_modalities_is_counted(gpu_step):
    step = gpu_step.training_step(3, 64, degree=4)
    location = 3 * (16 * 512 + 512 * 512 + 512 * 256) - 16 * 512  # no gradient of the features
    sample = 3 * (36 * 256 + 2 * 256 * 256) - 36 * 256
    counts = gpu_step.count(step)
    assert counts.flops == 2 * 64 * (location + sample) + 3 * 2 * 64 * 64 * 256
    weights = 16 * 512 + 512 * 512 + 512 * 256
    assert counts.moved > 4 * 8 * weights, "the optimiser alone moves eight numbers a weight"


@pytest.mark.slow
def test_without_a_gpu_it_says_so_in_one_line():
    command = [sys.executable, str(BENCHMARKS / "gpu_step.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "there is no GPU here: nothing was measured"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_graph_of_a_step_trains_as_the_step_does(gpu_step):
    graph = gpu_step.as_graph(gpu_step.training_step(3, 64, degree=4, device="cuda"))
    assert gpu_step.milliseconds(graph, 3) > 0
    assert gpu_step.kernels(graph) > 10
