"""How far a converted SatCLIP is from SatCLIP's own code, by latitude and by L.

    python benchmarks/satclip_agreement.py path/to/clone/of/microsoft/satclip [OUT.csv]

The clone is run where it lies; it needs einops beside torch. Checkpoints are generated: the
released sizes (two hidden layers of 512, 256 dimensions), SatCLIP's own initial weights, and the
same with the first layer 30 times larger, so that its sines turn over many times, as trained ones
may. Both are float64. SatCLIP's harmonics lose their digits towards the poles, so its formula is
also evaluated with 60 digits, at a few points of each band.
"""

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


def measure(clone: Path) -> Iterator[dict[str, object]]:
    """One row for each L, calculation, scale of the first layer and band of latitude."""
    sys.path.insert(0, str(clone / "satclip"))
    from location_encoder import LocationEncoder, get_neural_network, get_positional_encoding

    for degree, calculation in ((10, "analytic"), (10, "closed-form"), (40, "analytic")):
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
    """Points between two latitudes, north and south; the edges of the last band are the poles."""
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


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max())


if __name__ == "__main__":
    rows = []
    for row in measure(Path(sys.argv[1])):
        print("  ".join(f"{v:.1e}" if isinstance(v, float) else str(v) for v in row.values()))
        rows.append(row)
    table = pd.DataFrame(rows).assign(
        code=__version__, torch=torch.__version__.split("+")[0], points=POINTS, seed=SEED
    )
    if len(sys.argv) > 2:
        table.to_csv(sys.argv[2], index=False)
    else:
        print(table.drop(columns=["code", "torch", "points", "seed"]).to_string(index=False))
