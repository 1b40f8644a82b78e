"""`locties features`: what is printed, and the exit codes."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from s2_files import backbone, dataset
from safetensors.torch import save_file
from typer.testing import CliRunner

from locties.cli import app
from locties.data import sentinel2
from locties.data.frozen import features
from locties.data.frozen_encoders import of_module
from locties.data.sentinel2 import Chips

FACTORIES = """
from torch import nn

def small():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(52, 6))

def number():
    return 7
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    shards, index = dataset(tmp_path)

    def invoke(*options):
        paths = [*map(str, shards), "--index", str(index), "--output", "cli", "--batch", "2"]
        return CliRunner().invoke(app, ["features", "chips", *paths, "--device", "cpu", *options])

    return invoke


def test_it_gives_what_the_call_gives(command, tmp_path):
    save_file(backbone().state_dict(), tmp_path / "w.safetensors")
    made = command("--encoder", "my_factories:small", "--weights", "w.safetensors")
    assert made.exit_code == 0, made.stderr
    assert "9 of 13 rows of 6 features; 4 unusable, 1 rows of the index without" in made.stdout
    assert "unusable: patch_5.tif: has 5 bytes, fewer than 10,000" in made.stderr
    shards, index = [tmp_path / "shard-0.tar", tmp_path / "shard-1.tar"], tmp_path / "index.csv"
    encoder = of_module(backbone(), "my_factories:small", device="cpu")
    features(Chips(shards, index), encoder, tmp_path / "call", batch=2, progress=False)
    files = [(tmp_path / folder / "features.npy").read_bytes() for folder in ("cli", "call")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("none_such:small", "No module named 'none_such'"),
        ("my_factories:big", "has no attribute 'big'"),
        ("my_factories", "unknown frozen encoder 'my_factories'"),
        ("my_factories:number", "is int, not a function or a torch module"),
    ],
)
def test_it_says_what_is_wrong_with_a_factory(command, factory, message, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    made = command("--encoder", factory)
    assert made.exit_code == 2
    assert message in made.stderr


def test_it_reports_a_fault_on_one_line(command, tmp_path):
    (tmp_path / "shard-1.tar").unlink()
    made = command("--encoder", "my_factories:small")
    assert made.exit_code == 1
    last = made.stderr.strip().splitlines()[-1]
    assert last.startswith("locties: there is no shard ")
    assert last.endswith("shard-1.tar")


def test_it_interrupted_says_how_to_go_on(command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sentinel2, "_decode", interrupt)
    made = command("--encoder", "my_factories:small")
    assert made.exit_code == 130
    assert made.stderr.endswith("locties: stopped after 0 of 13 chips; the same command resumes\n")


@pytest.mark.slow
@pytest.mark.data
def test_texts_become_features_and_then_a_modality(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 100 - 50
    frame = pd.DataFrame(points.numpy(), columns=["lon", "lat"])
    frame["about"] = [f"It is {'hot' if abs(lat) < 25 else 'cool'} here." for lat in frame["lat"]]
    frame.loc[7, "about"] = " "
    frame.to_csv("table.csv", index=False)

    def run(command):
        made = CliRunner().invoke(app, command.split())
        assert made.exit_code == 0, made.stderr
        return made

    text = "features texts table.csv --text about --encoder use_multilingual --output text"
    made = run(text)
    assert "399 of 399 rows of 512 features; 1 unusable" in made.stdout
    assert "unusable: row 7: has an empty text" in made.stderr
    assert "features of texts" in run("doctor text").stdout
    made = run(
        "pretrain melt -m text=text -m relief -o run --pairs 256 --batch 64 --epochs 2 --samples 64"
        " --features xyz --network linear --dim 8 --device cpu"
    )
    assert "text" in made.stdout
    failed = CliRunner().invoke(app, ["pretrain", "melt", "-m", "a=none", "-o", "other"])
    assert "there is no file" in failed.stderr
    np.save("text/features.npy", np.load("text/features.npy")[:-1])
    failed = CliRunner().invoke(app, ["pretrain", "melt", "-m", "text=text", "-o", "other"])
    assert failed.exit_code == 1
    assert "features.npy is altered" in failed.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_photos_without_position_are_named(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    given = ["features", "photos", str(tmp_path), "--encoder", "efficientnet_lite0", "-o", "out"]
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, given)
    assert made.exit_code == 1
    assert "a.jpg: has no position in its EXIF data" in made.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "table.csv").write_text("file,lon,lat\na.jpg,1,2\n")
    given[2] = "table.csv"
    made = CliRunner().invoke(app, given)
    assert made.exit_code == 0, made.stderr
    assert "out/features.npy: 1 of 1 rows of 1,280 features; 0 unusable" in made.stdout
