from itertools import product

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from locties.evaluation import probes
from locties.evaluation.probes import PENALTIES, PROBES, Boosting, Mlp, NearestNeighbour, Ridge

FOLDS = 5
PLAIN = (Ridge, NearestNeighbour, Mlp, Boosting)  # they take any features; kriging needs places


def _problem(n=300, d=12, classes=4, seed=0):
    """Correlated features of different size, a noisy regression and a noisy class."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d))) * rng.uniform(0.01, 100, d) + 5
    standard = (x - x.mean(0)) / x.std(0)
    y = standard @ rng.normal(size=d) + rng.normal(size=n) + 3
    code = (standard @ rng.normal(size=(d, classes)) + rng.normal(size=(n, classes))).argmax(1)
    return x.astype(np.float32), y, code, np.arange(n) % FOLDS


def _theirs(model, penalty, n):
    return make_pipeline(StandardScaler(), model(alpha=penalty * n))


def _loop_choice(x, target, fold, learning):
    """The penalty by the book: fit scikit-learn's model on every inner fold for every penalty."""
    classify = np.issubdtype(target.dtype, np.integer)
    model = RidgeClassifier if classify else SklearnRidge
    x, scores = x.astype(np.float64), []
    for penalty in PENALTIES:
        score = 0.0
        for inner in learning:
            train = np.isin(fold, [each for each in learning if each != inner])
            test = fold == inner
            answer = _theirs(model, penalty, train.sum()).fit(x[train], target[train])
            answer = answer.predict(x[test])
            if not classify:
                answer = answer.clip(target[train].min(), target[train].max())
            score += (
                (answer == target[test]).sum()
                if classify
                else -((answer - target[test]) ** 2).sum()
            )
        scores.append(score)
    return PENALTIES[max(np.flatnonzero(np.isclose(scores, max(scores), rtol=1e-9)))]


@pytest.mark.parametrize(("n", "d"), [(300, 12), (60, 100)], ids=["primal", "dual"])
@pytest.mark.parametrize("held_out", [(), (2,), (2, 4)])
def test_ridge_is_that_of_scikit_learn(n, d, held_out):
    x, y, code, fold = _problem(n, d)
    probe = Ridge(x, [y, code], fold)
    train = ~np.isin(fold, held_out)
    new = _problem(50, d, seed=1)[0]
    regressed, classified = probe.fit(*held_out)(new)
    penalty, class_penalty = probe.penalties(*held_out)
    x, new = x.astype(np.float64), new.astype(np.float64)
    theirs = _theirs(SklearnRidge, penalty, train.sum()).fit(x[train], y[train]).predict(new)
    theirs = theirs.clip(y[train].min(), y[train].max())
    assert regressed == pytest.approx(theirs, abs=1e-6)
    theirs = _theirs(RidgeClassifier, class_penalty, train.sum()).fit(x[train], code[train])
    assert (classified == theirs.predict(new)).all()


@pytest.mark.parametrize(("n", "d"), [(300, 12), (60, 100)], ids=["primal", "dual"])
def test_every_solution_on_the_path_is_that_of_scikit_learn(n, d):
    x, y, _, fold = _problem(n, d)
    probe = Ridge(x, [y], fold)
    path = probe._path(probe._folds)
    for p, penalty in enumerate(PENALTIES):
        theirs = _theirs(SklearnRidge, penalty, n).fit(x.astype(np.float64), y)
        assert path.predict(probe.x)[:, p, 0] == pytest.approx(theirs.predict(x), abs=1e-6), penalty


@pytest.mark.parametrize(("n", "d"), [(150, 30), (60, 100)], ids=["primal", "dual"])
def test_inner_folds_choose_the_penalty_that_a_plain_loop_chooses(n, d):
    x, y, code, fold = _problem(n, d, seed=3)
    noise = np.random.default_rng(4).normal(size=n)
    probe = Ridge(x, [y, code, noise], fold)
    learning = [each for each in range(FOLDS) if each != 2]
    expected = [_loop_choice(x, target, fold, learning) for target in (y, code, noise)]
    assert probe.penalties(2) == pytest.approx(expected)
    assert len({*probe.penalties(2)}) > 1, "signal and noise should not get the same penalty"


def test_a_prediction_is_never_outside_the_labels_learnt_from():
    """A feature nearly constant where it is learnt and large where it is asked."""
    rng = np.random.default_rng(7)
    x, fold = rng.normal(size=(200, 3)), np.arange(200) % FOLDS
    y = x[:, 0] + 1e-3 * rng.normal(size=200)
    far = np.array([[1e6, 0.0, 0.0], [-1e6, 0.0, 0.0], [0.5, 0.0, 0.0]])
    high, low, inside = Ridge(x, [y], fold).fit(2)(far)[0]
    assert (high, low) == (y[fold != 2].max(), y[fold != 2].min())
    assert inside == pytest.approx(0.5, abs=0.01)


