"""For PyTorch: `Dictionary`, a module with exact weights and their gradient.

`SafetensorsRows` reads a matrix in a safetensors file by slices of rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from snmf._data import Data
from snmf._minibatch import MiniBatchSNMF, is_stream
from snmf._transform import exact_weights
from snmf.backends import EXTRAS, owner
from snmf.core.gradient import of_exact_weights
from snmf.storage.atomic import replacing
from snmf.storage.rows import working_dtype

try:
    import torch
    from torch.autograd.function import once_differentiable
except ImportError as error:
    raise ImportError(f"snmf.torch needs PyTorch: {EXTRAS['torch']}") from error

__all__ = ["Dictionary", "SafetensorsRows"]

Tensor = Any

PENALTY = "_extra_state"  # the name that PyTorch gives it in a state_dict


class Dictionary(torch.nn.Module):  # type: ignore[misc] # mypy runs without torch
    """A dictionary of components, with exact nonnegative weights that have a gradient.

    `encode` solves one nonnegative least-squares problem per row, as `SNMF.transform` does. Its
    gradient with respect to the rows, the dictionary and the intercept is exact too.

    Parameters
    ----------
    source : estimator or array of shape (n_components, n_features)
        Gives the dictionary. A fitted estimator such as `SNMF` or `MiniBatchSNMF` also gives the
        intercept and the penalty. An estimator that is not fitted gives the parameters of `fit`.
    intercept : array of shape (n_features,), default=None
        Sets the intercept that `decode` adds, if `source` is an array.
    penalty : float, default=0.0
        Sets λ, in units of x, if `source` is an array. A larger one makes more weights zero.

    Attributes
    ----------
    dictionary : torch.nn.Parameter of shape (n_components, n_features) or None
        The components H. None until there are some.
    intercept : torch.nn.Parameter of shape (n_features,) or None
        The intercept, if the model has one.
    penalty : float
        The λ of `encode`.
    estimator : estimator or None
        The estimator that the dictionary comes from, or that `fit` will use.

    Raises
    ------
    ValueError
        If the array or the intercept has the wrong shape, the penalty is not a finite number from
        0, or the model has a locality penalty or a scale.

    Examples
    --------
    >>> import torch
    >>> from snmf import MiniBatchSNMF
    >>> from snmf.torch import Dictionary
    >>> activations = torch.randn(8, 50, 32, generator=torch.manual_seed(0))
    >>> concepts = Dictionary(MiniBatchSNMF(4, random_state=0)).fit(activations)
    >>> weights, reconstruction = concepts(activations)
    >>> weights.shape, reconstruction.shape
    (torch.Size([8, 50, 4]), torch.Size([8, 50, 32]))
    """

    dictionary: Any
    intercept: Any

    def __init__(self, source: Any, *, intercept: Any = None, penalty: float = 0.0) -> None:
        super().__init__()
        self.register_parameter("dictionary", None)
        self.register_parameter("intercept", None)
        self.penalty = 0.0
        self.estimator = source if hasattr(source, "fit") else None
        model = self.estimator is not None or hasattr(source, "components_")
        if model and (intercept is not None or penalty):
            raise ValueError(
                "intercept and penalty go with an array; got them with an estimator, which has "
                "its own. Leave them out, or pass its components_ in its place."
            )
        if hasattr(source, "levels_"):
            raise ValueError(
                "a hierarchy has several dictionaries. Give one of its levels, such as "
                "Dictionary(model.levels_[0])."
            )
        if hasattr(source, "combination_") and not hasattr(source, "components_"):
            raise ValueError(
                "a model with a kernel has no components in the space of x. Call its transform."
            )
        if hasattr(source, "components_"):
            self._take(source)
        elif not model:
            self._set(source, intercept, penalty)

    def _take(self, model: Any) -> None:
        """Set the dictionary, the intercept and the penalty to those of a fitted estimator."""
        if getattr(model, "locality", 0):
            raise ValueError(
                f"locality must be 0 for a Dictionary; got {model.locality!r}. Fit the model "
                "without locality, or call its transform."
            )
        if getattr(model, "scale_", None) is not None:
            raise ValueError(
                "scale must be False for a Dictionary, which takes x as it is. Divide x by the "
                "scale before the fit and before encode."
            )
        intercept = getattr(model, "intercept_", None)
        self._set(model.components_, intercept, getattr(model, "penalty_", 0.0))

    def _set(self, components: Any, intercept: Any, penalty: float) -> None:
        H, m = _tensor(components), None if intercept is None else _tensor(intercept)
        if H.ndim != 2 or not H.numel():
            raise ValueError(
                "the dictionary must have the shape (n_components, n_features); got "
                f"{tuple(H.shape)}. Give a row for every component."
            )
        if m is not None and m.shape != H.shape[1:]:
            raise ValueError(
                f"intercept must have the shape ({H.shape[1]},), a number for every feature; got "
                f"{tuple(m.shape)}"
            )
        if not 0 <= penalty < math.inf:
            raise ValueError(f"penalty must be a finite number from 0; got {penalty!r}")
        if (before := self.dictionary) is not None:  # stay on its device, in its precision
            H, m = H.to(before), None if m is None else m.to(before)
        self.dictionary = torch.nn.Parameter(H)
        self.intercept = None if m is None else torch.nn.Parameter(m)
        self.penalty = float(penalty)

    def fit(self, x: Any) -> Dictionary:
        """Learn the dictionary from x, and forget what was learned before.

        This fits a clone of `estimator`. If the dictionary was made from an array, it fits a
        `MiniBatchSNMF` with as many components and with default parameters.

        Parameters
        ----------
        x : tensor of shape (..., n_features), or iterable of such
            The data. Batches from an iterable, such as a DataLoader, need a `MiniBatchSNMF`. They
            are read once and in their order. If a batch is a list or a tuple, as of data with
            labels, its first item counts.

        Returns
        -------
        self : Dictionary
            The fitted module. Its parameters are new, so make an optimizer afterwards.

        Raises
        ------
        TypeError
            If x gives batches, and the estimator reads all rows at once.
        ValueError
            If x or a parameter of the estimator is invalid. The module is then unchanged.
        """
        if self.estimator is None:
            model: Any = MiniBatchSNMF(len(self.dictionary))
        else:
            model = clone(self.estimator)
        if is_stream(x):
            if not hasattr(model, "partial_fit"):
                raise TypeError(
                    f"x must be a tensor for {type(model).__name__}, which reads all rows at "
                    "once; got batches. Make the Dictionary from a MiniBatchSNMF."
                )
            x = _batches(x)
        elif isinstance(x, torch.Tensor):
            x = _matrix(x.detach())
        model.fit(x)
        self._take(model)
        self.estimator = model
        return self

    def get_dictionary(self) -> Tensor:
        """Return the dictionary.

        Returns
        -------
        dictionary : torch.nn.Parameter of shape (n_components, n_features)
            The components.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there are no components yet.
        """
        if self.dictionary is None:
            raise NotFittedError("This Dictionary is not fitted yet. Call fit with some data.")
        return self.dictionary

    def encode(self, x: Tensor) -> Tensor:
        """Compute the exact weights of x.

        The gradient is exact where weights above zero stay above zero and the others stay zero,
        which is everywhere but on a set of measure zero. The gradient itself cannot be
        differentiated.

        Parameters
        ----------
        x : tensor of shape (..., n_features)
            The data. float16 and bfloat16 are computed as float32.

        Returns
        -------
        weights : tensor of shape (..., n_components)
            The minimiser of ``½‖x − w H‖² + λ Σ w`` over ``w ≥ 0``, for x less the intercept if
            there is one. It has the dtype and the device of x. On the device "meta", which has no
            numbers, only shape and dtype mean something.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there are no components yet.
        TypeError, ValueError
            If x is no tensor of floats, has NaN or infinity, another number of features, or is on
            another device than the dictionary.
        """
        H, m = self.get_dictionary(), self.intercept
        _check(x, "x", H, "features", H.shape[1])
        X = _wide(_matrix(x))
        if not H.is_meta and not bool(torch.isfinite(H).all()):
            raise ValueError("the dictionary must be finite; it has NaN or infinity")
        if len(X) and not H.is_meta:
            W = _ExactWeights.apply(X, _wide(H), None if m is None else _wide(m), self.penalty)
        else:
            W = X @ H.T.to(X)
        return W.reshape(*x.shape[:-1], len(H)).to(x.dtype)

    def decode(self, weights: Tensor) -> Tensor:
        """Reconstruct x from weights: return ``w H``, plus the intercept if there is one.

        Parameters
        ----------
        weights : tensor of shape (..., n_components)
            The weights.

        Returns
        -------
        reconstruction : tensor of shape (..., n_features)
            The sum of the components, each times its weight, in the dtype of the weights.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there are no components yet.
        TypeError, ValueError
            If weights is no tensor of floats, has another number of components, or is on another
            device than the dictionary.
        """
        H = self.get_dictionary()
        _check(weights, "weights", H, "components", len(H))
        W = _wide(weights)
        x = W @ H.to(W.dtype)
        if self.intercept is not None:
            x = x + self.intercept.to(W.dtype)
        return x.to(weights.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of x, and the reconstruction from them.

        Parameters
        ----------
        x : tensor of shape (..., n_features)
            The data.

        Returns
        -------
        weights : tensor of shape (..., n_components)
            ``encode(x)``.
        reconstruction : tensor of shape (..., n_features)
            ``decode(weights)``.
        """
        weights = self.encode(x)
        return weights, self.decode(weights)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the ``state_dict`` in a safetensors file.

        Parameters
        ----------
        path : path-like
            The file. A file of that name is replaced once the new one is complete.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there are no components yet.
        ImportError
            If safetensors is not installed.
        OSError
            If the file cannot be written.
        """
        self.get_dictionary()
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        with replacing(path) as new:
            _safetensors("safetensors.torch").save_file(state, new)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dictionary:
        """Load a dictionary that `save` has written.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        dictionary : Dictionary
            The dictionary, on the CPU.

        Raises
        ------
        ImportError
            If safetensors is not installed.
        OSError
            If the file cannot be read.
        ValueError
            If the file is damaged, or has other tensors.
        """
        with _naming(path):
            state = _safetensors("safetensors.torch").load_file(path)
        if not {"dictionary", PENALTY} <= {*state} <= {"dictionary", "intercept", PENALTY}:
            raise ValueError(
                f"{os.fspath(path)}: expected a file that Dictionary.save has written; got the "
                f"tensors {sorted(state)[:10]}"
            )
        penalty = float(state[PENALTY])
        return cls(state["dictionary"], intercept=state.get("intercept"), penalty=penalty)

    def get_extra_state(self) -> Tensor:
        """Return the penalty, for `state_dict`: as a number in float64, whatever `half` does."""
        return torch.tensor(self.penalty, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Set the penalty, for `load_state_dict`."""
        self.penalty = float(state)

    def extra_repr(self) -> str:
        """Return the shape and the penalty, for `repr`."""
        if self.dictionary is None:
            return "not fitted"
        k, p = self.dictionary.shape
        return f"n_components={k}, n_features={p}, penalty={self.penalty:.3g}"


