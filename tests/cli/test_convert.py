"""`locties convert`: a checkpoint becomes an encoder folder, or an error of one line."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import locties
from locties.cli import app


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny SatCLIP: 3 degrees, one hidden layer of 5, 4 dimensions."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "layers.0.weight": (5, 9),
        "layers.0.bias": (5,),
        "last_layer.weight": (4, 5),
        "last_layer.bias": (4,),
    }
    state = {
        f"model.location.nnet.{name}": torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
    torch.save({"state_dict": state}, tmp_path / "tiny.ckpt")
    return tmp_path / "tiny.ckpt"


def test_a_checkpoint_becomes_an_encoder_whose_size_is_printed(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "satclip"
    result = CliRunner().invoke(app, ["convert", "satclip", str(checkpoint), str(out)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out} L = 3, SIREN 1x5, 4 dimensions\n"
    assert locties.load(out).dim == 4


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"no")
    command = ["convert", "satclip", str(tmp_path / "a.ckpt"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "a.ckpt" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_small_file_cannot_fill_the_memory(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    state["model.location.nnet.layers.0.weight"] = torch.zeros(1).expand(30_000, 90_000)
    torch.save({"state_dict": state}, checkpoint)
    command = ["convert", "satclip", str(checkpoint), str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "(30000, 90000)" in result.stderr
