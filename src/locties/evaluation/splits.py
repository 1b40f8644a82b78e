"""Folds: random, or whole spatial blocks; and how far test points are from their labels."""

import numpy as np
from numpy.typing import NDArray

from locties._util.registry import unknown
from locties.lonlat import BLOCK_DEGREES, MEAN_EARTH_RADIUS_KM, LonLat, cell_index, check, to_xyz

SPLITS = ("random", "block")
FOLDS = 5
# Ten degrees for labels of the whole globe, less for a region; 0.001 is about 100 m.
BLOCK_SIDES = (BLOCK_DEGREES, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
ENOUGH_BLOCKS = 20


def block_degrees(lonlat: LonLat) -> float:
    """Height of the spatial blocks for these points, degrees; 0 if each place is a block.

    It is the largest of `BLOCK_SIDES` that gives 20 blocks. For fewer than 80 places it gives one
    block for every four places, and at least one for each of five folds.

    Example:
        >>> draw = np.random.default_rng(0).uniform
        >>> [block_degrees(draw([5, 50], [5 + size, 50 + size], (90, 2))) for size in (0.1, 5)]
        [0.02, 1]
    """
    points = check(lonlat)
    places = count_places(points)
    enough = min(ENOUGH_BLOCKS, max(FOLDS, places // 4))
    for side in BLOCK_SIDES:
        if places >= enough and len(np.unique(cell_index(points, side).cpu())) >= enough:
            return side
    return 0


def block_index(lonlat: LonLat) -> NDArray[np.int64]:
    """Spatial block of each point: `(N,)` ids of cells of nearly equal area.

    `block_degrees` gives the height of blocks. A place is never in two blocks.
    """
    points = check(lonlat)
    side = block_degrees(points)
    if side:
        block: NDArray[np.int64] = cell_index(points, side).cpu().numpy()
        return block
    return np.unique(points.cpu().numpy(), axis=0, return_inverse=True)[1]


def folds(lonlat: LonLat, split: str, n: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Fold of each point, for cross-validation.

    Under ``"random"`` a test point usually has a label close by. Under ``"block"`` whole blocks
    (`block_index`) are held out together, so that test places differ from training places. Returns
    `(N,)` int64 in 0..n-1, as even as the split allows.

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
    _check_enough(len(blocks), n, "places")
    fold_of_block, load = np.empty(len(blocks), dtype=np.int64), np.zeros(n, dtype=np.int64)
    shuffled = rng.permutation(len(blocks))
    # As sklearn's GroupKFold: the largest block comes first, and each goes to the smallest fold.
    # The shuffle decides among blocks of the same size.
    for each in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        fold_of_block[each] = load.argmin()
        load[load.argmin()] += size[each]
    return fold_of_block[block]


def _check_enough(found: int, n: int, what: str) -> None:
    if found < n:
        raise ValueError(
            f"{n} folds need labels at {n} {what} or more, but there are {found}: add labels"
        )


def possible_folds(lonlat: LonLat, split: str, seed: int = 0) -> NDArray[np.int64]:
    """Five folds, or as many as there are places; a single one for labels at one place."""
    n = min(FOLDS, count_places(lonlat))
    return folds(lonlat, split, n, seed) if n > 1 else np.zeros(len(check(lonlat)), np.int64)


def count_places(lonlat: LonLat) -> int:
    """How many different places there are."""
    return len(np.unique(check(lonlat).cpu().numpy(), axis=0))


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
