"""The command line: what is printed where, and the exit code."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from locties import __version__
from locties.cli import app
from locties.data import embedded, manifest
from locties.data.manifest import DataError

runner = CliRunner()


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"locties {__version__}\n")


@pytest.mark.parametrize(
    "command", [[], *(["data", name] for name in ("list", "fetch", "verify", "build"))]
)
def test_help_gives_an_example(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert re.search(r"Example: locties data \w+", result.stdout.replace("`", ""))


def test_list_shows_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = runner.invoke(app, ["data", "list"])
    assert result.exit_code == 0
    for source in manifest.sources():
        (line,) = (line for line in result.stdout.splitlines() if f" {source.name} " in line)
        assert source.where in line
        assert source.licence in line


def test_list_names_the_tiers_when_one_is_misspelt() -> None:
    result = runner.invoke(app, ["data", "list", "--tier", "embeded"])
    assert result.exit_code == 2
    assert "did you mean 'embedded'" in " ".join(result.stderr.split())


def test_verify_says_ok_for_each_source() -> None:
    result = runner.invoke(app, ["data", "verify"])
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == len(
        manifest.sources("embedded")
    )


def test_verify_takes_a_tier(open_tier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = runner.invoke(app, ["data", "verify", "--tier", "open"])
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == 6
    monkeypatch.delenv("LOCTIES_MIRROR")
    result = runner.invoke(app, ["data", "verify", "--tier", "open"])
    assert result.exit_code == 1
    assert "FAULT: " in result.stdout
    assert "run: locties data fetch night_lights" in result.stdout


def test_verify_names_the_nearest_tier() -> None:
    result = runner.invoke(app, ["data", "verify", "--tier", "opne"])
    assert result.exit_code == 2
    assert "did you mean 'open'" in " ".join(result.stderr.split())


def test_verify_names_a_fault_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = manifest.sources("embedded")[:2]
    faults = iter([(first, None), (second, "x.h5 has 3 bytes, expected 7; run: pip install y")])
    monkeypatch.setattr(manifest, "verify", lambda tier: faults)
    result = runner.invoke(app, ["data", "verify"])
    assert result.exit_code == 1
    assert f"{first.name:18} ok" in result.stdout
    assert "FAULT: x.h5 has 3 bytes, expected 7; run: pip install y" in result.stdout


@pytest.mark.data
def test_build_prints_path_and_size_alone_on_stdout(earth: embedded.Earth) -> None:
    result = runner.invoke(app, ["data", "build"])
    path, size, unit = result.stdout.rsplit(maxsplit=2)
    assert result.exit_code == 0
    assert Path(path) == embedded.cache_path()
    assert float(size) == pytest.approx(Path(path).stat().st_size / 1e6, abs=0.05)
    assert unit == "MB"


def test_build_reports_a_fault_on_one_line_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(force: bool) -> None:
        raise DataError('rain needs the wheel itur 0.4.0; run: pip install "itur==0.4.0"')

    monkeypatch.setattr(embedded, "build", fail)
    result = runner.invoke(app, ["data", "build"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        'error: rain needs the wheel itur 0.4.0; run: pip install "itur==0.4.0"\n'
    )
