"""`locties s2 features`: what is printed, and the exit codes."""

import sys

import pytest
from s2_files import backbone, dataset
from safetensors.torch import save_file
from typer.testing import CliRunner

from locties.cli import app
from locties.data import frozen, sentinel2

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
        paths = [*map(str, shards), "--index", str(index), "--out", "cli", "--batch", "2"]
        return CliRunner().invoke(app, ["s2", "features", *paths, "--device", "cpu", *options])

    return invoke


def test_it_gives_what_the_call_gives(command, tmp_path):
    save_file(backbone().state_dict(), tmp_path / "w.safetensors")
    made = command("--backbone", "my_factories:small", "--weights", "w.safetensors")
    assert made.exit_code == 0, made.stderr
    assert "9 of 13 rows; 3 chips damaged, 1 not in the index, 1 rows without a chip" in made.stdout
    assert "damaged: patch_5.tif has 5 bytes, fewer than 10,000" in made.stderr
    shards, index = [tmp_path / "shard-0.tar", tmp_path / "shard-1.tar"], tmp_path / "index.csv"
    options = {"batch": 2, "device": "cpu", "progress": False}
    frozen.features(shards, index, backbone(), tmp_path / "call", **options)
    files = [(tmp_path / folder / "features.npy").read_bytes() for folder in ("cli", "call")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("none_such:small", "No module named 'none_such'"),
        ("my_factories:big", "has no attribute 'big'"),
        ("my_factories", "give module:callable"),
        ("my_factories:number", "returns int, not a torch module"),
    ],
)
def test_it_says_what_is_wrong_with_a_factory(command, factory, message, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    made = command("--backbone", factory)
    assert made.exit_code == 2
    assert message in made.stderr


def test_it_reports_a_fault_on_one_line(command, tmp_path):
    (tmp_path / "shard-1.tar").unlink()
    made = command("--backbone", "my_factories:small")
    assert made.exit_code == 1
    last = made.stderr.strip().splitlines()[-1]
    assert last.startswith("locties: there is no shard ")
    assert last.endswith("shard-1.tar")


def test_it_interrupted_says_how_to_go_on(command, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sentinel2, "_decode", interrupt)
    made = command("--backbone", "my_factories:small")
    assert made.exit_code == 130
    assert made.stderr.endswith("locties: stopped after 0 of 13 chips; the same command resumes\n")
