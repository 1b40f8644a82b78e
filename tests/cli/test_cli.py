"""The command line: what is printed where, and the exit code."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import run

import locties
from locties import __version__
from locties.cli.info import REGISTRIES
from locties.data import embedded, manifest
from locties.evaluation import BASELINES, OPEN_TASKS, PROBES, TASKS
from locties.features import FEATURES
from locties.modalities import MODALITIES
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES
from locties.training import SCHEDULES

# ------------------------------------------------------------------------------------ locties data


def test_list_shows_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = run("data", "list")
    assert result.exit_code == 0
    for source in manifest.sources():
        (line,) = (line for line in result.stdout.splitlines() if f" {source.name} " in line)
        assert source.where in line
        assert source.licence in line


def test_list_as_json_has_every_file_and_its_hash() -> None:
    listed = json.loads(run("data", "list", "--tier", "embedded", "--json").stdout)
    sources = manifest.sources("embedded")
    assert [entry["name"] for entry in listed] == [source.name for source in sources]
    assert listed[0]["files"][0]["sha256"] == sources[0].files[0].sha256
    assert listed[0]["where"] == sources[0].where


def test_verify_says_ok_for_each_source() -> None:
    result = run("data", "verify")
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == len(
        manifest.sources("embedded")
    )


def test_verify_takes_a_tier(open_tier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("data", "verify", "--tier", "open")
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == 6
    monkeypatch.delenv("LOCTIES_MIRROR")
    result = run("data", "verify", "--tier", "open")
    assert result.exit_code == 1
    assert "FAULT: " in result.stdout
    assert "run: locties data fetch night_lights" in result.stdout


def test_verify_names_a_fault_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = manifest.sources("embedded")[:2]
    faults = iter([(first, None), (second, "x.h5 has 3 bytes, expected 7; run: pip install y")])
    monkeypatch.setattr(manifest, "verify", lambda tier: faults)
    result = run("data", "verify")
    assert result.exit_code == 1
    assert f"{first.name:18} ok" in result.stdout
    assert "FAULT: x.h5 has 3 bytes, expected 7; run: pip install y" in result.stdout


def test_verify_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = manifest.sources("embedded")[:2]
    for fault, code in ((None, 0), ("x.h5 has 3 bytes, expected 7", 1)):
        faults = [(first, None), (second, fault)]
        monkeypatch.setattr(manifest, "verify", lambda tier, faults=faults: faults)
        result = run("data", "verify", "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout) == [
            {"name": first.name, "fault": None},
            {"name": second.name, "fault": fault},
        ]


def test_fetch_as_json_names_every_file(
    open_tier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    result = run("data", "fetch", "stations", "biomes", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert {entry["name"] for entry in printed} == {"stations", "biomes"}
    for entry in printed:
        content = Path(entry["path"]).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_build_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "earth of mine.npz").write_bytes(b"1234567")
    monkeypatch.setattr(embedded, "build", lambda force: tmp_path / "earth of mine.npz")
    printed = json.loads(run("data", "build", "--json").stdout)
    assert printed == {"path": str(tmp_path / "earth of mine.npz"), "bytes": 7}


@pytest.mark.data
def test_build_prints_path_and_size_alone_on_stdout(earth: embedded.Earth) -> None:
    result = run("data", "build")
    path, size, unit = result.stdout.rsplit(maxsplit=2)
    assert result.exit_code == 0
    assert Path(path) == embedded.cache_path()
    assert float(size) == pytest.approx(Path(path).stat().st_size / 1e6, abs=0.05)
    assert unit == "MB"


# ----------------------------------------------------------------------------------- locties info


def test_info_lists_every_registry() -> None:
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


def test_info_says_whether_the_data_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    assert json.loads(run("info", "--json").stdout)["data"] == "not built; run: locties data build"
    embedded.cache_path().touch()
    assert json.loads(run("info", "--json").stdout)["data"] == "built"


def test_info_is_there_in_a_light_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "locties.data.manifest", None)
    printed = json.loads(run("info", "--json").stdout)
    assert printed["cache"] is None
    assert printed["data"] == 'not there; run: pip install "locties[data]"'
    assert printed["tasks"] == list(TASKS)


def test_info_on_an_encoder(encoder: Path) -> None:
    printed = json.loads(run("info", encoder, "--json").stdout)
    config = json.loads((encoder / "config.json").read_text())
    assert printed["features"] == "xyz"
    assert printed["dim"] == 3
    assert printed["parameters"] == 3 * 3 + 3
    assert printed["sha256"] == config["sha256"]
    assert printed["readout"] == "output"
    shown = run("info", "melt").stdout
    assert re.search(r"^feature options +degree=10$", shown, re.MULTILINE)


def test_info_says_how_long_an_embedding_is(tmp_path: Path) -> None:
    read = {"network_options": {"hidden": 8}, "readout": "layers"}
    locties.LocationEncoder("xyz", "mlp", dim=3, **read).save(tmp_path / "wide")
    printed = json.loads(run("info", tmp_path / "wide", "--json").stdout)
    assert (printed["dim"], printed["readout"]) == (8 + 8 + 3, "layers")


def test_info_loads_no_torch_to_list_names() -> None:
    code = (
        "import sys\nfrom locties.cli import app\nsys.argv = ['locties', 'info']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'pandas', 'sklearn'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
