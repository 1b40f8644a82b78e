"""The pipeline: interrupted, killed, resumed, on a cluster, and run again when code changes."""

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from pipeline import RUN, kill, lay_out, snakemake

import locties
from locties_paper import plan
from locties_paper.study import ARCHITECTURE

TABLE = "_build/smoke/scores/embedded/small-0.parquet"
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
    run = checkout / "_build/smoke/runs/small-0"
    first_epoch, target = run / "along/1", f"{run.relative_to(checkout)}/history.parquet"
    process = snakemake(checkout, *FLAGS, target, start_new_session=True)
    wait_for(first_epoch / "model.safetensors", run / "checkpoint/state.pt", process=process)
    kill(process.pid, process.wait)
    assert not (run / "history.parquet").exists(), "it had finished before it was killed"
    first_epoch.rename(run / "along/before")

    process = snakemake(checkout, *FLAGS, target)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert not first_epoch.exists(), "it began again at the first epoch"
    assert not (run / "checkpoint").exists()
    assert json.loads((run / "settings.json").read_text())["schedule"] == RUN["method"]

    settings = {key: value for key, value in RUN.items() if key != "kept"}
    architecture = {key: settings.pop(key) for key in ARCHITECTURE if key in settings}
    encoder = locties.LocationEncoder(**architecture, seed=0)
    method, names = settings.pop("method"), settings.pop("modalities").split(",")
    unbroken = locties.pretrain(method, names, encoder, **settings, seed=0, progress=False)
    history = pd.read_parquet(run / "history.parquet")
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds"), unbroken.history.drop(columns="seconds"), check_exact=True
    )
    weights = locties.load(run / "encoder").state_dict()
    for name, weight in unbroken.encoder.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_real_changes_of_code_run_again_what_imports_it(tmp_path, commands, monkeypatch):
    checkout = lay_out(tmp_path, copied=True)
    folder = '"$(dirname "$2")"'
    made = f'mkdir -p {folder}/encoder; touch "$2" {folder}/history.parquet {folder}/settings.json'
    put(commands, "papermill", f'{made} "${{2%.ipynb}}.parquet"')
    process = snakemake(checkout, *FLAGS, TABLE, first_on_path=commands)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    monkeypatch.chdir(checkout)

    def run_again() -> list[str]:
        return sorted(job.rule for job in plan.jobs({"profile": "smoke"}, TABLE))

    def add(file: str, text: str) -> None:
        with Path("src", file).open("a") as source:
            source.write(text)

    assert run_again() == []
    claims = Path("src/locties_paper/effects/claims.py")
    claims.write_text(claims.read_text().replace('"""', '"""Reworded. ', 1))
    add("locties/modalities.py", "# A comment.\n")
    assert run_again() == []
    add("locties/apply/grid.py", "\nADDED = 1\n")
    assert run_again() == ["evaluate"]
    add("locties/modalities.py", "\nADDED = 1\n")
    assert run_again() == ["evaluate", "pretrain"]


def test_jobs_go_to_a_cluster_and_one_that_dies_is_started_again(checkout, commands):
    """By the submit script of two lines that the book shows; the first papermill dies."""
    submit = f'echo "$1" >> {commands}/submitted\nnohup sh "$1" > /dev/null 2>&1 &\necho $!'
    put(commands, "submit", submit)
    put(
        commands,
        "papermill",
        f'mkdir {commands}/died 2> /dev/null && exit 1\ntouch "$2" "${{2%.ipynb}}.parquet"',
    )
    table = "_build/smoke/scores/embedded/xyz-0.parquet"
    arguments = ["--executor", "cluster-generic", "--jobs", "2", "--latency-wait", "20"]
    arguments += ["--seconds-between-status-checks", "1"]
    arguments += ["--cluster-generic-submit-cmd", str(commands / "submit"), "--", table]
    process = snakemake(checkout, *arguments, first_on_path=commands)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert (commands / "died").exists(), "no job died, so nothing is shown"
    jobs = (commands / "submitted").read_text().splitlines()
    assert len(jobs) == 1, "it was started again by itself"
    assert (checkout / table).exists()
