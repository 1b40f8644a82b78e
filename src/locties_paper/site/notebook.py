"""What the book's notebooks need beside the science: their parameters, checked and recorded.

papermill accepts a misspelt parameter with only a log line, and nbval compares printed text to the
last digit. The two functions here make the first an error and the second a comparison with a
tolerance.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from locties._util.registry import split_names, unknown

REPOSITORY = Path(__file__).resolve().parents[3]
RECORDED = REPOSITORY / "book" / "recorded.json"
__all__ = ["commit", "parameters", "record", "report", "split_names"]
INJECTED = "# Parameters"  # how papermill begins the cell that it injects


@cache
def commit() -> str:
    """The commit of the working tree when first asked, 'unknown' outside of one.

    Marked where the tree was changed. `parameters` asks, so that a commit made while a notebook
    runs is not taken for its code.
    """
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _assigned(source: str) -> list[str]:
    """Names that the top level of `source` assigns."""
    names = []
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def parameters(cells: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    r"""The notebook's parameters and their values, or an error at one that it does not have.

    Args:
        cells: the sources run so far: ``In`` in a notebook. The first assigns the parameters;
            papermill's own cell, if there is one, comes after it.
        values: where their values are: ``globals()``.

    Returns:
        Values by name.

    Raises:
        ValueError: at an injected name that the notebook does not have, naming the nearest.

    Example:
        >>> cells = ["", "batch = 64", "# Parameters\nbacth = 32"]
        >>> parameters(cells, {"batch": 64, "bacth": 32})
        Traceback (most recent call last):
        ValueError: unknown parameter 'bacth': did you mean 'batch'? Known: batch.
    """
    commit()
    sources = [cell for cell in cells if cell.strip()]
    if not sources:  # nbval keeps no history, and injects nothing
        plain = (str, int, float, list, dict, type(None))
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, plain) and not name.startswith("_") and name not in ("In", "Out")
        }
    known = _assigned(sources[0])
    for source in sources[1:]:
        if source.startswith(INJECTED):
            for name in _assigned(source):
                if name not in known:
                    raise unknown("parameter", name, known)
    return {name: values[name] for name in known}


def report(notebook: str, settings: Mapping[str, Any], tolerance: float, **values: float) -> None:
    """Print values; where this very run is on record, say whether they agree with it.

    The committed notebooks are checked by what this prints: the recorded number, not the measured
    one, so that machines which differ in the last digits print the same line.
    With ``LOCTIES_RECORD=1`` (``make notebooks``) the values are put on record first.

    Args:
        notebook: its name.
        settings: its parameters; another setting is another run, and not on record.
        tolerance: how far a value may be from the one on record, in its own unit.
        values: by name.
    """
    key = {"parameters": dict(settings), "tolerance": tolerance}
    record = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if os.environ.get("LOCTIES_RECORD") == "1":
        record[notebook] = {
            **key,
            "values": {name: round(float(v), 4) for name, v in values.items()},
        }
        RECORDED.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    entry = record.get(notebook, {})
    on_record = json.loads(json.dumps(key)) == {k: entry.get(k) for k in key}
    for name, value in values.items():
        label = name.replace("_", " ")
        if not on_record:
            print(f"{label}: {value:.3f}")
            continue
        expected = entry["values"].get(name, float("nan"))
        if abs(value - expected) <= tolerance:
            print(f"{label}: {expected:.3f} ± {tolerance:g} expected: within")
        else:
            print(f"{label}: {expected:.3f} ± {tolerance:g} expected, but {value:.3f} measured")


def record(path: str | Path) -> None:
    """Execute a notebook in place, in its own folder, and put what it measures on record.

    Progress on stderr and the times of the cells are left out, so that a second execution that
    measures the same changes nothing.
    """
    import nbformat
    from nbclient import NotebookClient

    path = Path(path)
    os.environ["LOCTIES_RECORD"] = "1"
    cells = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(cells, record_timing=False, resources=folder).execute()
    for cell in cells.cells:
        if "remove-stderr" in cell.metadata.get("tags", []):
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    nbformat.write(cells, path)


if __name__ == "__main__":
    for notebook in sys.argv[1:]:
        print(notebook, file=sys.stderr)
        record(notebook)
