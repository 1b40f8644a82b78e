"""Folds: random, or whole spatial blocks; and how far test points are from their labels."""

import numpy as np
from numpy.typing import NDArray

from locties._util.registry import unknown
from locties.lonlat import BLOCK_DEGREES, MEAN_EARTH_RADIUS_KM, LonLat, cell_index, check, to_xyz

SPLITS = ("random", "block")


def block_index(lonlat: LonLat) -> NDArray[np.int64]:
    """Spatial block of each point: `(N,)` ids of cells of nearly equal area, 10 degrees high."""
    block: NDArray[np.int64] = cell_index(check(lonlat), BLOCK_DEGREES).cpu().numpy()
    return block


def folds(lonlat: LonLat, split: str, n: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Fold of each point, for cross-validation.

    Under ``"random"`` a test point usually has a label close by. Under ``"block"`` whole blocks of
    10 degrees are held out together, so that test places are unlike those seen. Returns `(N,)`
    int64 in 0..n-1, as even as the split allows.

    Source: Roberts et al., "Cross-validation strategies for data with temporal, spatial,
    hierarchical, or phylogenetic structure" (Ecography 40, 2017).
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    points = check(lonlat)
    if n < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got n={n}")
    rng = np.random.default_rng(seed)
    if split == "random":
        _check_enough(len(points), n, "points")
        return rng.permutation(len(points)).astype(np.int64) % n
    blocks, block, size = np.unique(block_index(points), return_inverse=True, return_counts=True)
    _check_enough(len(blocks), n, f"blocks of {BLOCK_DEGREES:g} degrees with a point")
    fold_of_block, load = np.empty(len(blocks), dtype=np.int64), np.zeros(n, dtype=np.int64)
    shuffled = rng.permutation(len(blocks))
    # As sklearn's GroupKFold: largest block first, each to the lightest fold. The shuffle decides
    # among blocks of one size.
    for each in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        fold_of_block[each] = load.argmin()
        load[load.argmin()] += size[each]
    return fold_of_block[block]


def _check_enough(found: int, n: int, what: str) -> None:
    if found < n:
        raise ValueError(
            f"{n} folds need at least {n} {what}, but there are {found}: "
            "give points that are more spread out, or pass splits='random'"
        )


def nearest_label_km(test: LonLat, train: LonLat) -> NDArray[np.float64]:
    """Great-circle distance in km from each test point `(N, 2)` to its nearest label `(M, 2)`.

    Example:
        >>> nearest_label_km([[0, 0]], [[1, 0], [90, 0]]).round(1).tolist()
        [111.2]
    """
    from scipy.spatial import cKDTree

    places, labels = (to_xyz(check(lonlat).double()).cpu().numpy() for lonlat in (test, train))
    if not len(labels):
        raise ValueError("no training label: the distance to the nearest one is not defined")
    chord, _ = cKDTree(labels).query(places)
    km: NDArray[np.float64] = 2 * MEAN_EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))
    return km
