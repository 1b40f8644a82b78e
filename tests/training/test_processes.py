"""Two processes do what one does with the whole batch: loss, gradients, weights, and the state."""

import importlib
import multiprocessing
import os
import socket
from typing import Any

import pytest
import torch
from tiny_runs import TINY, a_modality, an_encoder, weights
from torch import nn

from locties.modality import Modality, Standardise, patch_encoder
from locties.objectives import NTXent
from locties.training import loop, pretrain, processes
from locties.training.checkpoint import load_state

# 69 pairs: neither a modality's 23 of a MELT batch nor SALT's batch can be halved. Steps are tiny,
# so that the gradients of later ones can be compared, too.
SETTINGS = TINY | {"pairs": 69 * 3, "batch": 69, "epochs": 3, "learning_rate": 1e-7}
CASES: dict[str, dict[str, Any]] = {
    f"{schedule}, {direction}, {negatives}": {
        "schedule": schedule,
        "objective_options": {"direction": direction, "negatives": negatives},
    }
    for schedule, direction, negatives in [
        ("melt", "modality_to_location", "joint"),
        ("melt", "location_to_modality", "within_modality"),
        ("salt", "symmetric", "joint"),
    ]
}
CASES |= {
    name: {"schedule": "melt", "objective": name} for name in ("siglip", "vicreg", "fidelity")
}


def token_encoder(dim: int) -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(400, 8, padding_idx=0), nn.Linear(8, dim))


def modalities() -> list[Modality]:
    """Profiles, patches and tokens, whose encoders see batches of one sample too."""
    profiles, lonlat = a_modality("profiles"), a_modality("b").lonlat
    patches = lonlat.deg2rad().sin()[:, :, None, None] * torch.linspace(0.5, 1, 256).view(16, 16)
    tokens = 1 + (lonlat.abs().long()[:, :1] + torch.arange(64)) % 300
    return [
        profiles,
        Modality("patches", lonlat, patches, patch_encoder(2, Standardise(patches))),
        Modality("tokens", lonlat + torch.tensor([0.0, 1.0]), tokens, token_encoder),
    ]


def train(schedule: str, **changes):
    """History, final weights, and the gradients of every step."""
    gradients, make = [], loop.adamw

    def recording(*args):
        optimiser = make(*args)
        optimiser.register_step_pre_hook(
            lambda *_: gradients.append(
                [
                    None if p.grad is None else p.grad.clone()
                    for group in optimiser.param_groups
                    for p in group["params"]
                ]
            )
        )
        return optimiser

    loop.adamw = recording
    try:
        run = pretrain(schedule, modalities(), an_encoder(), **SETTINGS | changes)
    finally:
        loop.adamw = make
    history = run.history.drop(columns="seconds").to_dict("list")
    return {"run": run, "gradients": gradients, "history": history}


def work(rank: int, port: int, folder) -> None:
    """One of the two, with the environment that torchrun gives."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "none",
    }
    results = {}
    for name, case in CASES.items():
        done = train(**case)
        results[name] = {k: done[k] for k in ("gradients", "history")}
        run = done["run"]
        results[name]["weights"] = weights(
            torch.nn.ModuleList([run.encoder, run.modality_encoders])
        )
    torch.save(results, folder / f"{rank}.pt")

    try:
        pretrain("melt", modalities(), an_encoder(), **SETTINGS | {"batch": 4})
    except ValueError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    kept, seen = folder / "checkpoint", []

    def break_down(self):
        seen.append(1)
        if len(seen) == 2:
            raise ConnectionError

    unbroken, NTXent.clamp_ = NTXent.clamp_, break_down
    try:
        train("melt", checkpoint=kept)
    except ConnectionError:
        NTXent.clamp_ = unbroken
    again = train("melt", checkpoint=kept)
    assert len(again["gradients"]) == 2, "one step was behind it"
    state = load_state(kept / "state.pt")["state"]
    assert state["progress"]["step"] == 3, "no process leaves before the last state is written"
    whole = train("melt")
    assert torch.equal(weights(again["run"].encoder), weights(whole["run"].encoder))
    whole["run"].save(folder / f"run{rank}")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    importlib.import_module("lightning_fabric")  # once, and not in each of the forks
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(rank, port, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    results = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return folder, results


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_those_of_the_whole_batch(two, case):
    _, (first, second) = two
    one = train(**CASES[case])
    assert first[case]["history"]["train_loss"] == pytest.approx(
        one["history"]["train_loss"], rel=1e-6
    )
    assert len(first[case]["gradients"]) == len(one["gradients"]) == 3
    for step, gradients in enumerate(zip(one["gradients"], first[case]["gradients"], strict=True)):
        largest = max(of_one.abs().max() for of_one in gradients[0] if of_one is not None)
        for of_one, of_two in zip(*gradients, strict=True):
            assert (of_one is None) == (of_two is None), "an idle encoder has no gradient"
            if of_one is not None:
                off = (of_one - of_two).abs().max()
                assert off <= 1e-6 * largest, f"{off} of {largest} in step {step + 1}"
    assert torch.equal(first[case]["weights"], second[case]["weights"])


def test_idle_encoders_have_no_gradient_under_salt(two):
    _, (first, _) = two
    steps = first["salt, symmetric, joint"]["gradients"]
    idle = [{i for i, gradient in enumerate(step) if gradient is None} for step in steps]
    assert all(idle)
    assert set.intersection(*idle) == set(), "each modality has its turn"


def test_a_share_that_would_be_empty_is_refused(two):
    folder, _ = two
    for rank in range(2):
        message = (folder / f"{rank}.txt").read_text()
        assert "takes 1 samples of 'patches', fewer than the 2 processes: raise batch" in message


def test_only_the_first_process_writes(two):
    folder, _ = two
    assert (folder / "run0" / "history.parquet").exists()
    assert not (folder / "run1").exists()


STARTED = {
    "torchrun, 4 on this machine": ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, (4, 1)),
    "torchrun, 2 machines of 4": ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (4, 2)),
    "srun, 4 on one node": ({"SLURM_STEP_NUM_TASKS": "4"}, (4, 1)),
    "srun, 2 nodes of 4": ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, (4, 2)),
    "a batch script alone": ({"SLURM_NTASKS": "8"}, None),
}


@pytest.mark.parametrize("way", STARTED)
def test_processes_are_joined_however_they_were_started(way, monkeypatch):
    environment, expected = STARTED[way]
    joined = []

    class Fabric:
        device = torch.device("cpu", 1)

        def __init__(self, accelerator, strategy, devices, num_nodes):
            joined.append((devices, num_nodes))

        def launch(self):
            pass

    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importlib.import_module("lightning_fabric"), "Fabric", Fabric)
    device = processes.join(torch.device("cpu"))
    assert joined == ([] if expected is None else [expected])
    assert device == (torch.device("cpu") if expected is None else Fabric.device)
