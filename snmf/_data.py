"""The class `Data`: the argument X, checked once, and the backend that its array belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from sklearn.utils.validation import validate_data

from snmf.backends import Backend, owner
from snmf.storage.rows import NotFiniteError, Rows, working_dtype

Array = Any

FEATURES = ("n_features_in_", "feature_names_in_")


@dataclass(frozen=True)
class Data:
    """X, checked, and the backend that owns it.

    Attributes
    ----------
    X : array, sparse matrix or `Store`
        A matrix of real numbers. NaN and infinity are found later, when its rows are read.
    owner : Backend
        The library that X is an array of, on its device.
    names : object
        An object from which scikit-learn takes the number of features and their names.
    """

    X: Array
    owner: Backend
    names: Any = None

    @classmethod
    def of(cls, X: Any) -> Data:
        """Check X, and return it as `Data`; raise ValueError or TypeError if X is no matrix.

        `Data` are returned as they are.
        """
        if isinstance(X, Data):
            return X
        source = owner(X)
        X = source.opened(X)
        return cls(source.check(X), source, source.outline(X))

    def sized(self) -> Data:
        """Return the same data with a known number of rows; lazy data are counted now."""
        return replace(self, X=self.owner.sized(self.X))

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features)."""
        n, p = self.X.shape
        return n, p

    @property
    def dtype(self) -> str:
        """The dtype of the arithmetic and of the results."""
        return working_dtype(self.X.dtype)

    def rows(self, backend: Backend) -> Rows:
        """Return the rows in blocks, for the backend that does the arithmetic."""
        return self.owner.rows(self.X, backend)

    @contextmanager
    def threaded(self, backend: Backend, n_jobs: int | None) -> Iterator[Rows]:
        """Yield the rows in blocks, on n_jobs threads."""
        with self.naming_columns(), self.rows(backend).threads(n_jobs) as rows:
            yield rows

    @contextmanager
    def naming_columns(self) -> Iterator[None]:
        """Give an error for an entry that is not finite the name of its column."""
        try:
            yield
        except NotFiniteError as error:
            names = getattr(self.names, "columns", None)
            if names is not None and isinstance(names[error.column], str):
                error.name = names[error.column]
            raise

    def features_of(self, estimator: Any) -> dict[str, Any]:
        """Return the attributes that `name_features` sets; the estimator stays as it is."""
        named = copy(estimator)
        self.name_features(named, reset=True)
        return features_of(named)

    def name_features(self, estimator: Any, reset: bool) -> None:
        """Set or check `n_features_in_` and `feature_names_in_`, as scikit-learn does."""
        validate_data(estimator, self.names, reset=reset, skip_check_array=True)


def features_of(estimator: Any) -> dict[str, Any]:
    """Return the attributes of an estimator that say what the features are."""
    return {name: value for name, value in vars(estimator).items() if name in FEATURES}
