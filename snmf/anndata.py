"""Semi-NMF of AnnData: `factorize`, `transform`, `top_genes`, `usage` and `plot_usage`.

The results lie where scanpy puts those of its own methods: in ``obsm``, ``varm`` and ``uns``. This
module imports nothing of the library anndata; it needs ``pip install 'snmf[anndata]'`` only for the
AnnData that it gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.sparse import issparse

from snmf._arguments import check_scale
from snmf._data import Data
from snmf._estimator import SNMF
from snmf._transform import exact_transform
from snmf.core.features import largest

if TYPE_CHECKING:
    from pandas import DataFrame

AnnData = Any
# kinds of parameters that an .h5ad file can hold
KEPT = (bool, int, float, str, np.bool_, np.number)
ALIGN = (None, "order", "shared")

__all__ = ["factorize", "plot_usage", "top_genes", "transform", "usage"]


def factorize(
    adata: AnnData,
    n_components: int | Literal["auto"],
    *,
    layer: str | None = None,
    use_highly_variable: bool | None = None,
    key_added: str = "snmf",
    copy: bool = False,
    **parameters: Any,
) -> AnnData | None:
    """Factorise the expression of cells, and write weights and components into `adata`.

    Parameters
    ----------
    adata : AnnData of shape (n_obs, n_vars)
        The cells, in memory or backed. Values may be negative: scaled data need no clipping.
    n_components : int or "auto"
        Sets the number of components (programmes) k.
    layer : str, default=None
        Selects the layer to factorise. None is ``adata.X``.
    use_highly_variable : bool, default=None
        Uses only the genes marked in ``adata.var["highly_variable"]``. None does so if there is
        such a column.
    key_added : str, default="snmf"
        Names the results.
    copy : bool, default=False
        Returns a changed copy, and leaves `adata` as it is.
    **parameters
        Any parameter of `snmf.SNMF`, and ``sample_weight``. An array for ``scale`` has an entry for
        every gene of `adata`.

    Returns
    -------
    adata : AnnData or None
        The copy, if `copy` is true. These fields are written, here with the default key:

        ``.obsm["X_snmf"]`` : ndarray of shape (n_obs, n_components)
            The weights W: the usage of each programme by each cell.
        ``.varm["snmf"]`` : ndarray of shape (n_vars, n_components)
            The components, Hᵀ, at unit norm. Genes that were not used have zeros.
        ``.var["snmf_used"]`` : Series of bool
            Whether a gene was used.
        ``.var["snmf_intercept"]`` : Series
            The intercept, if ``fit_intercept`` is true.
        ``.var["snmf_scale"]`` : Series
            What genes were divided by, with ``scale``.
        ``.uns["snmf"]`` : dict
            ``params``, ``error`` (‖X − W H‖), ``score`` (the share of ‖X‖² that is explained),
            ``variance_ratio`` (the share of ‖X‖² that each component explains), ``n_iter``,
            ``penalty`` and ``rms``.

    Raises
    ------
    TypeError
        If `adata` is no AnnData, or a parameter is unknown.
    ValueError
        If the layer or the highly variable genes are missing, or as `snmf.SNMF`.

    Examples
    --------
    >>> import numpy as np, anndata
    >>> import snmf.anndata
    >>> adata = anndata.AnnData(np.random.default_rng(0).normal(size=(60, 8)))
    >>> snmf.anndata.factorize(adata, 3, random_state=0, progress_bar=False)
    >>> adata.obsm["X_snmf"].shape, adata.varm["snmf"].shape
    ((60, 3), (8, 3))
    """
    _check(adata)
    adata = adata.copy() if copy else adata
    weights = parameters.pop("sample_weight", None)
    mask = _mask(adata, use_highly_variable)
    X = _matrix(adata, layer, None if mask is None else np.flatnonzero(mask))
    if mask is not None and np.ndim(parameters.get("scale", False)):
        parameters["scale"] = np.asarray(check_scale(parameters["scale"], adata.n_vars))[mask]
    model = SNMF(n_components, **parameters)
    W = model.fit_transform(X, sample_weight=weights)
    found = model.diagnostics(X, sample_weight=weights)
    used = np.ones(adata.n_vars, bool) if mask is None else mask
    H = np.zeros((adata.n_vars, W.shape[1]), model.components_.dtype)
    H[used] = model.components_.T
    adata.obsm[f"X_{key_added}"], adata.varm[key_added] = W, H
    adata.var[f"{key_added}_used"] = used
    for name, of_genes in (("intercept", model.intercept_), ("scale", model.scale_)):
        column = f"{key_added}_{name}"
        if of_genes is not None:
            whole = np.full(adata.n_vars, float(name == "scale"), H.dtype)
            whole[used] = of_genes
            adata.var[column] = whole
        elif column in adata.var:  # of an earlier fit
            del adata.var[column]
    given = {"layer": layer, "use_highly_variable": mask is not None, **model.get_params()}
    adata.uns[key_added] = {
        "params": {name: value for name, value in given.items() if isinstance(value, KEPT)},
        "error": model.reconstruction_err_,
        "score": found.score,
        "variance_ratio": found.share,
        "n_iter": model.n_iter_,
        "penalty": model.penalty_,
        "rms": model.rms_,
    }
    return adata if copy else None


def transform(
    adata: AnnData,
    reference: AnnData,
    *,
    align: str | None = None,
    layer: str | None = None,
    key: str = "snmf",
    copy: bool = False,
) -> AnnData | None:
    """Compute the weights of other cells for the components of `reference`.

    Genes are matched by their names. Only genes count that `factorize` used.

    Parameters
    ----------
    adata : AnnData
        The cells. Values must be made as those of `reference` were: normalised and scaled alike.
    reference : AnnData
        The cells that `factorize` was called for.
    align : {None, "order", "shared"}, default=None
        Says what to do if genes differ. None: it is an error. "order": brings genes that come in
        another order, or among others, into the order of `reference`. "shared": does so too, and
        takes genes that `adata` does not have as missing values.
    layer : str, default=None
        Selects the layer of `adata`. None is ``adata.X``.
    key : str, default="snmf"
        The name of the results in `reference`, and of those written.
    copy : bool, default=False
        Returns a changed copy, and leaves `adata` as it is.

    Returns
    -------
    adata : AnnData or None
        The copy, if `copy` is true. ``.obsm["X_snmf"]`` holds the weights, exact for the
        components.

    Raises
    ------
    TypeError
        If `adata` or `reference` is no AnnData.
    KeyError
        If `reference` has no such results.
    ValueError
        If genes differ, and `align` does not allow it; if genes are missing, and the fit had
        locality; or if X is no matrix of finite numbers.
    """
    _check(adata)
    adata = adata.copy() if copy else adata
    H, found = _results(reference, key)
    if align not in ALIGN:
        raise ValueError(f"align must be one of {ALIGN}; got {align!r}")
    intercept, scale = (
        reference.var[name].to_numpy() if name in reference.var else None
        for name in (f"{key}_intercept", f"{key}_scale")
    )
    used = reference.var[f"{key}_used"].to_numpy(dtype=bool)
    some, columns = _matched(adata.var_names, reference.var_names, used, align)
    locality = float(found["params"]["locality"])
    if locality and (lacking := used.sum() - len(some)):
        raise ValueError(
            f"adata lacks {lacking} of the {used.sum()} genes of reference. Locality needs "
            "distances, which cells with missing values do not have. Fit reference with the "
            "shared genes only, or with locality=0."
        )
    explained = exact_transform(
        Data.of(_matrix(adata, layer, columns)).sized(),
        H[:, some],
        float(found["penalty"]),
        intercept=None if intercept is None else intercept[some],
        scale=None if scale is None else scale[some],
        rms=float(found["rms"]),
        backend="auto",
        device=None,
        n_jobs=found["params"].get("n_jobs"),
        missing_values=found["params"].get("missing_values"),
        locality=locality,
    )
    adata.obsm[f"X_{key}"] = explained.W
    return adata if copy else None


def top_genes(
    adata: AnnData, n: int = 10, *, negative: bool = False, key: str = "snmf"
) -> DataFrame:
    """Return the genes with the largest positive entries of each component.

    Parameters
    ----------
    adata : AnnData
        The cells that `factorize` was called for.
    n : int, default=10
        Sets the number of genes.
    negative : bool, default=False
        Returns the genes with the most negative entries instead.
    key : str, default="snmf"
        The name of the results.

    Returns
    -------
    genes : DataFrame of shape (n, n_components)
        The names of the genes, a column for each component. They are missing (None) at the end of
        a component that has fewer such entries.
    """
    from pandas import DataFrame, RangeIndex

    H, _ = _results(adata, key)
    if not 1 <= n <= H.shape[1]:
        raise ValueError(f"n must be from 1 to the number of genes, {H.shape[1]}; got {n}")
    names = np.full((n, len(H)), None, dtype=object)
    for j, h in enumerate(H):
        found = adata.var_names[largest(h, n, -1 if negative else 1)]
        names[: len(found), j] = found
    return DataFrame(names, index=RangeIndex(1, n + 1, name="rank"), dtype=object)


def usage(adata: AnnData, groupby: str, *, key: str = "snmf") -> DataFrame:
    """Return the mean weight of each component in each group of cells.

    Parameters
    ----------
    adata : AnnData
        Cells with weights, from `factorize` or `transform`.
    groupby : str
        The column of ``adata.obs`` with the groups, such as cell types. Cells without a group are
        left out.
    key : str, default="snmf"
        The name of the results.

    Returns
    -------
    usage : DataFrame of shape (n_groups, n_components)
        The mean weights, a row for each group.
    """
    from pandas import DataFrame

    W, groups = _weights(adata, groupby, key)
    return DataFrame(W).groupby(groups.to_numpy(), observed=True).mean().rename_axis(groupby)


def plot_usage(adata: AnnData, groupby: str, *, key: str = "snmf", ax: Any = None) -> Any:
    """Plot the mean weight of each component in each group of cells.

    Parameters
    ----------
    adata : AnnData
        Cells with weights, from `factorize` or `transform`.
    groupby : str
        The column of ``adata.obs`` with the groups, such as cell types.
    key : str, default="snmf"
        The name of the results.
    ax : matplotlib Axes, default=None
        Where to plot. None makes a figure.

    Returns
    -------
    snmf.plots.UsageDisplay
    """
    from snmf.plots import UsageDisplay

    table = usage(adata, groupby, key=key)
    return UsageDisplay(table.to_numpy(), groups=table.index).plot(ax=ax)


class _Columns:
    """Some columns of a matrix on disk, whose rows are read by slices."""

    def __init__(self, X: Any, columns: np.ndarray) -> None:
        self._X, self._columns = X, columns
        self.shape, self.dtype = (X.shape[0], len(columns)), X.dtype

    def __getitem__(self, rows: slice) -> Any:
        return self._X[rows][:, self._columns]


def _check(adata: Any) -> None:
    if not all(hasattr(adata, name) for name in ("obsm", "varm", "uns", "var_names")):
        raise TypeError(f"expected an AnnData; got a {type(adata).__name__}")


def _matrix(adata: AnnData, layer: str | None, columns: np.ndarray | None) -> Any:
    """Return X or a layer, with these columns; on disk if it is there."""
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]  # newer ones count X as None
        raise ValueError(f"layer must be one of {names}, or None; got {layer!r}")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        raise ValueError("adata.X is None. Name a layer.")
    if columns is None or np.array_equal(columns, np.arange(X.shape[1])):
        return X
    return X[:, columns] if isinstance(X, np.ndarray) or issparse(X) else _Columns(X, columns)


def _mask(adata: AnnData, use_highly_variable: bool | None) -> np.ndarray | None:
    """Return which genes to use; None is all."""
    known = "highly_variable" in adata.var
    if use_highly_variable and not known:
        raise ValueError(
            "use_highly_variable=True needs adata.var['highly_variable']. Call "
            "scanpy.pp.highly_variable_genes first, or set use_highly_variable=False."
        )
    if not known or use_highly_variable is False:
        return None
    mask: np.ndarray = adata.var["highly_variable"].to_numpy(dtype=bool)
    if not mask.any():
        raise ValueError("adata.var['highly_variable'] marks no gene")
    return mask


def _results(adata: AnnData, key: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the components of shape (k, n_vars), and ``uns[key]``."""
    _check(adata)
    if key not in adata.varm or key not in adata.uns or f"{key}_used" not in adata.var:
        raise KeyError(
            f"adata lacks {key!r} in varm or uns, or '{key}_used' in var. Call "
            "snmf.anndata.factorize first, or give the key that it was called with."
        )
    return np.asarray(adata.varm[key]).T, adata.uns[key]


