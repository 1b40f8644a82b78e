"""Check notebook parameters, and compare measured values with a record.

papermill accepts a misspelt or mistyped parameter; `parameters` refuses it. nbval compares printed
text to the last digit; `report` compares numbers with a tolerance.
"""

import ast
import json
import os
import shlex
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from locties._util.registry import split_names, unknown

REPOSITORY = Path(__file__).resolve().parents[3]
RECORDED = REPOSITORY / "book" / "recorded.json"
__all__ = ["check_parameters", "commit", "parameters", "record", "report", "split_names"]
INJECTED = "# Parameters"  # the first line of the cell that papermill injects
PLAIN = (str, int, float, list, dict, type(None))


@cache
def commit() -> str:
    """The commit of the working tree at the first call, with "-dirty" if it was changed.

    "unknown" outside a repository. `parameters` calls it first, so a commit made while a notebook
    runs does not count as its code.
    """
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def check_parameters(
    defaults: Mapping[str, Any], given: Mapping[str, Any], of: str = "parameter"
) -> None:
    """Refuse a parameter that is unknown, or whose type is not that of its default.

    A float may be given as a whole number. A default of None allows any type.

    Example:
        >>> check_parameters({"batch": 64}, {"batch": 64.0})
        Traceback (most recent call last):
        ValueError: parameter 'batch' is 64.0, of type float: pass int, such as 64.
    """
    for name, value in given.items():
        if name not in defaults:
            raise unknown(of, name, defaults)
        kind = type(defaults[name])
        allowed = {int, float} if kind is float else {kind}
        if defaults[name] is not None and type(value) not in allowed:
            # papermill's -p reads True, False, None and numbers; it takes the rest as text.
            meant = defaults[name]
            if kind is list and isinstance(value, str | int):
                meant = [int(n) if n.isdecimal() else n for n in split_names(str(value))]
            option = shlex.quote(f"{name}: {json.dumps(meant)}")
            raise ValueError(
                f"{of} {name!r} is {value!r}, of type {type(value).__name__}: "
                f"pass {kind.__name__}, such as {meant!r}"
                + (f"; with papermill: -y {option}" if kind in (list, dict) else ".")
            )


def _assigned(source: str) -> dict[str, Any]:
    """The literals that the top level of `source` assigns, by name."""
    values = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                values[ast.unparse(target)] = ast.literal_eval(statement.value)
    return values


def parameters(cells: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    r"""The notebook's parameters by name, checked by `check_parameters`.

    Args:
        cells: the sources run so far (``In`` in a notebook). The first assigns the parameters;
            papermill's own cell, if any, comes after it.
        values: a mapping with their values: ``globals()``.

    Example:
        >>> cells = ["", "batch = 64", "# Parameters\nbacth = 32"]
        >>> parameters(cells, {"batch": 64, "bacth": 32})
        Traceback (most recent call last):
        ValueError: unknown parameter 'bacth': did you mean 'batch'? Known: batch.
    """
    commit()
    sources = [cell for cell in cells if cell.strip()]
    if not sources:  # nbval keeps no history and injects nothing
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, PLAIN) and not name.startswith("_") and name not in ("In", "Out")
        }
    defaults = _assigned(sources[0])
    for source in sources[1:]:
        if source.startswith(INJECTED):
            check_parameters(defaults, _assigned(source))
    return {name: values[name] for name in defaults}


def report(notebook: str, settings: Mapping[str, Any], tolerance: float, **values: float) -> None:
    """Print whether values agree with the record of this notebook.

    nbval compares what this prints in the committed notebooks. It prints the recorded number and
    not the measured one, so machines that differ in the last digits print the same line. With
    ``LOCTIES_RECORD=1`` (``make notebooks``) the values are recorded first.

    Args:
        notebook: its name.
        settings: its parameters; a record counts only for the same parameters and tolerance.
        tolerance: largest allowed difference from the record, in the value's own unit.
        values: by name.
    """
    key = {"parameters": dict(settings), "tolerance": tolerance}
    record = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if os.environ.get("LOCTIES_RECORD") == "1":
        rounded = {name: round(float(value), 4) for name, value in values.items()}
        record[notebook] = {**key, "values": rounded}
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
    """Execute a notebook in place, in its own folder, and record the values that it reports.

    The notebook keeps no progress bars and no cell times, and figures have a palette of 256
    colours. A second execution with the same results changes nothing.
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
        for out in cell.get("outputs", []):
            if "image/png" in out.get("data", {}):
                out["data"]["image/png"] = _smaller(out["data"]["image/png"])
    nbformat.write(cells, path)


def _smaller(png: str) -> str:
    """A figure (base64) with a palette of 256 colours: a third of the size, and it looks the same.

    Committed notebooks would otherwise make a clone several MB larger.
    """
    from PIL import Image

    with Image.open(BytesIO(b64decode(png))) as figure:
        if figure.mode == "P":
            return png
        content = BytesIO()
        figure.convert("RGB").quantize(dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return b64encode(content.getvalue()).decode() + "\n"


if __name__ == "__main__":
    for notebook in sys.argv[1:]:
        print(notebook, file=sys.stderr)
        record(notebook)
