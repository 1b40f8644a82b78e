"""Each remedy that a command prints is an option of that command or a shell command."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run
from typer.main import get_command

from locties.cli import app

RNG = np.random.default_rng(0)
N = 40
GOOD = pd.DataFrame(
    {
        "lon": RNG.uniform(6, 14, N).round(4),
        "lat": RNG.uniform(44, 49, N).round(4),
        "ph": RNG.normal(6, 1, N).round(2),
    }
)
COMMAS = {name: GOOD[name].map("{:.4f}".format).str.replace(".", ",") for name in GOOD}
# Tables with a fault, by its name.
FAULTS = {
    "swapped": GOOD.rename(columns={"lon": "lat", "lat": "lon"}),
    "swapped beyond 90": GOOD.assign(lon=GOOD["lat"], lat=GOOD["lon"] + 90),
    "metres": GOOD.assign(lon=GOOD["lon"] * 1e5, lat=GOOD["lat"] * 1e5),
    "degrees times 1e7": GOOD.assign(lon=GOOD["lon"] * 1e7, lat=GOOD["lat"] * 1e7),
    "radians": GOOD.assign(lon=np.radians(GOOD["lon"]), lat=np.radians(GOOD["lat"])),
    "a place at zero": GOOD.assign(lon=[0.0, *GOOD["lon"][1:]], lat=[0.0, *GOOD["lat"][1:]]),
    "missing values": GOOD.where(RNG.random(GOOD.shape) > 0.1),
    "latitude of 99": GOOD.assign(lat=[99.0, *GOOD["lat"][1:]]),
    "decimal commas": GOOD.assign(**COMMAS),
    "a decimal comma in the target": GOOD.assign(ph=COMMAS["ph"]),
    "degrees and minutes": GOOD.assign(lat=["52°30′N"] * N),
    "codes for missing": GOOD.assign(ph=[-9999.0, -9999.0, *GOOD["ph"][2:]]),
    "whole numbers": GOOD.assign(ph=range(N)),
    "dates": GOOD.assign(ph=[f"2020-05-{1 + i % 28:02}" for i in range(N)]),
    "ids": GOOD.assign(ph=[f"site {i}" for i in range(N)]),
    "limits": GOOD.assign(ph=["<0.5", *map(str, GOOD["ph"][1:])]),
    "a dash": GOOD.assign(ph=["-", *map(str, GOOD["ph"][1:])]),
    "one class alone": GOOD.assign(ph=["a", *["b", "c", "B"] * 13]),
    "missing classes": GOOD.assign(ph=[None, *["b", "c", "d"] * 13]),
    "a constant": GOOD.assign(ph=6.5),
    "few labels": GOOD[:3],
    "repeated places": pd.concat([GOOD, GOOD]),
    "two longitudes": GOOD.assign(Longitude=1.0),
    "no longitude": GOOD.rename(columns={"lon": "east"}),
    "x and y": GOOD.rename(columns={"lon": "x", "lat": "y"}),
    "no target": GOOD.rename(columns={"ph": "pH"}),
    "no row": GOOD[:0],
}
# Files that are no such table, by name.
FILES = {
    "semicolons.csv": GOOD.to_csv(index=False, sep=";", decimal=",").encode(),
    "tabs.csv": GOOD.to_csv(index=False, sep="\t").encode(),
    "latin.csv": "lon,lat,ph\n13,52,Köln\n".encode("latin-1"),
    "utf16.csv": GOOD.to_csv(index=False).encode("utf-16"),
    "twice.csv": b"lon,lat,ph,ph\n13,52,1.5,2.5\n",
    "long.csv": b"lon,lat,ph\n13,52,1.5,2.5\n14,53,1.5,2.5\n",
    "empty.csv": b"",
    "broken.parquet": b"PAR1",
    "soil.txt": GOOD.to_csv(index=False).encode(),
    "soil.nc": b"CDF\1",
    "soil.tif": b"II*\0",
    "soil.xlsx": b"PK",
    "absent.csv": None,
}
COMMANDS = {
    "doctor": ["doctor", "{}", "--target", "ph"],
    "map": ["map", "{}", "--target", "ph", "--encoder", "xyz"],
    "evaluate": ["evaluate", "xyz", "--points-file", "{}", "--target", "ph", "--probes", "ridge"],
    "embed": ["embed", "melt", "{}", "--output", "out.csv"],
}
# Shell commands that may be proposed, up to their end.
SHELL = re.compile(r"(python -c|rio |gdal\w+|iconv|zcat|mkdir) ('[^']*'|[^;,.(]|\.\w)*")

PYTHON = re.compile(r"\b[a-z_]+=(?!\")|\b(frame|pandas|geopandas|numpy)\b")


def made(fault: str, folder: Path) -> Path:
    """A file with this fault."""
    if fault in FAULTS:
        path = folder / f"{fault.replace(' ', '_')}.csv"
        FAULTS[fault].to_csv(path, index=False)
        return path
    path = folder / fault
    if FILES[fault] is not None:
        path.write_bytes(FILES[fault])
    return path


@pytest.fixture(autouse=True)
def without_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fitted or scored: a file is judged before."""

    def stop(*_: object) -> None:
        raise RuntimeError("it came to work")

    monkeypatch.setattr("locties.mapping.fit.Trial", stop)
    monkeypatch.setattr("locties.evaluate", stop)


@pytest.mark.parametrize("fault", [*FAULTS, *FILES])
def test_remedies_are_options_of_the_command_or_shell_commands(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = made(fault, tmp_path)
    said_something = False
    for name, words in COMMANDS.items():
        result = run(*(str(path.name) if word == "{}" else word for word in words))
        assert "Traceback" not in result.output
        lines = [line for line in result.stderr.splitlines() if line.startswith("locties: ")]
        options = {opt for param in get_command(app).commands[name].params for opt in param.opts}
        for line in lines:
            said_something = True
            text = SHELL.sub("SHELL", line)
            proposed = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
            assert proposed <= options, (name, line)
            assert not PYTHON.search(text), (name, line)
    assert said_something
