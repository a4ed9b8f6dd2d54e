"""
Programmes in scaled gene expression
====================================

Expression that is scaled gene by gene has values of either sign: above or below a gene's mean. A
component is then a programme, with genes up and genes down, and a cell runs each to a degree ≥ 0.

Needed beside snmf: ``pip install 'snmf[anndata]'``, and the file that scanpy's wheel brings, for
which ``pip install --no-deps scanpy`` is enough. With all of scanpy it is
``scanpy.datasets.pbmc68k_reduced()``.
"""

# %%
# 700 blood cells, 765 genes, scaled to zero mean and unit variance; 10 cell types, found by sorting
# the cells beforehand. Values are clipped at 10, as is usual after scaling: the largest numbers
# decide in least squares. Negative values stay: they say that a gene is below its mean.

from importlib.util import find_spec
from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

import snmf
import snmf.anndata
from snmf import SNMF, plots

path = Path(find_spec("scanpy").origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
adata = anndata.read_h5ad(path)
adata.X = np.clip(adata.X, None, 10)
cell_type = adata.obs["bulk_labels"]
print(adata.shape, adata.X.dtype, f"{(adata.X < 0).mean():.0%} of the entries are negative")

# %%
# Programmes
# ----------
#
# With some sparsity a cell runs few programmes. The weights of the cells go into ``obsm``, the
# programmes into ``varm``, and the rest into ``uns``.

settings = {"solver": "hals", "sparsity": 0.1, "random_state": 0}
snmf.anndata.factorize(adata, 8, use_highly_variable=False, n_init=3, **settings)
W, H = adata.obsm["X_snmf"], adata.varm["snmf"].T
print(f"{(W > 0).sum(axis=1).mean():.1f} programmes a cell")
print(f"{adata.uns['snmf']['score']:.0%} of the squares of X explained")

# %%
# The genes that are up in each programme:

snmf.anndata.top_genes(adata, 6)

# %%
# And those that are down:

snmf.anndata.top_genes(adata, 4, negative=True)

# %%
# Marker genes are back, with no labels given: *MS4A1* and *CD79A* of B cells, *NKG7* and *GNLY* of
# killer cells, *CD3D* and *CD3E* of T cells, *LST1* and *AIF1* of monocytes, *SPINK2* of
# progenitors, *MZB1* of plasma cells, *PCNA* and *MCM7* of cells that divide. Genes that are *down*
# tell as much: in T and killer cells those of antigen presentation, *CD74* and *HLA-DR*.
#
# The genes that weigh most, side by side:

plots.ComponentsDisplay(H, feature_names=adata.var_names).plot()

# %%
# Are they there again in other runs, each with nine tenths of the cells?

found = snmf.consensus(adata.X, 8, **settings)
found

# %%
# A dark square on the diagonal is a programme on which the runs agree. The last programme is not
# found by all of them.

found.plot()

# %%
# Cells
# -----
#
# The mean weights of each cell type:

snmf.anndata.plot_usage(adata, "bulk_labels")

# %%
# The weights, a line for every cell, sorted by its type.

plots.WeightsDisplay(W, labels=cell_type).plot()

# %%
# How well does the largest weight tell the types apart? (NMI: 1 is agreement, 0 is chance.) Parts
# and classes are different questions; at sparsity 0 weights are mixtures, and say little
# of classes. ``locality=2`` is made for them.

X = adata.X
settings = {
    "sparsity 0": {"sparsity": 0},
    "sparsity 0.1": {"sparsity": 0.1},
    "locality 2": {"locality": 2.0},
}
scores = {"k-means": KMeans(8, n_init=3, random_state=0).fit_predict(X)}
for name, setting in settings.items():
    fit = SNMF(8, solver="hals", tol=1e-4, n_init=3, random_state=0, **setting)
    scores[name] = fit.fit_transform(X).argmax(axis=1)
scores = {name: normalized_mutual_info_score(cell_type, found) for name, found in scores.items()}

figure, ax = plt.subplots(figsize=(6, 2), layout="constrained")
bars = ax.barh(list(scores), list(scores.values()), color="tab:blue")
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.set(xlabel="agreement with the cell type (NMI)", xlim=(0, 1))
