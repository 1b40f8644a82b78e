"""The pipeline: interrupted, killed, resumed, and run again when code changes."""

import json
import os
import signal
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from pipeline import RUN, kill, lay_out, snakemake

import locties
from locties.training.checkpoint import load_state
from locties_paper import plan, times

TABLE = "_build/smoke/scores.parquet"
ARCHITECTURE = ("features", "network", "dim", "feature_options", "network_options")
FLAGS = ["--nolock", "--cores", "1", "--rerun-incomplete", "--"]

pytestmark = [pytest.mark.slow, pytest.mark.data]


@pytest.fixture
def checkout(tmp_path) -> Path:
    (tmp_path / "checkout").mkdir()
    return lay_out(tmp_path / "checkout")


@pytest.fixture
def commands(tmp_path) -> Path:
    """A folder of commands that stand before the real ones on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def wait_for(*paths: Path, process, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, f"{paths} did not appear"
        time.sleep(0.02)


def test_an_interrupt_says_how_to_go_on(checkout, commands, signals):
    put(commands, "papermill", f"touch {commands}/started; exec sleep 60")
    options = {"start_new_session": True, "first_on_path": commands}
    process = snakemake(checkout, *FLAGS, TABLE, **options)
    wait_for(commands / "started", process=process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "the same command resumes." in printed, printed


def test_a_killed_training_goes_on_to_the_same_encoder(checkout):
    run = checkout / "_build/smoke/run"
    state, target = run / "checkpoint/state.pt", f"{run.relative_to(checkout)}/history.parquet"
    process = snakemake(checkout, *FLAGS, target, start_new_session=True)
    wait_for(state, process=process)
    kill(process.pid, process.wait)
    assert not (run / "history.parquet").exists(), "it had finished before it was killed"
    kept = pd.DataFrame(load_state(state)["state"]["progress"]["rows"])
    assert len(kept)

    process = snakemake(checkout, *FLAGS, target)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert not (run / "checkpoint").exists()
    assert json.loads((run / "settings.json").read_text())["schedule"] == RUN["method"]
    history = pd.read_parquet(run / "history.parquet")
    seconds = history["seconds"].iloc[: len(kept)]
    assert seconds.tolist() == kept["seconds"].tolist(), "it began again at the first epoch"

    settings = dict(RUN)
    architecture = {key: settings.pop(key) for key in ARCHITECTURE if key in settings}
    encoder = locties.LocationEncoder(**architecture, seed=0)
    method, names = settings.pop("method"), settings.pop("modalities").split(",")
    unbroken = locties.pretrain(method, names, encoder, **settings, seed=0, progress=False)
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds"), unbroken.history.drop(columns="seconds"), check_exact=True
    )
    weights = locties.load(run / "encoder").state_dict()
    for name, weight in unbroken.encoder.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_real_changes_of_code_run_again_what_uses_it_and_text_does_not(
    tmp_path, commands, monkeypatch
):
    checkout = lay_out(tmp_path, copied=True)
    run = "_build/smoke/run"
    made = f"mkdir -p {run}/encoder; touch {run}/history.parquet {run}/settings.json {TABLE}"
    put(commands, "papermill", f'{made} "$2"')
    process = snakemake(checkout, *FLAGS, TABLE, first_on_path=commands)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    monkeypatch.chdir(checkout)

    def run_again() -> list[str]:
        return sorted(job.name for job in plan.jobs({"profile": "smoke"}, TABLE))

    def add(file: str, text: str) -> None:
        with Path("src", file).open("a") as source:
            source.write(text)

    def append(kind: str, text: str) -> None:
        page = nbformat.read("book/evaluate.ipynb", as_version=4)
        last = next(cell for cell in reversed(page.cells) if cell.cell_type == kind)
        last.source += text
        nbformat.write(page, "book/evaluate.ipynb")

    assert run_again() == []
    append("markdown", "\n\nRead effects.parquet too.")
    probes = Path("src/locties/evaluation/probes.py")
    probes.write_text(probes.read_text().replace('"""', '"""Reworded. ', 1))
    add("locties/modalities.py", "# A comment.\n")
    assert run_again() == []
    add("locties/apply/grid.py", "\nADDED = 1\n")
    assert run_again() == ["evaluate"]
    grid = Path("src/locties/apply/grid.py")
    grid.write_text(grid.read_text().removesuffix("\nADDED = 1\n"))
    append("code", "\nADDED = 1")
    assert run_again() == ["evaluate"]
    add("locties/modalities.py", "\nADDED = 1\n")
    assert run_again() == ["evaluate", "pretrain"]


def test_the_times_of_a_build_are_kept_for_the_plan(checkout, commands):
    put(commands, "papermill", 'mkdir -p _build/smoke/book; sleep 0.1; touch "$2"')
    target = "_build/smoke/book/peers.ipynb"
    process = snakemake(checkout, *FLAGS, target, first_on_path=commands)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    table = times.taken("smoke", checkout / "_build")
    assert table["notebook"].tolist() == ["peers"]
    assert 0.1 < table["seconds"].item() < 10
    kept = checkout / "times.csv"
    kept.write_text("profile,notebook,seconds,cpu_seconds\nfull,maps,5,4\nsmoke,peers,9,9\n")
    times.keep(table, kept)
    found = pd.read_csv(kept).set_index(["profile", "notebook"])
    assert found.loc[("full", "maps"), "seconds"] == 5
    assert found.loc[("smoke", "peers"), "seconds"] == table["seconds"].item()