class _ExactWeights(torch.autograd.Function):  # type: ignore[misc] # as above
    """The exact weights of the rows of X, and their gradient.

    NumPy computes for tensors on the CPU, since it does so on several threads.
    """

    @staticmethod
    def forward(ctx: Any, X: Tensor, H: Tensor, m: Tensor | None, penalty: float) -> Tensor:
        W = exact_weights(
            Data.of(_there(X)), _host(H), penalty=penalty, intercept=m if m is None else _host(m),
            backend="auto", device=None, n_jobs=None, missing_values=None, locality=0.0, rms=0.0,
            out=None,
        )  # fmt: skip
        W = _beside(X, W)
        ctx.save_for_backward(X, H, m, W)
        return W

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator] # as above
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        X, H, m, W = ctx.saved_tensors
        data = Data.of(_there(X))
        ops = data.owner
        with ops.active(), data.threaded(ops, None) as rows:
            of_X, of_H, of_m = of_exact_weights(
                rows, _host(H), _there(W), _there(G), m if m is None else _host(m)
            )
            joined = _beside(X, rows.join(of_X))
        of_intercept = None if m is None else _beside(m, of_m).to(m)
        return joined, _beside(H, of_H).to(H), of_intercept, None


def _there(A: Tensor) -> Any:
    """Return the tensor for the backend of its device: as a NumPy array if that is the CPU."""
    A = A.detach()
    return A.numpy() if A.device.type == "cpu" else A


