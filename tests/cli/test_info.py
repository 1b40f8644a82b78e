"""`locties info`: what there is to choose from, and what an encoder is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import locties
from locties import __version__
from locties.cli import app
from locties.cli.info import REGISTRIES
from locties.data import embedded, manifest
from locties.evaluation import BASELINES, OPEN_TASKS, PROBES, TASKS
from locties.features import FEATURES
from locties.modalities import MODALITIES
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES
from locties.training import SCHEDULES


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_info_lists_every_registry():
    result = run("info", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    registries = [FEATURES, NETWORKS, OBJECTIVES, SCHEDULES, MODALITIES, TASKS, OPEN_TASKS]
    registries += [PROBES, BASELINES]
    for name, registry in zip(REGISTRIES, registries, strict=True):
        assert printed[name] == list(registry), name
    assert printed["version"] == __version__
    assert "melt" in printed["encoders"]
    assert printed["cache"] == str(manifest.cache_folder())


def test_info_says_whether_the_data_are_built(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    assert json.loads(run("info", "--json").stdout)["data"] == "not built; run: locties data build"
    embedded.cache_path().touch()
    assert json.loads(run("info", "--json").stdout)["data"] == "built"


@pytest.mark.slow
def test_a_light_install_lists_what_it_has_and_names_the_extra_of_the_rest():
    missing = dict.fromkeys(["yaml", "pandas", "sklearn", "scipy"])
    code = f"import sys; sys.modules.update({missing}); from locties.cli import app; app(['info'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = dict(re.findall(r"^(\w+(?: \w+)*)  +(.*)$", done.stdout, re.MULTILINE))
    assert "siren" in lines["networks"]
    assert "nt_xent" in lines["objectives"]
    for name in ("modalities", "tasks", "probes", "data"):
        assert 'pip install "locties[data' in lines[name]


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path):
    made = locties.LocationEncoder("xyz", "linear", dim=3)
    made.origin = {"name": "Zoë \x1b]0;mine\x07"}
    made.save(tmp_path / "e")
    shown = run("info", tmp_path / "e").stdout
    assert "\x1b" not in shown
    assert "name=Zoë \\x1b]0;mine\\x07" in shown


def test_info_on_an_encoder(encoder):
    printed = json.loads(run("info", encoder, "--json").stdout)
    config = json.loads((encoder / "config.json").read_text())
    assert printed["features"] == "xyz"
    assert printed["dim"] == 3
    assert printed["parameters"] == 3 * 3 + 3
    assert printed["sha256"] == config["sha256"]
    assert printed["readout"] == "output"
    shown = run("info", "melt").stdout
    assert re.search(r"^feature options +degree=10$", shown, re.MULTILINE)


def test_info_on_nested_dimensions(tmp_path):
    locties.LocationEncoder("xyz", "linear", dim=6, nested=[2, 4]).save(tmp_path / "e")
    printed = json.loads(run("info", f"{tmp_path / 'e'}:4", "--json").stdout)
    assert (printed["dim"], printed["readout"], printed["nested"]) == (4, 4, [2, 4])
    assert re.search(r"^nested +2, 4$", run("info", tmp_path / "e").stdout, re.MULTILINE)
    refused = run("info", f"{tmp_path / 'e'}:3")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "(2, 4): pass one of them" in refused.stderr


def test_info_says_how_long_an_embedding_is(tmp_path):
    read = {"network_options": {"hidden": 8}, "readout": "layers"}
    locties.LocationEncoder("xyz", "mlp", dim=3, **read).save(tmp_path / "wide")
    printed = json.loads(run("info", tmp_path / "wide", "--json").stdout)
    assert (printed["dim"], printed["readout"]) == (8 + 8 + 3, "layers")
