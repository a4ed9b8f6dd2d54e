"""Consensus of many runs: what they agree on, what is dropped; and models merged."""

import h5py
import matplotlib as mpl
import numpy as np
import pytest
import scipy.sparse as sp
from joblib import parallel_config
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_samples

import snmf
from snmf import SNMF, ConvexNMF, MiniBatchSNMF
from snmf._consensus import _clusters, _densities, _distances, _kept, _medians, _silhouettes

mpl.use("Agg")
FIT = {"solver": "hals", "sparsity": 0.03, "random_state": 0}
RNG = np.random.default_rng(0)


def planted(n=400, k=4, p=20, noise=0.2):
    rng = np.random.default_rng(0)
    W = rng.exponential(size=(n, k)) * (rng.random((n, k)) < 0.5)
    H = rng.standard_normal((k, p))
    X = W @ H
    return X + noise * rng.standard_normal(X.shape), H


X, H = planted()


def test_hard_components_are_found_better_than_by_any_run_of_all_rows():
    """Dense weights of components that share a direction, and noise as large as the signal."""
    rng = np.random.default_rng(1)
    H = rng.standard_normal((6, 60)) + rng.standard_normal(60)
    signal = rng.gamma(2, 0.5, size=(500, 6)) @ H
    noise = rng.standard_normal(signal.shape)
    X = signal + noise * np.linalg.norm(signal) / np.linalg.norm(noise)
    given = {"solver": "hals", "progress_bar": False}
    single = [snmf.factorize(X, 6, random_state=i, **given).H for i in range(5)]
    found, again = (snmf.consensus(X, 6, random_state=i, **given) for i in (0, 1))
    assert snmf.align(found.components, H).mean > max(snmf.align(A, H).mean for A in single)
    assert snmf.align(found.components, again.components).mean > 0.95
    assert found.stability.mean < 0.9  # the runs differ


def test_w_is_exact_for_the_components_and_the_numbers_are_what_they_are_called():
    found = snmf.consensus(X, 4, n_runs=4, **FIT)
    exact = snmf.factorize(X, 4, H=found.components, fixed=4, **FIT)
    np.testing.assert_allclose(found.W, exact.W, atol=1e-12)
    assert found.error == pytest.approx(
        np.linalg.norm(X - found.W @ found.components) / np.linalg.norm(X)
    )
    np.testing.assert_allclose(np.linalg.norm(found.components, axis=1), 1)
    rng = np.random.RandomState(np.random.RandomState(0).randint(2**31 - 1))
    runs = []
    for _ in range(4):  # the rows and seeds of the runs
        some = np.sort(rng.permutation(400)[:360])
        seed = rng.randint(2**31 - 1)
        runs.append(snmf.factorize(X[some], 4, **{**FIT, "random_state": seed}).H)
    expected = [snmf.align(run, found.components).cosines for run in runs]
    np.testing.assert_allclose(found.stability.cosines, expected, atol=1e-6)
    for j in range(4):
        of_j = [run[i] for run, row in zip(runs, found.labels, strict=True)
                for i in np.flatnonzero(row == j)]  # fmt: skip
        median = np.median(of_j, axis=0)
        assert median @ found.components[j] / np.linalg.norm(median) == pytest.approx(1, abs=1e-6)
    places = [np.nonzero(found.labels == j)[1].mean() for j in range(4)]
    assert places == sorted(places)


def test_components_that_are_far_from_all_others_are_dropped():
    """Three clusters of eight, and two points that belong to none."""
    centres = np.linalg.qr(RNG.standard_normal((10, 5)))[0].T
    points = np.repeat(centres[:3], 8, axis=0) + 0.01 * RNG.standard_normal((24, 10))
    points = np.vstack([points, centres[3:]])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    distances = _distances(points)
    np.testing.assert_allclose(
        distances, np.linalg.norm(points[:, None] - points[None], axis=2), atol=1e-7
    )
    densities = _densities(distances, 2)
    near = np.sort(distances[0])[1:3]
    assert densities[0] == pytest.approx(near.mean())
    kept = _kept(points, densities, 0.5, 3)
    np.testing.assert_array_equal(kept, np.arange(26) < 24)
    labels = np.full(26, -1)
    labels[kept] = _clusters(points[kept], 3, 0)
    assert all(len(set(labels[i : i + 8])) == 1 for i in (0, 8, 16))
    widths = silhouette_samples(points[:24], labels[:24])
    expected = [widths[labels[:24] == j].mean() for j in range(3)]
    np.testing.assert_allclose(_silhouettes(distances, labels, 3), expected, rtol=1e-5)


def test_a_threshold_that_leaves_too_few_keeps_the_nearest_with_a_warning():
    noise = np.random.default_rng(1).standard_normal((100, 12))
    with pytest.warns(ConvergenceWarning, match="leaves 0 components of the runs"):
        found = snmf.consensus(noise, 3, n_runs=4, density_threshold=1e-9, **FIT)
    assert np.sum(found.labels >= 0) == 3
    assert found.dropped == pytest.approx(0.75)
    np.testing.assert_array_equal(found.silhouettes, np.zeros(3))