def _beside(A: Tensor, found: Any) -> Tensor:
    """Return an array as a tensor on the device of A, whatever PyTorch's default device is."""
    return torch.as_tensor(found, device=A.device)


def _host(A: Tensor) -> np.ndarray:
    there: np.ndarray = A.detach().cpu().numpy()
    return there


def _tensor(A: Any) -> Tensor:
    """Return a copy of an array of any library as a contiguous tensor of floats."""
    if not isinstance(A, torch.Tensor):
        A = torch.from_numpy(np.array(owner(A).to_host(A), order="C"))
    A = A if A.is_floating_point() else A.to(torch.get_default_dtype())
    return A.detach().clone(memory_format=torch.contiguous_format)


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]) if x.ndim else x


def _wide(A: Tensor) -> Tensor:
    """Return the tensor in the dtype that it is computed in."""
    return A.to(getattr(torch, working_dtype(A.dtype)))


def _check(x: Any, name: str, H: Tensor, what: str, count: int) -> None:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        found = str(x.dtype) if isinstance(x, torch.Tensor) else type(x).__qualname__
        raise TypeError(
            f"{name} must be a tensor of floats; got {found}. Convert it, such as by {name}.float()"
        )
    if not x.ndim or x.shape[-1] != count:
        raise ValueError(
            f"{name} must have {count} {what} in its last dimension; got the shape {tuple(x.shape)}"
        )
    if x.device != H.device:
        raise ValueError(
            f"{name} must be on the device of the dictionary, {H.device}; got {x.device}. Move "
            f"the dictionary there: dictionary.to({str(x.device)!r})"
        )


