"""`locties pretrain`: what it leaves, what it prints, and what happens when it is stopped."""

import inspect
import json
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from command import run
from killed import exit_code_of, kill_me
from typer.main import get_command

import locties
from locties.cli import app, pretrain

TINY = shlex.split(
    "--pairs 512 --batch 64 --epochs 2 --samples 300 --learning-rate 1e-3 --dim 8 "
    "--features spherical_harmonics:degree=3 --network siren:hidden=8,layers=1"
)


def weights(folder: Path) -> torch.Tensor:
    encoder = locties.load(folder / "encoder")
    return torch.cat([values.flatten() for values in encoder.state_dict().values()])


def test_the_defaults_are_those_of_the_library():
    command = get_command(app).commands["pretrain"]
    library = inspect.signature(locties.pretrain).parameters
    shape = inspect.signature(locties.LocationEncoder).parameters
    for option in command.params:
        known = library if option.name in library else shape
        if option.name in known and option.default is not None and not option.required:
            assert option.default == known[option.name].default, option.name


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ("melt --epoch 3", "--epochs"),
        ("mlet -m haze -o run", "did you mean 'melt'"),
        ("clip -m haze -m relief -o run", "(haze, relief)"),
        ("melt -m haez -o run", "did you mean 'haze'"),
        ("melt -m haze,haze -o run", "'haze' is given twice"),
        ("melt -m haze -o run --network sirne", "'siren'"),
        ("melt -m haze -o run --network siren:hiden=3", "'hidden'"),
        ("melt -m haze -o run --network siren:3", "OPTION=VALUE"),
        ("melt -m haze -o run --pairs 9", "--pairs 9 in batches"),
        ("melt -m haze -o run --epochs 0", "at least 1"),
        ("melt -m haze -o run --batch 1", "--batch 1"),
        ("melt -m haze -o run --learning-rate -1", "--learning-rate -1"),
        ("melt -m haze -o run --seed -1", "--seed -1"),
        ("melt -m haze -o run --locations fix", "'fixed'"),
        ("melt -m haze -o run --objective ntxent", "'nt_xent'"),
        ("melt -m haze -o run --device gpu", "'gpu'"),
    ],
)
def test_wrong_usage_is_named_before_any_work(arguments, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("pretrain", *shlex.split(arguments))
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert remedy in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir()), "it has begun to write"


def test_it_leaves_a_run_as_the_library_makes_it(soil, tmp_path):
    folder = tmp_path / "run"
    arguments = ["pretrain", "clip", "-m", f"soil={soil}", "-o", folder, *TINY, "--seed", "3"]
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["checkpoint", "encoder", "history.parquet", "settings.json"]
    assert result.stdout.startswith(f"{folder / 'encoder'}: clip on soil\n")
    start = locties.LocationEncoder(
        dim=8, feature_options={"degree": 3}, network_options={"hidden": 8, "layers": 1}, seed=3
    )
    locties.pretrain(
        "clip",
        [locties.read_modality(soil, name="soil", beside=(), samples=300, seed=3)],
        start,
        pairs=512,
        batch=64,
        epochs=2,
        samples=300,
        learning_rate=1e-3,
        seed=3,
        progress=False,
    ).save(tmp_path / "same")
    assert torch.equal(weights(folder), weights(tmp_path / "same"))

    again = run(*arguments)  # as after a kill in the last moment
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert torch.equal(weights(folder), weights(tmp_path / "same"))
    other = run(*arguments[:-1], "4")
    assert (other.exit_code, other.stdout) == (2, "")
    assert "seed is 3 there and 4 here" in other.stderr
    assert "samples" not in other.stderr, "hashes that follow from the seed say nothing"

    shutil.rmtree(folder / "checkpoint")
    again = run(*arguments)
    assert (again.exit_code, again.stdout) == (2, "")
    assert f"--output {folder} holds a finished run: pass another" in again.stderr


@pytest.mark.parametrize("left", ["file", "thesis.tex", "data/table.csv", "encoder/thesis.tex"])
def test_a_folder_of_anything_else_is_refused_and_left_alone(left, soil, tmp_path):
    folder = tmp_path / "mine"
    if left == "file":
        folder.write_text("years of work")
    else:
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    result = run("pretrain", "clip", "-m", f"soil={soil}", "-o", folder, *TINY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--output {folder}" in result.stderr
    assert "pass a new folder" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_is_also_a_file_here_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "haze").mkdir()
    result = run("pretrain", "clip", "-m", "haze", "-o", "run", *TINY, "--epochs", "99")
    assert result.exit_code == 2
    assert "-m haze is the modality of locties" in result.stderr
    assert "write -m haze=./haze" in result.stderr
    (tmp_path / "soil.csv").touch()
    result = run("pretrain", "clip", "-m", "soil.csv", "-o", "run", *TINY)
    assert result.exit_code == 2
    assert "-m soil.csv is a file or folder: give it a name, -m NAME=soil.csv" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["encoder", "history.parquet", "settings.json", "after all"])
