"""MiniBatchSNMF with an intercept, and with scaled columns."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

import snmf
from snmf import SNMF, MiniBatchSNMF

SOLVERS = ["mu", "hals"]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def shifted_stream(n=6000, p=40, k=6, seed=0):
    """Planted data, centred, and their components."""
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(2, 0.5, (n, k)), rng.standard_normal((k, p))
    data = W @ H + 0.3 * rng.standard_normal((n, p))
    return data - data.mean(axis=0), H


def of_batches(data, size, **parameters):
    fitted = MiniBatchSNMF(6, random_state=0, progress_bar=False, **parameters)
    for start in range(0, data.shape[0], size):
        fitted.partial_fit(data[start : start + size])
    return fitted


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.03])
def test_an_intercept_comes_near_to_that_of_a_full_fit(solver, sparsity):
    data, H = shifted_stream()
    given = {"solver": solver, "sparsity": sparsity, "fit_intercept": True, "random_state": 0,
             "progress_bar": False}  # fmt: skip
    full = SNMF(6, **given).fit(data)
    ours = MiniBatchSNMF(6, **given).fit(data)
    assert ours.rms_ == pytest.approx(full.rms_, rel=1e-12)
    assert ours.penalty_ == pytest.approx(full.penalty_, rel=1e-12)
    assert ours.loss_ < 1.3 * full.loss_curve_[-1]
    assert ours.score(data) > full.score(data) - 0.01
    W = ours.transform(data)
    residual = data - ours.inverse_transform(W)
    np.testing.assert_allclose(residual, data - ours.intercept_ - W @ ours.components_)
    assert ours.score(data) == pytest.approx(1 - np.sum(residual**2) / np.sum(data**2))
    if sparsity:
        without = MiniBatchSNMF(6, **{**given, "fit_intercept": False}).fit(data)
        near, far = (snmf.align(m.components_, H).cosines.mean() for m in (ours, without))
        assert near > 0.97 > far + 0.02


@quiet
@pytest.mark.parametrize("seed", [3, 5, 7])
def test_small_batches_find_all_components(seed):
    """Starts from a batch of 64 rows find 4, 2 and 4 of the 8."""
    data, H = shifted_stream(n=2000, k=8, seed=seed)
    given = {"solver": "hals", "sparsity": 0.03, "fit_intercept": True, "batch_size": 64}
    fitted = MiniBatchSNMF(8, random_state=0, progress_bar=False, **given).fit(data)
    assert np.all(snmf.align(fitted.components_, H).cosines > 0.9)


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.03])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_a_shifted_stream_has_the_same_components(solver, sparsity, make):
    data, _ = shifted_stream(n=700)
    shift = 5 * np.random.default_rng(1).standard_normal(40)
    given = {"solver": solver, "sparsity": sparsity, "fit_intercept": True, "batch_size": 128}
    for parameters in ({}, {"init": "kmeans"}):
        one = of_batches(make(data), 50, **given, **parameters)
        other = of_batches(make(data + shift), 50, **given, **parameters)
        np.testing.assert_allclose(other.components_, one.components_, atol=1e-8)
        np.testing.assert_allclose(other.intercept_, one.intercept_ + shift, atol=1e-7)
        assert other.loss_ == pytest.approx(one.loss_)
        assert other.penalty_ == pytest.approx(one.penalty_)


def test_the_sums_of_a_stream_with_an_intercept_are_those_of_its_rows():
    data, _ = shifted_stream(n=300)
    data = data + 3
    weights = np.random.default_rng(0).random(300) + 0.5
    fitted = MiniBatchSNMF(6, fit_intercept=True, random_state=0, forget_factor=1.0)
    for some in (slice(0, 100), slice(100, 120), slice(120, 300)):
        fitted.partial_fit(data[some], sample_weight=weights[some])
    stream = fitted._stream
    np.testing.assert_allclose(stream["mean"], np.average(data, axis=0, weights=weights))
    spread = weights @ np.sum((data - stream["mean"]) ** 2, axis=1)
    assert fitted.rms_ == pytest.approx((spread / weights.sum()) ** 0.5)
    S, T = stream["S"], stream["T"]
    assert S.shape == (7, 40)
    assert T[-1, -1] <= weights.sum()
    # m leaves no mean in the rows that the sums remember
    H, m, n = stream["H"][:-1], stream["H"][-1], T[-1, -1]
    np.testing.assert_allclose(S[-1] / n, m + T[-1, :-1] / n @ H, atol=1e-12)


@quiet
@pytest.mark.parametrize("power", [-600, 500])
def test_an_intercept_at_any_scale_and_from_a_given_start(power):
    data, H = shifted_stream(n=400)
    given = {"fit_intercept": True, "sparsity": 0.01}
    one = of_batches(data, 100, **given)
    other = of_batches(np.ldexp(data, power), 100, **given)
    np.testing.assert_allclose(other.components_, one.components_, atol=1e-9)
    np.testing.assert_allclose(np.ldexp(other.intercept_, -power), one.intercept_, atol=1e-9)
    rows = np.vstack([np.zeros((30, 40)), data])  # rows of zeros are rows as others are
    assert of_batches(rows, 30, **given)._stream["n_taken"] == pytest.approx(400)
    custom = MiniBatchSNMF(6, init="custom", progress_bar=False, **given)
    custom.partial_fit(data[:200], H=H)
    assert np.sum(snmf.align(custom.components_, H).cosines > 0.9) >= 5


@quiet
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("intercept", [False, True])
def test_a_scaled_stream_is_the_stream_of_scaled_rows(make, intercept, tmp_path):
    data, _ = shifted_stream(n=500)
    data = (data + 1) * np.logspace(-2, 2, 40)
    given = {"random_state": 0, "progress_bar": False, "fit_intercept": intercept}
    weights = np.random.default_rng(0).random(500) * (np.arange(500) % 9 > 0)
    mean = np.average(data, axis=0, weights=weights)
    scale = np.average((data - mean) ** 2, axis=0, weights=weights) ** 0.5
    one = MiniBatchSNMF(4, scale=True, **given).fit(make(data), sample_weight=weights)
    other = MiniBatchSNMF(4, **given).fit(make(data / scale), sample_weight=weights)
    np.testing.assert_allclose(one.scale_, scale, rtol=1e-12)
    np.testing.assert_allclose(one.components_, other.components_, atol=1e-8)
    np.testing.assert_allclose(one.transform(make(data)), other.transform(data / scale), atol=1e-7)
    back = one.inverse_transform(one.transform(data)) / scale
    np.testing.assert_allclose(back, other.inverse_transform(other.transform(data / scale)))
    first = of_batches(make(data), 100, scale=True, fit_intercept=intercept)
    np.testing.assert_allclose(first.scale_, data[:100].std(axis=0))
    same = of_batches(make(data / first.scale_), 100, fit_intercept=intercept)
    np.testing.assert_allclose(first.components_, same.components_, atol=1e-8)
    kept = of_batches(make(data), 100, scale=scale, fit_intercept=intercept)
    np.testing.assert_allclose(kept.scale_, scale)
    snmf.save(first, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.transform(data), first.transform(data))
    for fitted in (again, first):
        fitted.partial_fit(make(data[:50]))
    np.testing.assert_array_equal(again.components_, first.components_)


def test_a_first_batch_too_small_for_standard_deviations():
    data, _ = shifted_stream(n=300)
    with pytest.warns(ConvergenceWarning, match="the first batch, which has 20 rows"):
        MiniBatchSNMF(2, scale=True, random_state=0).partial_fit(data[:20])
    fitted = MiniBatchSNMF(2, scale=True, random_state=0).partial_fit(data[:200])
    fitted.partial_fit(data[200:205])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"fit_intercept": True}),
        ({"fit_intercept": True}, {}),
        ({}, {"scale": True}),
        ({"scale": np.ones(12)}, {"scale": 2 * np.ones(12)}),
        ({"scale": np.ones(12)}, {"scale": True}),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_stream_keeps_its_intercept_and_its_scale(before, after):
    X = np.random.default_rng(0).standard_normal((200, 12))
    same = {"fit_intercept": False, "scale": False}
    model = MiniBatchSNMF(3, random_state=0, **{**same, **before}).partial_fit(X)
    expected = model.components_
    (name,) = {**before, **after}
    with pytest.raises(ValueError, match=f"^{name} must stay the same from one partial_fit to"):
        model.set_params(**{**same, **after}).partial_fit(X)
    np.testing.assert_array_equal(model.components_, expected)
    model.set_params(**{**same, **before}).partial_fit(X)
