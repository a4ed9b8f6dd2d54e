"""The displays: what they draw is what the model holds, and wrong input is an error."""

import itertools
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from snmf import SNMF, ConvexNMF, HierarchicalSNMF, plots
from snmf.plots import (
    ComponentsDisplay,
    ConvergenceDisplay,
    HierarchyDisplay,
    SelectionDisplay,
    TopFeaturesDisplay,
    UsageDisplay,
    WeightsDisplay,
    drawing,
    svd_bound,
)

mpl.use("Agg")
DIGITS, DIGIT = load_digits(return_X_y=True)
DIGITS = DIGITS - DIGITS.mean(axis=0)
WINE = load_wine(as_frame=True).data


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model():
    with pytest.warns(ConvergenceWarning, match="X is centred"):
        return SNMF(16, random_state=0).fit(DIGITS)


def drawn(display):
    display.figure_.canvas.draw()
    assert display.figure_ is display.ax_.figure
    return display


def texts(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_matplotlib_is_imported_by_plotting_only():
    code = "import sys, snmf.plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'snmf\[plots\]'"):
        ConvergenceDisplay([1.0, 0.5]).plot()


def overlaps(axis):
    """Whether the labels of an axis overlap as they are drawn."""
    axis.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
    return any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_the_module_lists_the_displays_and_what_else_is_public():
    assert set(dir(plots)) == {name for name in plots.__all__ if hasattr(plots, name)}
    assert [name for name in dir(plots) if not name.endswith("Display")] == ["svd_bound"]


def test_a_plot_has_a_title_unless_the_axes_have_one():
    displays = [ComponentsDisplay([[1.0]]), ConvergenceDisplay([1.0]), WeightsDisplay([[1.0]])]
    for display in [*displays, SelectionDisplay([1], [[1.0]])]:
        assert drawn(display.plot()).ax_.get_title()
        ax = plt.subplots()[1]
        ax.set_title("mine")
        assert display.plot(ax).ax_.get_title() == "mine"


# Convergence


def test_convergence_draws_the_curve(model):
    display = drawn(ConvergenceDisplay.from_estimator(model))
    np.testing.assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
    np.testing.assert_array_equal(display.line_.get_xdata(), range(model.n_iter_ + 1))
    assert display.bound_line_ is None
    assert display.ax_.get_legend() is None


