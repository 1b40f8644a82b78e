"""Measure how far a converted SatCLIP is from SatCLIP's own code, by latitude and by L.

    python benchmarks/satclip_agreement.py path/to/clone/of/microsoft/satclip [OUT.csv]

The clone needs torch and einops; this script needs mpmath. It generates checkpoints in the released
sizes (two hidden layers of 512, 256 dimensions), some with SatCLIP's own initial weights, some with
a first layer 30 times larger. The larger weights make the sines turn many times, as training may.
SatCLIP's code runs in float64. Its harmonics lose digits towards the poles, so its formula is also
evaluated with 60 digits, at a few points of each band.
"""

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import torch

from locties import __version__
from locties.peers import convert_satclip

BANDS = ((0, 30), (30, 60), (60, 80), (80, 90))
POINTS, EXACT_POINTS = 500, 8  # in each band
GAINS = (1.0, 30.0)
SEED = 0
DIGITS = 60
EXPRESSIONS = "satclip/positional_encoding/spherical_harmonics_ylm.py"


def measure(clone: Path) -> Iterator[dict[str, object]]:
    """One row for each L, calculation, scale of the first layer and band of latitude."""
    sys.path.insert(0, str(clone / "satclip"))
    from location_encoder import LocationEncoder, get_neural_network, get_positional_encoding

    for degree, calculation in itertools.product((10, 40), ("analytic", "closed-form")):
        for gain in GAINS:
            torch.manual_seed(SEED)
            features = get_positional_encoding(
                "sphericalharmonics", degree, harmonics_calculation=calculation
            )
            network = get_neural_network("siren", degree**2, 256, 512, 2)
            theirs = LocationEncoder(features, network).double().eval()
            with torch.no_grad():
                network.layers[0].weight *= gain
            ours = _convert(theirs, calculation, degree)
            for low, high in BANDS:
                lonlat = _points(low, high)
                with torch.no_grad():
                    reference, converted = theirs(lonlat), ours(lonlat).double()
                    few = lonlat[:EXACT_POINTS]
                    exact = theirs.nnet(_exact_harmonics(few, degree, calculation))
                yield {
                    "L": degree,
                    "harmonics": calculation,
                    "first_layer": gain,
                    "lat_low": low,
                    "lat_high": high,
                    "largest_value": _largest(exact),
                    "ours_satclip": _largest(converted - reference),
                    "ours_exact": _largest(converted[:EXACT_POINTS] - exact),
                    "satclip_exact": _largest(reference[:EXACT_POINTS] - exact),
                }


def _convert(theirs: torch.nn.Module, calculation: str, degree: int) -> torch.nn.Module:
    state = {f"model.location.{key}": value for key, value in theirs.state_dict().items()}
    settings = {"harmonics_calculation": calculation, "legendre_polys": degree}
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"state_dict": state, "hyper_parameters": settings}, f"{folder}/satclip.ckpt")
        return convert_satclip(f"{folder}/satclip.ckpt", f"{folder}/encoder")


def _points(low: float, high: float) -> torch.Tensor:
    """Points between two latitudes, north and south. The last band includes the poles."""
    rng = np.random.default_rng(SEED)
    lat = rng.uniform(low, high, POINTS) * rng.choice([-1, 1], POINTS)
    lat[:2] = [high, -high]
    return torch.tensor(np.stack([rng.uniform(-180, 180, POINTS), lat], axis=1))


def _exact_harmonics(lonlat: torch.Tensor, degree: int, calculation: str) -> torch.Tensor:
    """SatCLIP's formula for its harmonics, with `DIGITS` digits, rounded to float64."""
    with mpmath.workdps(DIGITS):
        rows = []
        for lon, lat in lonlat.tolist():
            phi = mpmath.radians(mpmath.mpf(lon) + 180)
            x, s = (f(mpmath.radians(mpmath.mpf(lat) + 90)) for f in (mpmath.cos, mpmath.sin))
            legendre = _legendre(x, s, degree)
            row = []
            for ell in range(degree):
                for m in range(-ell, ell + 1):
                    n = abs(m)
                    ratio = mpmath.factorial(ell - n) / mpmath.factorial(ell + n)
                    value = mpmath.sqrt((2 * ell + 1) / (4 * mpmath.pi) * ratio) * legendre[ell, n]
                    if m:
                        wave = mpmath.cos if m > 0 else mpmath.sin
                        value *= mpmath.sqrt(2) * wave(n * phi)
                    if calculation == "closed-form":
                        value *= (-1) ** n  # the Condon-Shortley phase
                    elif m == 0:
                        value *= mpmath.pi
                    row.append(float(value))
            rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def _legendre(x: mpmath.mpf, s: mpmath.mpf, degree: int) -> dict[tuple[int, int], mpmath.mpf]:
    """P_l^m(x) for 0 <= m <= l < degree, without the phase; s is sqrt(1 - x^2)."""
    table = {}
    for m in range(degree):
        table[m, m] = s**m * mpmath.fac2(2 * m - 1)
        for ell in range(m + 1, degree):
            before = table[ell - 2, m] if ell > m + 1 else 0
            table[ell, m] = ((2 * ell - 1) * x * table[ell - 1, m] - (ell + m - 1) * before) / (
                ell - m
            )
    return table


def _git(clone: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(clone), *command], capture_output=True, text=True, check=True
    ).stdout.strip()


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max())


if __name__ == "__main__":
    clone = Path(sys.argv[1])
    table = pd.DataFrame(measure(clone))
    print(table.to_string(index=False, float_format="{:.1e}".format))
    if len(sys.argv) > 2:
        provenance = {
            "points": POINTS,
            "exact_points": EXACT_POINTS,
            "seed": SEED,
            "code": __version__,
            "torch": torch.__version__.split("+")[0],
            "satclip": _git(clone, "rev-parse", "HEAD"),
            # Hash the file itself: a clone may lack the analytic expressions, and those made by
            # SatCLIP's generator differ from the commit's in bytes.
            "expressions": _git(clone, "hash-object", EXPRESSIONS),
        }
        table.assign(**provenance).to_csv(sys.argv[2], index=False, float_format="%.3g")
