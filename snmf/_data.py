"""X as the caller gave it, recognised once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sklearn.utils.validation import validate_data

from snmf.backends import Backend, owner
from snmf.storage.rows import Rows, working_dtype

Array = Any


@dataclass(frozen=True)
class Data:
    """X, checked, and the backend that owns it.

    Attributes
    ----------
    X : array, sparse matrix or `Store`
        A matrix of real numbers. Whether they are finite is seen when its rows are read.
    owner : Backend
        The library that X is an array of, on its device.
    names : object
        What tells scikit-learn the number of features and their names.
    """

    X: Array
    owner: Backend
    names: Any = None

    @classmethod
    def of(cls, X: Any) -> Data:
        """X, checked by its owner; raises ValueError or TypeError if it is no such matrix."""
        source = owner(X)
        return cls(source.check(X), source, source.outline(X))

    def sized(self) -> Data:
        """The same with a known number of rows, which lazy data are asked for here."""
        return replace(self, X=self.owner.sized(self.X))

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features)."""
        return self.X.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> str:
        """The dtype that the arithmetic is done in, and that results have."""
        return working_dtype(self.X.dtype)

    def rows(self, backend: Backend) -> Rows:
        """The rows, in blocks for the backend that does the arithmetic."""
        return self.owner.rows(self.X, backend)

    def name_features(self, estimator: Any, reset: bool) -> None:
        """Set or check `n_features_in_` and `feature_names_in_`, as scikit-learn does."""
        validate_data(estimator, self.names, reset=reset, skip_check_array=True)
