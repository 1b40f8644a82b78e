"""Each way of extending locties, run as a reader would: what it prints must make sense.

Each runs in a process of its own, so that what it registers does not leak into other tests.
"""

import ast
import os
import re
import subprocess
import sys
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


def task(lines: list[str]) -> None:
    (guess,), (ridge,), (knn,) = map(numbers, lines)
    assert 1 > min(ridge, knn) > guess + 0.1


CHECKS: dict[str, Callable[[list[str]], None]] = {
    check.__name__: check for check in (feature, modality, network, objective, task)
}


def test_every_example_is_checked() -> None:
    assert {path.stem for path in EXAMPLES} == CHECKS.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_small_and_says_what_it_shows(path: Path) -> None:
    source = path.read_text()
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring
    code = source.replace(docstring, "").splitlines()
    assert 15 <= len([line for line in code if line.strip()]) <= 35


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_its_results_make_sense(path: Path, tmp_path: Path) -> None:
    # Run elsewhere: an example may lean on nothing but the installed package.
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "it left files behind"
    lines = done.stdout.splitlines()
    print(done.stdout)
    CHECKS[path.stem](lines)
