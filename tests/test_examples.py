"""Each way of extending locties, run as a reader would: what it prints must make sense."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = pytest.mark.data


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d\.\d+", line)]


def feature(lines: list[str]) -> None:
    (xyz,), (bumps,) = map(numbers, lines)
    assert bumps > 0.4 > xyz, "bumps tell mountains from plains, the unit vector alone does not"


def modality(lines: list[str]) -> None:
    shares = numbers(lines[0])
    madagascar, kazakhstan = shares[:6], shares[6:]
    assert madagascar[0] == 1.0, "the middle of the island"
    assert madagascar[-1] < 0.4, "the sea, and Africa's coast"
    assert min(kazakhstan) > 0.9, "far from every sea"
    climate, coast = numbers(lines[1])
    assert min(climate, coast) > 3 * 10 / 1024, "no better than chance"


def network(lines: list[str]) -> None:
    first, last = numbers(lines[0])
    assert last > first > 3 * 10 / 1024


def objective(lines: list[str]) -> None:
    nt_xent, decoupled = map(numbers, lines)
    for reference, own in zip(nt_xent, decoupled, strict=True):
        assert own > reference / 2 > 3 * 10 / 1024


def partitions(lines: list[str]) -> None:
    assert lines[0] == "20000 places in 4 partitions"
    assert numbers(lines[1])[0] < 1e-3


def task(lines: list[str]) -> None:
    (guess,), (ridge,), (knn,) = map(numbers, lines)
    assert 1 > min(ridge, knn) > guess + 0.1


CHECKS: dict[str, Callable[[list[str]], None]] = {
    check.__name__: check for check in (feature, modality, network, objective, partitions, task)
}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("registries")
def test_an_example_prints_results_that_make_sense(path, tmp_path, monkeypatch, capsys):
    if path.stem == "partitions":
        pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert list(tmp_path.iterdir()) == [], "it left files behind"
    CHECKS[path.stem](capsys.readouterr().out.splitlines())
