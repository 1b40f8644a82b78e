"""What the benchmarks count, on a machine of any kind; what they time is nobody's test."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import locties

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def gpu_step():
    import gpu_step

    return gpu_step


@pytest.fixture
def side_by_side():
    import side_by_side

    return side_by_side


def test_a_product_is_counted_with_what_it_reads_and_writes(gpu_step):
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    counts = gpu_step.count(lambda: (a @ b.view(30, 20).view(20, 30))[0])
    assert counts == ({"float32": 2 * 10 * 20 * 30}, 4 * (10 * 20 + 20 * 30 + 10 * 30), 1)


def test_what_is_overwritten_is_counted_and_what_is_only_allocated_is_not(gpu_step):
    a = torch.zeros(100)
    counts = gpu_step.count(lambda: (torch.empty(1000), a.add_(1.0)))
    assert counts == ({}, 2 * 400, 1)


LOCATION = 3 * (16 * 512 + 512 * 512 + 512 * 256) - 16 * 512  # no gradient of the features
SAMPLE = 3 * (36 * 256 + 2 * 256 * 256) - 36 * 256
LOGITS = 2 * 64 * 64 * 256  # and as much again for each side's gradients


@pytest.mark.parametrize("schedule", ["melt", "salt"])
def test_a_step_of_three_modalities_is_counted(gpu_step, schedule):
    """Of SALT too, each step of which has one modality."""
    step = gpu_step.training_step(3, 64, degree=4, schedule=schedule)
    counts = [gpu_step.count(step) for _ in range(4)]
    assert all(
        one.flops == {"float32": 2 * 64 * (LOCATION + SAMPLE) + 3 * LOGITS} for one in counts
    )
    weights = 16 * 512 + 512 * 512 + 512 * 256
    assert counts[0].moved > 4 * 8 * weights, "the optimiser alone moves eight numbers a weight"


def test_products_are_counted_by_the_type_of_their_numbers(gpu_step):
    counts = gpu_step.count(gpu_step.training_step(1, 64, degree=4, bfloat16=True))
    encoders = 2 * 64 * (LOCATION + SAMPLE)
    assert counts.flops == {"bfloat16": encoders + 2 * LOGITS, "float32": LOGITS}


def test_the_time_of_a_step_is_laid_to_its_parts():
    from parts import training_step
    from shares import milliseconds

    whole = milliseconds(training_step(1, 64, degree=4), steps=1)
    assert set(whole.index) == {
        *("encoders, products", "encoders, the rest", "loss, products", "loss, the rest"),
        *("harmonics", "optimiser", "between operations"),
    }
    assert (whole > 0).all()
    few = milliseconds(training_step(1, 8, degree=40), steps=1)
    assert few["harmonics"] > few["loss, products"], "of eight pairs, and 1,600 harmonics"


def test_a_salt_step_trains_one_modality_after_the_other(gpu_step, monkeypatch):
    import parts

    used = []

    def make(size):
        def of(dim):
            network = torch.nn.Linear(size, dim)
            network.register_forward_hook(lambda *_: used.append(id(network)))
            return network

        return of

    monkeypatch.setattr(parts, "profile_encoder", make)
    step = parts.training_step(3, 64, degree=4, schedule="salt")
    for _ in range(6):
        step()
    assert used[:3] == used[3:]
    assert len(set(used)) == 3


def test_a_goal_is_judged_round_by_round():
    import goals

    def row(contender, times, **more):
        seconds = sorted(times)[1]
        names = {"threads": 2, "case": "step", "size": 2048, "contender": contender}
        return {**names, "seconds": seconds, "times": times, "floor": 0.5, **more}

    rows = [
        # The machine slows down by ten in the last round, for all.
        row("locties", [1.0, 2.0, 10.0]),
        row("SatCLIP", [4.0, 10.0, 50.0]),
        row("locties MELT of three", [1.5, 2.8, 13.0]),
        row("symmetric", [1.0] * 3),
    ]
    memory = {
        "threads": 1,
        "case": "loss",
        "size": 32_768,
        "contender": "locties symmetric",
        "megabytes": 201.0,
    }
    judged = goals.judge(pd.DataFrame([*rows, memory])).set_index("goal")
    satclip = judged.loc["step, SatCLIP to locties"]
    assert (satclip.measured, satclip.least, satclip.largest) == (5.0, 4.0, 5.0)
    assert satclip.met
    assert (satclip.best, satclip.threads) == (10.0 / 0.5, 2)
    melt = judged.loc["step, MELT of three to one modality"]
    assert (melt.measured, melt.bound, melt.met) == (1.4, "at most", False)
    assert not judged.loc["MB that the symmetric loss of 32,768 pairs adds"].met
    assert len(judged) == 3, "what was not measured is not judged"


@pytest.mark.slow
def test_the_parts_are_timed_beside_their_floors(side_by_side, tmp_path, monkeypatch, capsys):
    """At small sizes, beside a peer that is as simple: every row has what the chapter reads."""
    import goals

    small = {
        **{"harmonics by points": (64, 128), "harmonics by L": (4, 8), "loss by batch": (8, 16)},
        **{"step by batch": (8, 16), "step by modalities": (1, 2), "step by L": (4, 8)},
        **{"step by threads": (1, 2), "step by processes": (1, 2)},
    }
    assert set(small) == set(side_by_side.GROWTH)
    monkeypatch.setattr(side_by_side, "GROWTH", small)
    for name, value in {
        "POINTS": (64, 128),
        "BATCH": 16,
        "RESOLUTION": 9.0,
        "LOSS_PAIRS": 64,
    }.items():
        monkeypatch.setattr(side_by_side, name, value)
    sizes = {"harmonics": {2048: 64, 100_000: 128}, "step": {2048: 16}}
    sizes |= {"grid": {1_036_800: 40 * 20}, "loss": {32_768: 64}}
    scaled = [goal._replace(size=sizes[goal.case][goal.size]) for goal in goals.GOALS]
    monkeypatch.setattr(goals, "GOALS", scaled)
    monkeypatch.setattr(side_by_side, "TURN", 0.0)
    encoder = torch.nn.Linear(2, 8).double()
    encoder.posenc = torch.nn.Identity()
    peer = SimpleNamespace(
        build=lambda degree, hidden: encoder,
        step=lambda batch: lambda: encoder(torch.ones(batch, 2).double()),
        lightning_step=lambda batch, clock: lambda: 0.1,
    )
    monkeypatch.setattr(side_by_side, "satclip", lambda folder: peer)
    monkeypatch.setattr(side_by_side, "sphericart", lambda degree, pages: torch.nn.Identity())
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "benchmarks.parquet"
    options = ["--rounds", "2", "--satclip", "a clone", "--threads", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", *options, "--output", str(path)])
    side_by_side.main()
    assert "best possible" in capsys.readouterr().out
    table = pd.read_parquet(path)
    assert set(table["case"]) == {"harmonics", "step", "grid", "loss", *small}
    for case, grown in small.items():
        assert tuple(table.loc[table["case"] == case, "size"]) == grown, case
    twice = table[table["case"].isin(["harmonics", "step", "grid"])]
    assert (twice["threads"].value_counts() == 2 * 5 + 6 + 3).all(), "on one thread and on two"
    assert set(table.drop(twice.index)["threads"]) == {1}
    assert table["code"].str.startswith(locties.__version__).all()
    assert table["peers"].str.startswith("SatCLIP of unknown commit").all()
    assert (table["seconds"] > 0).all()
    assert (table["slowest"] >= table["fastest"]).all()
    assert (table["floor"] > 0).all()
    assert table["megabytes"].notna().sum() == 3, "as little as here may not be seen at all"
    wall = table["case"].isin(["step by threads", "step by processes"]) | (table["threads"] > 1)
    assert (table["clock"] == wall.map({True: "wall", False: "processor"})).all()
    own = table[(table["contender"] == "locties") & ~table["case"].isin(small)]
    assert (own["ratio"] == 1).all()
    processes = table[table["case"] == "step by processes"].set_index("size")["flops"]
    assert processes[2] - processes[1] == 3 * 2 * 16**2 * 256, "the whole loss once more"
    judged = pd.read_parquet(tmp_path / "benchmarks_goals.parquet")
    expected = [(g.what, n) for g in scaled for n in (1, 2) if g.case != "loss" or n == 1]
    assert list(zip(judged["goal"], judged["threads"], strict=True)) == expected
    within = pd.read_parquet(tmp_path / "benchmarks_step.parquet")
    assert within.groupby(["threads", "kind"])["ms"].sum().gt(0).sum() == 4


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
def test_a_graph_of_a_step_is_timed_and_counted(gpu_step):
    graph = gpu_step.as_graph(gpu_step.training_step(3, 64, degree=4, device="cuda"))
    assert gpu_step.milliseconds(graph, 3) > 0
    assert gpu_step.kernels(graph) > 10


@pytest.mark.slow
def test_every_part_that_is_timed_runs():
    call = [sys.executable, "-m", "pytest", "-q", "--benchmark-disable", "-p", "no:cacheprovider"]
    done = subprocess.run([*call, BENCHMARKS / "test_parts.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")
@pytest.mark.parametrize("direction", ["modality_to_location", "symmetric"])
@pytest.mark.parametrize(("kind", "size"), [("float32", 4), ("bfloat16", 2)])
def test_the_loss_of_32768_pairs_adds_less_than_200_mb(kind, size, direction):
    call = [sys.executable, BENCHMARKS / "loss_memory.py", "32768", "256", direction, kind]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    megabytes, _ = map(float, done.stdout.split())
    assert 2 * size * 32_768 * 256 / 1e6 < megabytes < 200


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_rows_are_asked_for_once_in_each_way(tmp_path, monkeypatch):
    import read_ahead

    from locties import modalities

    asked, ask = [], modalities.ask_for
    monkeypatch.setattr(
        modalities, "ask_for", lambda *args: (asked.append(len(args[2])), ask(*args))
    )
    path = read_ahead.written(tmp_path, rows=2048)
    counts = {}
    for kind in read_ahead.KINDS:
        asked.clear()
        step, waited = read_ahead.steps(kind, path, lambda: None, count=3, seed=0)
        assert 0 < waited < step
        counts[kind] = len(asked)
    assert counts == {"resident": 0, "touched": 0, "asked": 3, "ahead": 4}


def test_what_is_measured_on_a_gpu_is_shown_and_written(gpu_step, tmp_path, monkeypatch, capsys):
    """With a small step on a CPU, and the GPU's own clock and counter replaced."""
    small = {"DEVICE": "cpu", "SIDE": 8, "COPIED": 64, "MODALITIES": 1, "BATCH": 16}
    replaced = {"milliseconds": lambda *_: 2.0, "as_graph": lambda s: s, "kernels": lambda _: 7}
    for name, value in (small | replaced).items():
        monkeypatch.setattr(gpu_step, name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--output", str(tmp_path / "step.parquet")])
    monkeypatch.setenv("COLUMNS", "120")
    gpu_step.main()
    shown = capsys.readouterr().out
    table = pd.read_parquet(tmp_path / "step.parquet")
    assert "a GPU" in shown
    assert shown.count("CUDA graph") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step.parquet"]
    assert list(table["encoders"]) == ["float32"] * 2 + ["bfloat16"] * 2
    assert (table["ms"] == 2.0).all()
    assert (table["flops_float32"] == 2 * 8**3 / 2e-3).all(), "a second"
    assert table["floor"].equals(1e3 * (table["bytes"] / table["bytes_per_second"]))
