"""Folders with data files, for the tests of commands."""

import h5py
import numpy as np
import pytest
import zarr
from scipy import sparse
from shell import X


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(folder):
    np.save("a.npy", X)
    np.savez("a.npz", anything=X)
    np.savez("many.npz", other=X[:3], X=X)
    sparse.save_npz("sparse.npz", sparse.csc_array(X * (X > 0)))
    with h5py.File("a.h5", "w") as file:
        file["group/X"], file["vector"] = X, X[0]
    with h5py.File("many.hdf5", "w") as file:
        file["X"], file["Y"] = X, X
    zarr.save_array("a.zarr", X)
    zarr.save_group("many.zarr", X=X, Y=X)
    np.savetxt("a.csv", X, delimiter=",", fmt="%.9g")
    np.savetxt("a.tsv", X, delimiter="\t", fmt="%.9g")
    return folder