def test_several_numbers_are_those_of_one():
    table = snmf.consensus(X, (4, 2, 1), n_runs=3, **FIT)
    np.testing.assert_array_equal(table.n_components, [1, 2, 4])
    with parallel_config("threading"):  # starts at once
        one = snmf.consensus(X, 4, n_runs=3, n_jobs=2, **FIT)
    np.testing.assert_array_equal(one.W, table[4].W)
    assert table.errors[2] < table.errors[1] < table.errors[0]
    assert table.stability[2] == pytest.approx(one.stability.per_component.mean())
    assert np.isnan(table.silhouettes[0])
    with pytest.raises(KeyError, match=r"3: the numbers of components are \[1, 2, 4\]"):
        table[3]
    line = str(table).splitlines()[3].split()
    assert line[:2] == ["4", f"{table.stability[2]:.4f}"]
    assert line[3:] == ["0.0%", f"{one.error:.4f}"]
    np.testing.assert_array_equal(table.plot().line_.get_ydata(), table.errors)


def test_it_prints_and_plots():
    found = snmf.consensus(X, 4, n_runs=3, **FIT)
    lines = str(found).splitlines()
    assert lines[1].split() == [
        "0", "3", f"{found.stability.per_component[0]:.4f}", f"{found.silhouettes[0]:.4f}"
    ]  # fmt: skip
    assert lines[5] == (
        f"3 runs, 0.0% of their components dropped; relative error {found.error:.4f}"
    )
    assert repr(found) == str(found)
    display = found.plot()
    shown = np.asarray(display.image_.get_array())
    blocks = shown.reshape(4, 3, 4, 3).mean(axis=(1, 3))
    assert np.diag(blocks).min() > 0.99 > 0.9 > (blocks - np.eye(4)).max()


def test_dropped_components_come_last_in_the_picture():
    cosines = np.eye(4)
    display = snmf.plots.ConsensusDisplay(cosines, [1, -1, 0, 1]).plot()
    np.testing.assert_array_equal(display.order_, [2, 0, 3, 1])
    shown = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert shown == ["0", "1", "dropped"]
    with pytest.raises(ValueError, match=r"cosines must have shape \(3, 3\)"):
        snmf.plots.ConsensusDisplay(cosines, [0, 1, 2])


def test_any_kind_of_data(tmp_path):
    gaps = np.where(np.abs(X) < 0.3, 0, X)
    expected = snmf.consensus(gaps, 4, n_runs=3, **FIT)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        stored = file.create_dataset("X", data=gaps)
        for data in (sp.csr_array(gaps), stored):
            found = snmf.consensus(data, 4, n_runs=3, **FIT)
            np.testing.assert_allclose(found.W, expected.W, atol=1e-5)
        with pytest.raises(ValueError, match="n_jobs=2 needs X in memory"):
            snmf.consensus(stored, 4, n_jobs=2, **FIT)


def test_weights_missing_values_and_an_intercept():
    D = RNG.integers(0, 3, size=400).astype("float64")
    wild = np.where(D[:, None] == 0, 1e3, X)
    found = snmf.consensus(wild, 4, n_runs=3, sample_weight=D, **FIT)
    assert snmf.align(found.components, H).mean > 0.99
    left = (D[:, None] * (X - found.W @ found.components) ** 2)[D > 0].sum()
    assert found.error == pytest.approx((left / (D[:, None] * X**2).sum()) ** 0.5)
    holes = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
    found = snmf.consensus(holes, 4, n_runs=3, missing_values=np.nan, **FIT)
    assert snmf.align(found.components, H).mean > 0.99
    found = snmf.consensus(X + 3, 4, n_runs=3, fit_intercept=True, **FIT)
    assert snmf.align(found.components, H).mean > 0.97
    assert found.factorization.intercept == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize(
    "estimator", [None, SNMF(max_iter=2), MiniBatchSNMF(max_iter=2), ConvexNMF(max_iter=2)]
)
def test_runs_that_have_not_converged_are_counted(estimator):
    given = {**FIT, "max_iter": 2} if estimator is None else {"estimator": estimator}
    with pytest.warns(ConvergenceWarning, match="3 of 3 runs with n_components=4 have not") as seen:
        snmf.consensus(X, 4, n_runs=3, **{"random_state": 0, **given})
    assert len(seen) == 1


def test_runs_of_an_estimator():
    options = {"solver": "hals", "sparsity": 0.03, "max_iter": 100}
    given = {"n_runs": 3, "random_state": 0}
    expected = snmf.consensus(X, 4, **options, **given)
    found = snmf.consensus(X, 4, estimator=SNMF(**options), **given)
    np.testing.assert_array_equal(found.W, expected.W)
    for estimator in (ConvexNMF(sparsity=0.1), MiniBatchSNMF(batch_size=50, **options)):
        found = snmf.consensus(X, 4, estimator=estimator, **given)
        exact = snmf.factorize(X, 4, H=found.components, fixed=4, sparsity=estimator.sparsity)
        np.testing.assert_allclose(found.W, exact.W, atol=1e-12)
        assert snmf.align(found.components, H).mean > 0.97
    with pytest.raises(ValueError, match="estimator must have no locality; got 2"):
        snmf.consensus(X, 4, estimator=SNMF(locality=2))
    with pytest.raises(ValueError, match="consensus compares components in the space of X"):
        snmf.consensus(X, 4, estimator=ConvexNMF(kernel="rbf"))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_consensus_components_have_as_few_nonzero_entries_as_those_of_the_runs():
    """Two runs of noise choose different features; the median of two is their mean."""
    noise = np.random.default_rng(1).standard_normal((60, 12))
    given = {**FIT, "n_nonzero_features": 0.25, "positive_components": True}
    found = snmf.consensus(noise, 3, n_runs=2, subsample=0.5, density_threshold=2, **given)
    np.testing.assert_array_equal(np.sum(found.components > 0, axis=1), 3)
    assert found.components.min() == 0


