"""Parts that stay: a given W, or the first rows of a given H."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snmf
from snmf import SNMF

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.random((80, 5)) @ RNG.standard_normal((5, 12)) + 0.1 * RNG.standard_normal((80, 12))


def unit(H):
    return H / np.linalg.norm(H, axis=1, keepdims=True)


@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_for_a_given_w_h_is_by_least_squares(sparsity, scale):
    W = RNG.random((80, 3))
    result = snmf.factorize(X * scale, 3, W=W, fixed="W", sparsity=sparsity)
    H = np.linalg.lstsq(W, X)[0]
    np.testing.assert_allclose(result.H, unit(H), atol=1e-10)
    np.testing.assert_allclose(result.W, W * np.linalg.norm(H, axis=1) * scale, rtol=1e-10)
    assert result.error == pytest.approx(np.linalg.norm(X - W @ H) * scale)
    assert result.converged


def test_a_given_w_for_rows_far_wider_than_there_are():
    """The fit runs on fewer columns, and so on blocks of more rows."""
    Y, W = RNG.standard_normal((200, 20_000)), RNG.random((200, 3))
    result = snmf.factorize(Y, 3, W=W, fixed="W")
    np.testing.assert_allclose(result.H, unit(np.linalg.lstsq(W, Y)[0]), atol=1e-10)
    assert result.error == pytest.approx(np.linalg.norm(Y - result.W @ result.H))


def test_a_given_w_with_weights_and_with_holes():
    W, D = RNG.random((80, 3)), RNG.random(80)
    weighted = snmf.factorize(X, 3, W=W, fixed="W", sample_weight=D)
    H = np.linalg.lstsq(W * np.sqrt(D)[:, None], X * np.sqrt(D)[:, None])[0]
    np.testing.assert_allclose(weighted.H, unit(H), atol=1e-10)
    holes = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
    result = snmf.factorize(
        holes, 3, W=W, fixed="W", missing_values=np.nan, tol=1e-14, max_iter=500
    )
    for j, column in enumerate(holes.T):
        seen = ~np.isnan(column)
        best = np.linalg.lstsq(W[seen], column[seen])[0]
        np.testing.assert_allclose(W[seen] @ best, (result.W @ result.H)[seen, j], atol=1e-5)


@pytest.mark.parametrize("solver", ["mu", "hals"])
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 4),
    sparsity=st.sampled_from([0.0, 0.1]),
    init=st.sampled_from(["varimax", "kmeans", "svd", "random"]),
    missing=st.booleans(),
)
def test_the_first_rows_stay_and_the_objective_never_rises(
    solver, seed, m, sparsity, init, missing
):
    rng = np.random.default_rng(seed)
    old = 7 * rng.standard_normal((m, 12))
    data = np.where(rng.random(X.shape) < 0.2, np.nan, X) if missing else X
    result = snmf.factorize(
        data, 4, H=old, fixed=m, solver=solver, sparsity=sparsity, init=init, random_state=0,
        max_iter=12, tol=0, missing_values=np.nan if missing else None,
    )  # fmt: skip
    np.testing.assert_allclose(result.H[:m], unit(old), rtol=1e-12, atol=1e-15)
    assert np.all(np.diff(result.loss_curve) <= 0)
    assert result.W.shape == (80, 4)
    assert result.W.min() >= 0


def test_all_rows_given_are_a_start_of_which_the_first_stay():
    H = RNG.standard_normal((4, 12))
    result = snmf.factorize(X, 4, H=H, fixed=2, init="custom", solver="hals")
    np.testing.assert_allclose(result.H[:2], unit(H)[:2], rtol=1e-12)
    assert np.abs(result.H[2:] - unit(H)[2:]).max() > 1e-3
    free = snmf.factorize(X, 4, H=H, init="custom", solver="hals")
    assert np.abs(free.H[:2] - unit(H)[:2]).max() > 1e-3


def test_an_unused_fixed_row_stays_too():
    H = np.vstack([-np.ones(12), np.ones(12)])
    result = snmf.factorize(np.abs(X), 3, H=H, fixed=2, random_state=0)
    assert not result.W[:, 0].any()
    np.testing.assert_allclose(result.H[:2], unit(H), rtol=1e-12)


@pytest.mark.parametrize("init", ["auto", "varimax", "kmeans", "custom"])
def test_components_are_added_beside_the_old(init):
    start = {"H": RNG.standard_normal((3, 12))} if init == "custom" else {}
    model = SNMF(3, init=init, solver="hals", random_state=0).fit(X, **start)
    old, error = model.components_, model.reconstruction_err_
    assert model.add_components(X, 2) is model
    assert model.n_components_ == 5
    np.testing.assert_allclose(model.components_[:3], old, rtol=1e-12)
    assert model.reconstruction_err_ < error
    assert model.transform(X).shape == (80, 5)
    with pytest.raises(ValueError, match="m must be a positive whole number; got 0"):
        model.add_components(X, 0)
    with pytest.raises(ValueError, match="m must be a positive whole number; got True"):
        model.add_components(X, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fixed": "W"}, "fixed='W' needs W, and no H"),
        ({"fixed": "W", "W": np.ones((80, 3)), "H": np.ones((3, 12))}, "and no H; got both"),
        ({"fixed": 1}, "needs an H whose first rows are kept"),
        ({"fixed": 1, "W": np.ones((80, 3)), "H": np.ones((1, 12))}, "and no W; got both"),
        ({"fixed": 4, "H": np.ones((4, 12))}, "from 1 to n_components=3; got 4"),
        ({"fixed": True, "H": np.ones((1, 12))}, "as an int; got True"),
        ({"fixed": np.array([1, 2]), "H": np.ones((2, 12))}, r"as an int; got array\(\[1, 2\]\)"),
        ({"fixed": 1.0, "H": np.ones((1, 12))}, "as an int; got 1.0"),
        ({"fixed": 0, "H": np.ones((1, 12))}, "got 0"),
        ({"fixed": "H", "H": np.ones((3, 12))}, "got 'H'"),
        ({"fixed": 2, "H": np.ones((1, 12))}, r"H must have shape \(2, 12\) or \(3, 12\); got"),
        ({"fixed": "W", "W": -np.ones((80, 3))}, "nonnegative"),
    ],
)
def test_what_does_not_go_together_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        snmf.factorize(X, 3, **given)
    with pytest.raises(ValueError, match=words):
        SNMF(3).fit(X, **given)