def test_targets_fitted_together_are_as_if_fitted_alone():
    x, y, code, fold = _problem()
    together = Ridge(x, [y, code], fold).fit(1)(x)
    alone = Ridge(x, [y], fold).fit(1)(x)[0], Ridge(x, [code], fold).fit(1)(x)[0]
    assert together[0] == pytest.approx(alone[0], abs=1e-9)
    assert (together[1] == alone[1]).all()


@pytest.mark.slow
def test_held_out_targets_are_not_looked_at():
    x, y, _, fold = _problem()
    spoilt = np.where(fold == 2, 1e6, y)
    for probe in PLAIN:
        clean, other = (probe(x, [target], fold).fit(2)(x)[0] for target in (y, spoilt))
        assert clean == pytest.approx(other, abs=1e-6), probe.__name__


def test_a_linear_target_is_found_and_a_random_one_is_not():
    x, _, _, fold = _problem(500)
    rng = np.random.default_rng(5)
    linear, random = x @ rng.normal(size=x.shape[1]), rng.normal(size=len(x))
    predicted = np.empty((2, len(x)))
    probe = Ridge(x, [linear, random], fold)
    for held_out in range(FOLDS):
        predicted[:, fold == held_out] = probe.fit(held_out)(x[fold == held_out])
    assert r2_score(linear, predicted[0]) > 0.995, "only the extremes are cut off"
    assert -0.1 < r2_score(random, predicted[1]) < 0.02


@pytest.mark.parametrize("probe", PLAIN)
def test_constant_features_answer_the_mean_and_the_commonest_class(probe):
    _, y, _, fold = _problem()
    code = np.where(np.arange(len(y)) % 3 == 0, 0, 1)
    mean, commonest = probe(np.full((len(y), 2), 0.1, np.float32), [y, code], fold).fit(0)(
        np.full((4, 2), 0.1, np.float32)
    )
    assert mean == pytest.approx(np.full(4, y[fold != 0].mean()))
    assert commonest.tolist() == [1, 1, 1, 1]


def test_a_constant_feature_beside_others_changes_nothing():
    x, y, code, fold = _problem()
    with_constant = np.concatenate([x, np.full((len(x), 1), 0.1, np.float32)], 1)
    plain, extended = (Ridge(each, [y, code], fold).fit(0)(each) for each in (x, with_constant))
    assert plain[0] == pytest.approx(extended[0], abs=1e-9)
    assert (plain[1] == extended[1]).all()


def test_a_feature_constant_in_training_alone_is_left_out():
    """A feature that only varies where it is tested has no slope to learn."""
    x, y, _, fold = _problem()
    only_in_test = np.where(fold == 0, np.arange(len(x)), 0.0)[:, None]
    plain = Ridge(x, [y], fold).fit(0)(x)[0]
    extended = Ridge(np.concatenate([x, only_in_test], 1), [y], fold).fit(0)
    assert plain == pytest.approx(extended(np.concatenate([x, only_in_test], 1))[0], abs=1e-6)


@pytest.mark.parametrize("labels", [7, 200])
def test_knn_is_that_of_scikit_learn(labels):
    x, y, code, fold = _problem(labels)
    new = np.concatenate([x[:3], _problem(50, seed=1)[0]])
    regressed, classified = NearestNeighbour(x, [y, code], fold).fit()(new)
    known, asked = normalize(x.astype(np.float64)), normalize(new.astype(np.float64))
    options = {"n_neighbors": min(10, labels), "weights": "distance"}
    theirs = KNeighborsRegressor(**options).fit(known, y).predict(asked)
    assert regressed == pytest.approx(theirs, abs=1e-6)
    theirs = KNeighborsClassifier(**options).fit(known, code).predict(asked)
    assert (classified == theirs).all()


def test_classes_absent_from_the_labels_are_never_answered():
    x, _, code, fold = _problem()
    code = np.where((code == 1) & (fold != 0), 2, code)
    for probe in PLAIN:
        assert 1 not in probe(x, [code], fold).fit(0)(x)[0], probe.__name__


def test_fifteen_decompositions_serve_all_folds_penalties_and_targets(monkeypatch):
    x, y, code, fold = _problem()
    calls = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(probes.np.linalg, "eigh", lambda a: calls.append(len(a)) or eigh(a))
    probe = Ridge(x, [y, code], fold)
    for held_out in range(FOLDS):
        probe.fit(held_out)
    assert len(calls) == 15