def test_a_run_killed_in_its_last_moments_ends_well_when_repeated(moment, soil, tmp_path):
    """Killed as it writes each of its results, and as it prints them."""
    folder = tmp_path / "run"
    arguments = ["pretrain", "clip", "-m", f"soil={soil}", "-o", str(folder), *TINY]

    def child() -> None:
        rename = Path.rename

        def at(path: Path, to: Path) -> Path:
            return kill_me() if Path(to).name == moment else rename(path, to)

        Path.rename = Path.replace = at
        if moment == "after all":
            pretrain.say = kill_me
        run(*arguments)

    assert exit_code_of(child) == -signal.SIGKILL
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert weights(folder).isfinite().all()
    assert not list(folder.glob(".*")), "what the killed one left is gone"


def own_files(folder: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform([-170, -50], [170, 60], (600, 2)), columns=["east", "north"])
    frame[["ph", "clay"]] = rng.normal(6, 1, (600, 2))
    frame.to_csv(folder / "a.csv", index=False)
    frame.rename(columns={"east": "X1", "north": "Y1"}).to_csv(folder / "b.csv", index=False)
    profile = {"driver": "GTiff", "count": 2, "height": 60, "width": 80, "dtype": "float32"}
    profile |= {"crs": "EPSG:4326", "transform": rasterio.transform.from_origin(0, 60, 0.5, 0.5)}
    with rasterio.open(folder / "c.tif", "w", **profile) as file:
        file.write(rng.normal(size=(2, 60, 80)).astype("float32"))


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        ("-m soil=a.csv --lon east --lat north --columns ph", {"soil": 1}),
        ("-m soil=a.csv --lon east --lat north --columns ph --columns clay", {"soil": 2}),
        ("-m s=a.csv -m c=c.tif --lon east --lat north --columns ph", {"s": 1, "c": 2}),
        ("-m s=a.csv,c=c.tif --lon east --lat north --bands 2", {"s": 2, "c": 1}),
        (
            "-m s=a.csv,t=b.csv --lon s=east --lon t=X1 --lat s=north --lat t=Y1 --columns t=ph",
            {"s": 2, "t": 1},
        ),
    ],
)
def test_columns_of_own_files(arguments, widths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own_files(tmp_path)
    given = {}
    monkeypatch.setattr(
        locties,
        "pretrain",
        lambda _, modalities, *__, **___: (
            given.update({m.name: m.samples[torch.arange(1)].shape[1] for m in modalities})
            or sys.exit(0)
        ),
    )
    run("pretrain", "melt", *shlex.split(arguments), "-o", "run", *TINY)
    assert given == widths


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ("-m soil=a.csv", "--lon and --lat"),
        ("-m soil=a.csv --lon east", "--lat"),
        ("-m soil=a.csv --lon east --lat nort", "'nort'"),
        ("-m soil=a.csv --lon east,x --lat north", "one column"),
        ("-m soil=a.csv --lon east --lat north --columns phh", "did you mean 'ph'"),
        ("-m soil=a.csv --lon north --lat east", "--lon east --lat north"),
        ("-m soil=a.csv,soil=b.csv --lon east --lat north", "given twice"),
        ("-m soil=a.csv --lon east --lat north --bands 1", "-m NAME=FILE"),
        ("-m haze --lon east", "-m NAME=FILE"),
        ("-m c=c.tif --bands red", "counted from 1"),
        ("-m c=c.tif --bands 3", "bands 1 to 2"),
        ("-m haze --nested 2,x", "counted from 1"),
        ("-m haze --nested 2,900", "smaller than"),
    ],
)
def test_options_of_own_files_are_checked(arguments, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own_files(tmp_path)
    result = run("pretrain", "melt", *shlex.split(arguments), "-o", "run", *TINY)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert remedy in " ".join(result.stderr.split())


def test_json(soil, tmp_path):
    folder, objective = tmp_path / "run", ["--objective", "nt_xent:direction=symmetric"]
    call = ["pretrain", "melt", "-m", f"soil={soil}", "-o", folder, *TINY, *objective]
    result = run(*call, "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["output"] == str(folder)
    assert printed["settings"]["objective_options"] == {"direction": "symmetric"}
    history = pd.read_parquet(folder / "history.parquet")
    assert printed["scores"]["soil"]["recall_at_10"] == history["recall_at_10"].iloc[-1]


@pytest.mark.slow
def test_an_interrupted_training_continues_to_the_same_weights(soil, tmp_path, interrupted):
    arguments = ["pretrain", "melt", "-m", f"soil={soil}", *TINY]
    arguments += ["--pairs", "12800", "--epochs", "50"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    state = broken / "checkpoint" / "state.pt"

    def work() -> str:
        result = run(*arguments, "-o", broken)
        assert (result.exit_code, result.stdout) == (130, "")
        return result.stderr

    said = interrupted(work, state.exists)
    assert re.search(r"after step \d+ of 200; the same command", said.splitlines()[-1])
    assert not (broken / "encoder").exists()

    kept = state.read_bytes()
    other = run(*arguments, "-o", broken, "--seed", "5")
    assert (other.exit_code, other.stdout) == (2, "")
    assert "seed is 0 there and 5 here" in other.stderr
    assert f"delete {state.parent}" in other.stderr, "a remedy that works"
    assert state.read_bytes() == kept

    for folder in (broken, whole):
        result = run(*arguments, "-o", folder)
        assert result.exit_code == 0, result.stderr
    assert torch.equal(weights(whole), weights(broken))