def test_components_without_a_common_feature_have_no_median():
    points = np.repeat(np.eye(6), [1, 1, 1, 2, 0, 0], axis=0)
    labels = np.array([0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="medians of 1 of the 2 clusters are zero"):
        _medians(points, labels, 2, {"n_nonzero_features": 1})


def test_all_runs_divide_by_the_deviations_of_all_rows():
    wide = np.array(X)
    wide[0] *= 30  # most samples have this row, and some do not
    scale = snmf.factorize(wide, 4, scale=True, **FIT).scale
    found = snmf.consensus(wide, 4, n_runs=3, subsample=0.5, scale=True, **FIT)
    expected = snmf.consensus(wide, 4, n_runs=3, subsample=0.5, scale=scale, **FIT)
    np.testing.assert_array_equal(found.factorization.scale, scale)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.W, expected.W)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"n_runs": 1}, ValueError, "n_runs must be a whole number from 2; got 1"),
        (
            {"n_components": "auto"},
            ValueError,
            "number, or some of them; got 'auto'",
        ),
        ({"n_components": []}, ValueError, "n_components must be"),
        ({"density_threshold": 0}, ValueError, "density_threshold must be above 0; got 0"),
        ({"subsample": 1, "init": "svd"}, ValueError, "all fits would be the same"),
        ({"init": "custom"}, ValueError, "consensus makes its own starts"),
        ({"locality": 2}, TypeError, r"consensus got the parameters \['locality'\]"),
    ],
)
def test_bad_questions_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        snmf.consensus(X, **{"n_components": 4, **given})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_components_that_die_are_no_components():
    with pytest.raises(ValueError, match="0 components that are not zero, for n_components=2"):
        snmf.consensus(X, 2, n_runs=2, sparsity=50, random_state=0)


# merge


def test_what_matches_is_averaged_and_the_rest_is_kept():
    A, B, C = H[:3], np.vstack([2 * H[3], 5 * H[1] + 0.3 * H[0]]), H[[3, 0]]
    found = snmf.merge([A, B, C], weights=[3, 1, 2])
    np.testing.assert_array_equal(found.members, [[0, 1, 2, -1], [-1, 1, -1, 0], [1, -1, -1, 0]])
    unit = [M / np.linalg.norm(M, axis=1, keepdims=True) for M in (A, B, C)]
    mean = 3 * unit[0][1] + unit[1][1]
    expected = [unit[0][0], mean / np.linalg.norm(mean), unit[0][2], unit[1][0]]
    np.testing.assert_allclose(found.components, expected, rtol=1e-12)
    assert str(found).splitlines()[4].split() == ["3", "–", "0", "0"]
    apart = snmf.merge([A, A], threshold=1.1)
    np.testing.assert_array_equal(apart.members, [[0, 1, 2, -1, -1, -1], [-1, -1, -1, 0, 1, 2]])


def test_models_of_parts_of_the_data_are_merged():
    halves = [SNMF(4, **FIT).fit(X[:200]), snmf.factorize(X[200:], 4, **FIT)]
    found = snmf.merge(halves)
    assert found.components.shape == (4, 20)
    apart = [snmf.align(half, H).mean for half in halves]
    assert snmf.align(found.components, H).mean > np.mean(apart)


def test_models_with_different_scales_are_not_merged():
    plain, scaled = (snmf.factorize(X, 4, scale=scale, **FIT) for scale in (False, True))
    with pytest.raises(ValueError, match="fit 0 and fit 2 must have the same scale"):
        snmf.merge([plain, plain.H, scaled])
    same = SNMF(4, scale=scaled.scale, **FIT).fit(X[:200])
    assert snmf.merge([scaled, same]).components.shape[1] == 20


@pytest.mark.parametrize(
    ("fits", "given", "words"),
    [
        ([], {}, "at least one fit; got none"),
        ([H, H], {"weights": [1, 0]}, "weights must be 2 numbers above 0"),
        ([H, H], {"weights": [1]}, "weights must be 2 numbers above 0"),
        ([H, H], {"threshold": np.nan}, "threshold must be above -1; got nan"),
        ([H, H[:, :5]], {}, "same number of features"),
    ],
)
def test_what_cannot_be_merged_is_refused(fits, given, words):
    with pytest.raises(ValueError, match=words):
        snmf.merge(fits, **given)