def test_labels_of_a_single_fold_get_the_strongest_penalty():
    x, y, _, _ = _problem(20)
    assert Ridge(x, [y], np.zeros(20, int)).penalties() == [PENALTIES[-1]]


def _scikit_mlp(model, n):
    """The docstring's settings, spelt out: 3,000 steps in batches of 200."""
    batch = min(200, n)
    epochs = int(np.ceil(3000 / np.ceil(n / batch)))
    network = model(
        hidden_layer_sizes=(64, 64, 64), batch_size=batch, max_iter=epochs, random_state=0
    )
    return make_pipeline(StandardScaler(), network)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mlp_is_that_of_scikit_learn():
    x, y, code, fold = _problem(150)
    x, learning = x.astype(np.float64), fold != 0
    regressed, classified = Mlp(x, [y, code], fold).fit(0)(x[fold == 0])
    mean, deviation = y[learning].mean(), y[learning].std()
    model = _scikit_mlp(MLPRegressor, learning.sum())
    model.fit(x[learning], (y[learning] - mean) / deviation)
    expected = model.predict(x[fold == 0]) * deviation + mean
    assert regressed == pytest.approx(expected, abs=1e-6)
    model = _scikit_mlp(MLPClassifier, learning.sum()).fit(x[learning], code[learning])
    assert (classified == model.predict(x[fold == 0])).all()


def test_boosting_is_that_of_scikit_learn():
    x, y, code, fold = _problem(150)
    x, learning = x.astype(np.float64), fold != 0
    regressed, classified = Boosting(x, [y, code], fold).fit(0)(x[fold == 0])
    model = HistGradientBoostingRegressor(random_state=0).fit(x[learning], y[learning])
    assert regressed == pytest.approx(model.predict(x[fold == 0]), abs=1e-9)
    model = HistGradientBoostingClassifier(random_state=0).fit(x[learning], code[learning])
    assert (classified == model.predict(x[fold == 0])).all()


def test_mlp_and_boosting_learn_what_ridge_cannot():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(400, 2))
    y, fold = x[:, 0] * x[:, 1], np.arange(400) % FOLDS
    scores = {
        probe: r2_score(y[fold == 0], probe(x, [y], fold).fit(0)(x[fold == 0])[0])
        for probe in (Mlp, Boosting, Ridge)
    }
    assert scores[Mlp] > 0.8
    assert scores[Boosting] > 0.8
    assert scores[Ridge] < 0.2


def test_mlp_leaves_the_global_random_state_alone_and_repeats():
    x, y, _, fold = _problem(60)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (Mlp(x, [y], fold).fit(0)(x)[0] for _ in range(2))
    assert (first == second).all()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("probe", [Mlp, Boosting])
def test_labels_of_a_single_class_are_predicted(probe):
    x, y, _, _ = _problem(20)
    single = np.zeros(20, int)
    assert (probe(x, [y, single], single).fit()(x)[1] == 0).all()


def _places(n, seed):
    """Features, some of them repeated, and then the place on the sphere; as kriging needs it."""
    rng = np.random.default_rng(seed)
    x = normalize(rng.normal(size=(n, 3)))
    x[1::4] = x[::4][: len(x[1::4])]
    return np.concatenate([np.round(x[:, :1], 1), x], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("probe", "n"), [*product(["ridge", "knn"], [8, 40, 203]), ("kriging", 8), ("kriging", 40)]
)
def test_several_fits_are_those_made_one_by_one(probe, n):
    x, new = _places(n, 0), _places(50, 1)
    fold = np.arange(n) // 4 % 4  # repeated places share one
    y, code = x[:, 1] + np.sin(9 * x[:, 2]), np.arange(n) // 4 % 3
    held_out = [(9,), (9, 0), (9, 1), (0, 2)]
    made = PROBES[probe](x, [y, code], fold)
    together = made.several(held_out)(np.concatenate([new, x[:3]]))
    one_by_one = [
        part for each in held_out for part in made.columns(*each)(np.concatenate([new, x[:3]]))
    ]
    assert len(together) == len(one_by_one) == 8
    for ours, theirs in zip(together, one_by_one, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_several_fits_of_features_that_are_all_alike():
    x, y = np.ones((20, 3)), np.arange(20.0)
    made = NearestNeighbour(x, [y], np.arange(20) % 4)
    first, second = made.several([(9,), (0,)])(x[:2])
    assert first == pytest.approx(9.5)
    assert second == pytest.approx(y[np.arange(20) % 4 != 0].mean())