@pytest.mark.parametrize(
    ("X", "k"), [(DIGITS, 16), (DIGITS.astype("float32"), 2), (DIGITS[:30], 5), (DIGITS[:300], 40)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_bound_is_the_tail_of_the_spectrum_and_lies_below_the_curve(X, k):
    squares = np.linalg.svd(X.astype("float64"), compute_uv=False) ** 2
    model = SNMF(k, random_state=0).fit(X)
    display = drawn(ConvergenceDisplay.from_estimator(model, X, name="mu"))
    assert display.bound == pytest.approx(squares[k:].sum() / squares.sum(), rel=1e-9)
    low, high = display.ax_.get_ylim()
    assert low < display.bound < model.loss_curve_[-1] < model.loss_curve_[0] < high
    shown = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert shown == ["mu", f"SVD bound: {display.bound:.4g}"]
    heights = [t for t in display.ax_.transData.transform([(0, display.bound), (0, low)])[:, 1]]
    end = display.ax_.transData.transform((0, model.loss_curve_[-1]))[1]
    assert end - heights[0] > 0.1 * display.ax_.bbox.height  # the approach is seen
    assert heights[0] > heights[1]


def test_the_bound_of_any_data_and_any_scale():
    squares = np.linalg.svd(DIGITS, compute_uv=False) ** 2
    expected = pytest.approx(squares[5:].sum() / squares.sum(), rel=1e-9)
    for X in (DIGITS * 1e-200, DIGITS * 1e200, DIGITS.T, sparse.csr_array(DIGITS)):
        assert svd_bound(X, 5) == expected
    assert svd_bound(DIGITS, 64) == 0
    moved = DIGITS + np.arange(64)
    for X in (moved, moved[:40], sparse.csr_array(moved)):
        expected = svd_bound((X.toarray() if sparse.issparse(X) else X) - X.mean(axis=0), 5)
        assert svd_bound(X, 5, centred=True) == pytest.approx(expected, rel=1e-9)
    assert svd_bound(np.ones((9, 4)), 2, centred=True) == 0
    assert svd_bound(np.zeros((5, 4)), 2) == 0


def test_the_bound_of_what_is_too_large_for_a_gram_matrix(monkeypatch):
    monkeypatch.setattr("snmf.plots.bound.GRAM", 50)
    squares = np.linalg.svd(DIGITS, compute_uv=False) ** 2
    for X in (DIGITS, DIGITS.T, sparse.csr_array(DIGITS)):
        assert svd_bound(X, 5) == pytest.approx(squares[5:].sum() / squares.sum(), rel=1e-9)


def test_a_curve_at_its_bound_and_one_without_iterations():
    for loss, bound in (([0.5, 0.5], 0.5), ([0.0], None), ([0.0, 0.0], 0.0), ([1e-9, 1e-12], 0.0)):
        display = drawn(ConvergenceDisplay(loss, bound=bound).plot())
        assert np.isfinite(display.ax_.get_ylim()).all()


@pytest.mark.filterwarnings("ignore:X is centred")
def test_two_curves_on_one_axes(model):
    _, ax = plt.subplots()
    first = ConvergenceDisplay.from_estimator(model, DIGITS, name="mu", ax=ax)
    other = SNMF(16, solver="hals", random_state=0).fit(DIGITS)
    second = ConvergenceDisplay.from_estimator(other, name="hals", ax=ax)
    assert first.ax_ is second.ax_ is ax
    drawn(second)
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"mu", "hals"}


# Components


def test_components_are_a_heat_map_symmetric_about_zero(model):
    display = drawn(ComponentsDisplay.from_estimator(model))
    np.testing.assert_array_equal(display.image_.get_array(), model.components_)
    low, high = display.image_.get_clim()
    assert low == -high
    assert high == pytest.approx(np.abs(model.components_).max(), rel=0.5)
    assert display.ax_.get_ylabel() == "component"


def test_components_have_the_names_of_the_features():
    model = SNMF(3, random_state=0).fit(WINE)
    display = drawn(ComponentsDisplay.from_estimator(model))
    assert texts(display.ax_.xaxis)[:2] == ["alcohol", "malic_acid"]
    assert texts(display.ax_.yaxis) == ["0", "1", "2"]
    given = ComponentsDisplay.from_estimator(model, feature_names=[f"f{i}" for i in range(13)])
    assert texts(drawn(given).ax_.xaxis)[:2] == ["f0", "f1"]
    assert given.ax_.get_window_extent().height > 80  # names leave room for the map
    tight, whole = given.figure_.get_tightbbox(), given.figure_.bbox_inches
    assert tight.y0 >= whole.y0 - 0.01


def test_of_many_named_features_those_that_weigh_most_are_shown():
    H = np.random.default_rng(0).standard_normal((4, 500))
    display = drawn(ComponentsDisplay(H, feature_names=[f"gene {j}" for j in range(500)]).plot())
    shown = display.features_
    assert len(shown) == len({*shown}) == 60
    for i, h in enumerate(np.abs(H)):
        assert {*np.argsort(-h)[:10]} <= {*shown}
        assert shown[15 * i] == max(set(range(500)) - {*shown[: 15 * i]}, key=h.__getitem__)
    np.testing.assert_array_equal(display.image_.get_array(), H[:, shown])
    assert texts(display.ax_.xaxis)[0] == f"gene {shown[0]}"
    assert "60 features of 500" in display.ax_.get_xlabel()


def test_a_long_name_keeps_its_end():
    names = [f"the same beginning of a long name {j}" for j in range(3)]
    shown = texts(drawn(ComponentsDisplay(np.eye(3), feature_names=names).plot()).ax_.xaxis)
    assert [(name[:8], name[-6:], len(name)) for name in shown] == [
        ("the same", f"name {j}", 24) for j in range(3)
    ]


@pytest.mark.parametrize("width", [3, 5, 8])
def test_names_do_not_overlap_on_given_axes(width):
    H = np.random.default_rng(0).standard_normal((3, 59))
    ax = plt.subplots(figsize=(width, 4), layout="constrained")[1]
    display = ComponentsDisplay(H, feature_names=[f"gene {j}" for j in range(59)]).plot(ax)
    assert len(display.features_) == len(texts(ax.xaxis)) >= 3 * width
    assert not overlaps(ax.xaxis)
    ax.set_xticks(np.linspace(0, 1, 59), [f"gene {j}" for j in range(59)], rotation=90)
    assert overlaps(ax.xaxis)  # the check sees an overlap


@pytest.mark.parametrize("height", [1.2, 2, 6])
def test_numbers_do_not_overlap_on_given_axes(height):
    ax = plt.subplots(figsize=(4, height), layout="constrained")[1]
    ComponentsDisplay(np.random.default_rng(0).standard_normal((20, 6))).plot(ax)
    assert not overlaps(ax.yaxis)
    assert (texts(ax.yaxis) == [str(j) for j in range(20)]) == (height == 6)


@pytest.mark.parametrize("k", [1, 2, 40])
def test_components_as_images(k):
    H = np.random.default_rng(k).standard_normal((k, 15)).astype("float32")
    display = drawn(ComponentsDisplay(H, image_shape=(3, 5)).plot())
    sheet = display.image_.get_array().filled(np.nan)
    tiles = [h.reshape(3, 5) for h in H]
    found = [
        any(
            np.array_equal(sheet[i : i + 3, j : j + 5], tile)
            for i in range(sheet.shape[0] - 2)
            for j in range(sheet.shape[1] - 4)
        )
        for tile in tiles
    ]
    assert all(found)
    assert np.isfinite(sheet).sum() == H.size
    assert [text.get_text() for text in display.ax_.texts] == [str(j) for j in range(k)]


def test_a_dead_component_and_an_outlier():
    H = np.random.default_rng(0).standard_normal((3, 1000))
    H[0], H[1, 3] = 0, 1000
    display = drawn(ComponentsDisplay(H).plot())
    assert display.image_.get_clim()[1] < 10
    assert display.colorbar_.extend == "both"
    assert drawn(ComponentsDisplay(np.zeros((2, 3))).plot()).image_.get_clim() == (-1, 1)


def test_top_features_are_those_with_the_largest_entries():
    model = SNMF(3, random_state=0).fit(WINE)
    display = TopFeaturesDisplay.from_estimator(model, n_top=4)
    display.figure_.canvas.draw()
    assert len(display.axes_) == 3
    for h, ax, shown in zip(model.components_, display.axes_, display.features_, strict=True):
        rest = np.delete(np.abs(h), shown)
        assert np.all(np.diff(np.abs(h[shown])) <= 0)
        assert np.abs(h[shown]).min() >= rest.max()
        np.testing.assert_array_equal([bar.get_width() for bar in ax.patches], h[shown])
        assert len({bar.get_facecolor() for bar in ax.patches}) == len({*np.sign(h[shown])})
        assert texts(ax.yaxis)[0] == drawing.shortened(WINE.columns[shown[0]])
        low, high = ax.get_ylim()
        assert low > high  # the largest is at the top
        assert not overlaps(ax.yaxis)


def test_top_features_without_names_of_many_components_in_a_given_figure():
    figure = plt.figure(figsize=(9, 9), layout="constrained")
    H = np.random.default_rng(0).standard_normal((6, 5))
    display = TopFeaturesDisplay(H).plot(figure)
    assert display.figure_ is figure
    assert len(display.axes_) == len(figure.axes) == 6
    assert texts(display.axes_[5].yaxis) == [str(j) for j in np.argsort(-np.abs(H[5]))]
    assert len({ax.get_xlim() for ax in display.axes_}) == 1


def test_top_features_leave_out_zeros():
    H = np.array([[0.0, 2, 0, -3], [0, 0, 0, 0], [1, 2, 3, 4]])
    display = TopFeaturesDisplay(H, n_top=3).plot()
    display.figure_.canvas.draw()
    assert [shown.tolist() for shown in display.features_] == [[3, 1], [], [3, 2, 1]]
    assert [texts(ax.yaxis) for ax in display.axes_] == [["3", "1"], [], ["3", "2", "1"]]
    assert len({ax.get_ylim() for ax in display.axes_}) == 1  # bars are equally high


# Weights


def test_weights_are_sorted_by_component_and_weight(model):
    display = drawn(WeightsDisplay.from_estimator(model, DIGITS[:500]))
    W = model.transform(DIGITS[:500])
    np.testing.assert_array_equal(display.image_.get_array(), W[display.rows_])
    assert sorted(display.rows_) == [*range(500)]
    shown = W[display.rows_]
    leading = shown.argmax(axis=1)
    assert np.all(np.diff(leading) >= 0)
    for j in range(16):
        assert np.all(np.diff(shown[leading == j].max(axis=1)) <= 0)
    assert display.image_.get_clim()[0] == 0


def test_many_rows_are_thinned_evenly_and_the_axis_counts_them_all():
    W = np.random.default_rng(0).random((12_345, 5))
    display = drawn(WeightsDisplay(W).plot())
    assert len({*display.rows_}) == 1000
    whole = WeightsDisplay(W, max_rows=20_000).plot().rows_
    places = np.searchsorted(np.arange(12_345), np.argsort(whole)[display.rows_])
    assert {*np.diff(places)} == {12, 13}
    assert display.ax_.get_ylim() == (12_345, 0)
    assert "1000 of 12345 shown" in display.ax_.get_ylabel()


def test_labels_group_the_rows():
    W = np.random.default_rng(0).random((60, 3))
    labels = np.repeat(["b", "a", "c"], [10, 20, 30])
    display = drawn(WeightsDisplay(W, labels=labels).plot())
    assert list(labels[display.rows_]) == ["a"] * 20 + ["b"] * 10 + ["c"] * 30
    assert texts(display.ax_.yaxis) == ["a", "b", "c"]
    assert list(display.ax_.get_yticks()) == [10, 25, 45]


def test_labels_of_small_groups_do_not_overlap():
    W = np.random.default_rng(0).random((400, 3))
    display = drawn(WeightsDisplay(W, labels=np.minimum(np.arange(400), 60)).plot())
    assert not overlaps(display.ax_.yaxis)
    assert {"0", "60"} <= {*texts(display.ax_.yaxis)}


@pytest.mark.parametrize("k", [1, 2, 40])
def test_any_number_of_components(k):
    W = np.maximum(np.random.default_rng(0).standard_normal((50, k)), 0).astype("float32")
    drawn(WeightsDisplay(W).plot())
    drawn(WeightsDisplay(np.zeros((3, k))).plot())


# Selection


def test_selection_shows_means_spread_stability_and_choice():
    k, errors = [5, 2, 3], np.array([[3.0, 5.0], [9.0, 9.0], [2.0, 2.5]])
    display = drawn(SelectionDisplay(k, errors, stability=[0.2, 0.9, 0.8], chosen=3).plot())
    np.testing.assert_array_equal(display.line_.get_xdata(), [2, 3, 5])
    np.testing.assert_array_equal(display.line_.get_ydata(), [9, 2.25, 4])
    band = display.ax_.collections[0].get_paths()[0].vertices
    assert {3.0, 5.0} <= {*band[band[:, 0] == 5, 1]}
    np.testing.assert_array_equal(display.stability_ax_.lines[0].get_ydata(), [0.9, 0.8, 0.2])
    shown = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "chosen: k = 3" in shown
    assert "stability" in shown
    one = drawn(SelectionDisplay([2, 3], [1.0, 0.5]).plot())
    assert not one.ax_.collections
    assert one.stability_ax_ is None


def test_numbers_of_components_that_are_near_each_other_do_not_overlap():
    k = [2, 3, 4, 5, 50, 100, 200, 203]
    display = drawn(SelectionDisplay(k, np.arange(8.0)).plot())
    assert not overlaps(display.ax_.xaxis)
    assert texts(display.ax_.xaxis) == ["2", "50", "100", "200"]


def test_usage_is_relative_to_the_group_that_uses_a_component_most():
    display = drawn(UsageDisplay([[2.0, 0.1, 0.0], [0.5, 0.2, 0.0]], groups=["B", "T"]).plot())
    shown = np.asarray(display.image_.get_array())
    np.testing.assert_allclose(shown, [[1, 0.5, 0], [0.25, 1, 0]])
    assert texts(display.ax_.yaxis) == ["B", "T"]
    with pytest.raises(ValueError, match="groups must have 2 entries"):
        UsageDisplay([[1.0], [2.0]], groups=["B"])
    with pytest.raises(ValueError, match="usage must be nonnegative; the least is -1"):
        UsageDisplay([[-1.0]], groups=["B"])


# What is refused


@pytest.mark.parametrize(
    "display",
    [
        lambda m: ConvergenceDisplay.from_estimator(m),
        lambda m: ComponentsDisplay.from_estimator(m),
        lambda m: TopFeaturesDisplay.from_estimator(m),
        lambda m: WeightsDisplay.from_estimator(m, DIGITS),
    ],
)
def test_an_unfitted_estimator_is_refused(display):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        display(SNMF())


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_data_with_missing_values_have_no_bound(kind):
    X = DIGITS[:50].copy()
    X[1, 2] = np.nan
    fitted = SNMF(2, missing_values=np.nan, max_iter=2, tol=0, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"needs all entries of X; got NaN.*Leave X out"):
        ConvergenceDisplay.from_estimator(fitted, kind(X))
    ConvergenceDisplay.from_estimator(fitted)


def test_a_model_without_one_matrix_of_components_is_refused():
    kernel = ConvexNMF(2, kernel="rbf", max_iter=2, tol=0, random_state=0).fit(DIGITS[:30])
    for display in (ComponentsDisplay, TopFeaturesDisplay):
        with pytest.raises(ValueError, match="in the space of X; got one with kernel='rbf'"):
            display.from_estimator(kernel)
        with pytest.raises(NotFittedError):
            display.from_estimator(ConvexNMF(kernel="rbf"))
    tree = HierarchicalSNMF((4, 2), random_state=0).fit(DIGITS[:100])
    given = {WeightsDisplay: [DIGITS[:100]]}
    for display in (ComponentsDisplay, TopFeaturesDisplay, ConvergenceDisplay, WeightsDisplay):
        with pytest.raises(ValueError, match=r"Give one of its levels_"):
            display.from_estimator(tree, *given.get(display, []))
    for display in (ComponentsDisplay, TopFeaturesDisplay, WeightsDisplay):
        display.from_estimator(tree.levels_[1], *given.get(display, []))
    ConvergenceDisplay.from_estimator(tree.levels_[0], DIGITS[:100])
    with pytest.raises(ValueError, match="this SNMF has none"):
        ConvergenceDisplay.from_estimator(tree.levels_[1])
    with pytest.raises(ValueError, match="must have levels, as a HierarchicalSNMF has; got a Conv"):
        HierarchyDisplay.from_estimator(ConvexNMF(2, random_state=0).fit(DIGITS[:50]))


def test_a_sparse_group_has_the_bound_of_its_matrix(tmp_path):
    h5py = pytest.importorskip("h5py")
    X = sparse.csr_array(DIGITS[:200])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in ("data", "indices", "indptr"):
            file[name] = getattr(X, name)
        file.attrs.update({"encoding-type": "csr_matrix", "shape": X.shape})
        model = SNMF(3, max_iter=5, random_state=0, tol=0).fit(file)
        display = ConvergenceDisplay.from_estimator(model, file)
    assert display.bound == pytest.approx(plots.svd_bound(X, 3), rel=1e-9)


@pytest.mark.parametrize(
    ("display", "words"),
    [
        (lambda m: ConvergenceDisplay.from_estimator(m, DIGITS[:, 1:]), "must have 64 columns"),
        (lambda m: ConvergenceDisplay([[1.0]]), "1 dimensions"),
        (lambda m: ConvergenceDisplay([1.0, np.nan]), "finite"),
        (lambda m: ComponentsDisplay.from_estimator(m, feature_names=["a"]), "64 entries.*got 1"),
        (lambda m: ComponentsDisplay.from_estimator(m, image_shape=(8, 9)), "64 pixels"),
        (lambda m: ComponentsDisplay.from_estimator(m, image_shape=(64,)), "height, width"),
        (lambda m: ComponentsDisplay(np.ones(3)), "2 dimensions"),
        (lambda m: TopFeaturesDisplay(np.ones((1, 2)), feature_names="a"), "2 entries.*got 1"),
        (lambda m: TopFeaturesDisplay(np.ones((1, 2)), n_top=0), "at least 1; got 0"),
        (lambda m: ComponentsDisplay([["a"]]), "real numbers"),
        (lambda m: WeightsDisplay.from_estimator(m, DIGITS, labels=[1, 2]), r"shape \(1797,\)"),
        (lambda m: WeightsDisplay([[-1.0]]), "nonnegative; the least is -1"),
        (lambda m: WeightsDisplay([[1.0]], max_rows=0), "at least 1"),
        (lambda m: SelectionDisplay([1, 2], [[1.0]]), "2 rows"),
        (lambda m: SelectionDisplay([1], [[1.0]], stability=[1, 2]), "1 entries"),
        (lambda m: SelectionDisplay([1], [[1.0]], chosen=2), "one of k"),
    ],
)
def test_wrong_input_is_refused_with_words(model, display, words):
    with pytest.raises(ValueError, match=words):
        display(model)


@pytest.mark.parametrize("kind", [list, pd.DataFrame, sparse.csc_array])
def test_data_of_any_kind(model, kind):
    X = kind(DIGITS[:100].tolist()) if kind is not sparse.csc_array else kind(DIGITS[:100])
    bound = ConvergenceDisplay.from_estimator(model, X).bound
    assert bound == pytest.approx(svd_bound(DIGITS[:100], 16), rel=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_hierarchy_puts_children_beside_each_other_and_under_their_parents():
    estimator = SNMF(progress_bar=False, fit_intercept=True)
    model = HierarchicalSNMF((12, 4, 2), estimator, random_state=0).fit(DIGITS)
    display = drawn(HierarchyDisplay.from_estimator(model, names=["first", "second"]))
    assert [len(places) for places in display.positions_] == [12, 4, 2]
    for level in (0, 1):
        parents, places = model.parents(level), display.positions_[level]
        along = parents[np.argsort(places)]
        assert np.count_nonzero(np.diff(along)) == len(set(parents)) - 1  # families stay together
        for parent in set(parents):
            middle = places[parents == parent].mean()
            assert display.positions_[level + 1][parent] == pytest.approx(middle)
    assert [text.get_text() for text in display.ax_.texts] == ["first", "second"]
    assert texts(display.ax_.yaxis) == ["level 0: 12", "level 1: 4", "level 2: 2"]


def test_a_hierarchy_must_fit_together():
    with pytest.raises(ValueError, match="got none"):
        HierarchyDisplay([])
    with pytest.raises(ValueError, match=r"got shapes \(4, 3\) and \(2, 1\)"):
        HierarchyDisplay([np.ones((4, 3)), np.ones((2, 1))])
    with pytest.raises(ValueError, match="names must have 3 entries; got 1"):
        HierarchyDisplay([np.ones((4, 3))], names=["a"])
    with pytest.raises(NotFittedError):
        HierarchyDisplay.from_estimator(HierarchicalSNMF())
