"""`locties data`: what is printed, and the exit codes."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from locties.cli import app
from locties.data import embedded, manifest


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def test_list_shows_every_source(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    result = run("list")
    assert result.exit_code == 0
    for source in manifest.sources():
        (line,) = (line for line in result.stdout.splitlines() if f" {source.name} " in line)
        assert source.where in line
        assert source.licence in line


def test_list_as_json_has_every_file_and_its_hash():
    listed = json.loads(run("list", "--tier", "embedded", "--json").stdout)
    sources = manifest.sources("embedded")
    assert [entry["name"] for entry in listed] == [source.name for source in sources]
    assert listed[0]["files"][0]["sha256"] == sources[0].files[0].sha256
    assert listed[0]["where"] == sources[0].where


def test_verify_says_ok_for_each_source():
    result = run("verify")
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == len(
        manifest.sources("embedded")
    )


def test_verify_takes_a_tier(open_tier, monkeypatch):
    result = run("verify", "--tier", "open")
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == 10
    monkeypatch.delenv("LOCTIES_MIRROR")
    result = run("verify", "--tier", "open")
    assert result.exit_code == 1
    assert "FAULT: " in result.stdout
    assert "run: locties data fetch night_lights" in result.stdout


def test_verify_names_a_fault_and_exits_with_1(monkeypatch):
    first, second = manifest.sources("embedded")[:2]
    faults = iter([(first, None), (second, "x.h5 has 3 bytes, expected 7; run: pip install y")])
    monkeypatch.setattr(manifest, "verify", lambda tier: faults)
    result = run("verify")
    assert result.exit_code == 1
    assert f"{first.name:18} ok" in result.stdout
    assert "FAULT: x.h5 has 3 bytes, expected 7; run: pip install y" in result.stdout


def test_verify_as_json(monkeypatch):
    first, second = manifest.sources("embedded")[:2]
    for fault, code in ((None, 0), ("x.h5 has 3 bytes, expected 7", 1)):
        faults = [(first, None), (second, fault)]
        monkeypatch.setattr(manifest, "verify", lambda tier, faults=faults: faults)
        result = run("verify", "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout) == [
            {"name": first.name, "fault": None},
            {"name": second.name, "fault": fault},
        ]


def test_fetch_as_json_names_every_file(open_tier, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    result = run("fetch", "stations", "biomes", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert {entry["name"] for entry in printed} == {"stations", "biomes"}
    for entry in printed:
        content = Path(entry["path"]).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_build_as_json(tmp_path, monkeypatch):
    (tmp_path / "earth of mine.npz").write_bytes(b"1234567")
    monkeypatch.setattr(embedded, "build", lambda force: tmp_path / "earth of mine.npz")
    printed = json.loads(run("build", "--json").stdout)
    assert printed == {"path": str(tmp_path / "earth of mine.npz"), "bytes": 7}


@pytest.mark.data
def test_build_prints_path_and_size_alone_on_stdout(earth):
    result = run("build")
    path, size, unit = result.stdout.rsplit(maxsplit=2)
    assert result.exit_code == 0
    assert Path(path) == embedded.cache_path()
    assert float(size) == pytest.approx(Path(path).stat().st_size / 1e6, abs=0.05)
    assert unit == "MB"