def _weights(adata: AnnData, groupby: str, key: str) -> tuple[np.ndarray, Any]:
    _check(adata)
    if f"X_{key}" not in adata.obsm:
        raise KeyError(f"adata.obsm has no 'X_{key}'. Call snmf.anndata.factorize first.")
    if groupby not in adata.obs:
        raise KeyError(f"adata.obs has no column {groupby!r}; it has {[*adata.obs.columns]}")
    return np.asarray(adata.obsm[f"X_{key}"]), adata.obs[groupby]


def _matched(
    ours: Any, theirs: Any, used: np.ndarray, align: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places in `theirs` of the genes to take, and their places in `ours`."""
    if align is None and len(ours) == len(theirs) and np.all(ours == theirs):
        return np.flatnonzero(used), np.flatnonzero(used)
    for whose, names in (("adata", ours), ("reference", theirs)):
        if not names.is_unique:
            raise ValueError(
                f"{whose}.var_names must be unique to match genes by name. Call "
                f"{whose}.var_names_make_unique()."
            )
    wanted = np.flatnonzero(used)
    places = ours.get_indexer(theirs[wanted])
    missing = theirs[wanted[places < 0]]
    if len(missing) and (align != "shared" or len(missing) == len(wanted)):
        advice = "" if align == "shared" else " Set align='shared' to take them as missing values."
        raise ValueError(
            f"adata lacks {len(missing)} of the {len(wanted)} genes of reference: "
            f"{', '.join(map(str, missing[:5]))}{', …' if len(missing) > 5 else ''}.{advice}"
        )
    if align is None:
        raise ValueError(
            "adata has all genes of reference, but others too, or in another order. Set "
            "align='order' to take them by name."
        )
    return wanted[places >= 0], places[places >= 0]