def _batches(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        x = batch[0] if isinstance(batch, list | tuple) else batch
        yield _matrix(x.detach()) if isinstance(x, torch.Tensor) else x


class SafetensorsRows:
    """A matrix in a safetensors file, read by slices of rows: an X that need not fit in memory.

    Parameters
    ----------
    path : path-like
        The file.
    name : str
        The name of the tensor, of shape (n_samples, n_features). float16 and bfloat16 are read as
        float32.

    Attributes
    ----------
    shape : tuple of int
        The shape of the tensor.
    dtype : numpy.dtype
        The dtype of the rows that come: float32 or float64.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.
    ValueError
        If the file is damaged, or has no tensor of this name.

    Examples
    --------
    >>> SNMF(20).fit(SafetensorsRows("layer.safetensors", "activations"))  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        with _naming(path):
            file = _safetensors("safetensors").safe_open(path, framework="pt")
            self._rows = file.get_slice(name)
        self.shape = tuple(self._rows.get_shape())
        self.dtype = np.dtype(working_dtype(self._rows[0:0].dtype))

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return some rows as a NumPy array."""
        block: np.ndarray = _wide(self._rows[rows]).numpy()
        return block


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise errors of safetensors as a ValueError that names the file."""
    try:
        yield
    except _safetensors("safetensors").SafetensorError as error:
        raise ValueError(
            f"{os.fspath(path)}: expected a safetensors file with that tensor; {error}"
        ) from error


def _safetensors(name: str) -> Any:
    """Return the module of this name."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError("This needs safetensors: pip install safetensors") from error
