"""`snmf.torch`: exact weights in a module, their gradient, files, and what fits it."""

import copy
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.exceptions import NotFittedError

from snmf import SNMF, ConvexNMF, HierarchicalSNMF, MiniBatchSNMF, factorize

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tox -e backends has it")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import snmf.torch as _torch  # noqa: E402
from snmf.torch import Dictionary  # noqa: E402

QUIET = {"progress_bar": False, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def planted(n=240, p=12, k=4, seed=0):
    rng = np.random.default_rng(seed)
    W, H = rng.random((n, k)), rng.standard_normal((k, p))
    return torch.from_numpy(W @ H + 0.5 * rng.standard_normal((n, p)) + 1), H


X, H = planted()
MODELS = {
    "SNMF": SNMF(4, **QUIET),
    "no penalty": SNMF(4, sparsity=0, **QUIET),
    "intercept": SNMF(4, sparsity=0.1, fit_intercept=True, **QUIET),
    "mini-batches": MiniBatchSNMF(4, batch_size=60, **QUIET),
}


def dictionary(dtype=torch.float64, penalty=0.2, shifted=True):
    """One from arrays, with components of any norm."""
    source = H * np.array([0.5, 1, 2, 3])[:, None]
    m = np.ones(12) if shifted else None
    return Dictionary(source, intercept=m, penalty=penalty).to(dtype)


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# Weights


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_those_of_transform(name, dtype):
    data = X.to(dtype)
    model = MODELS[name].fit(data.numpy())
    ours = Dictionary(model)
    assert (ours.intercept is None) == (name != "intercept")
    weights, reconstruction = ours(data)
    same(weights.detach(), torch.from_numpy(model.transform(data.numpy())))
    expected = torch.from_numpy(model.inverse_transform(weights.detach().numpy()))
    torch.testing.assert_close(reconstruction.detach(), expected)
    for shape in ((4, 3, 20), (240,), (1, 240)):
        folded = data.reshape(*shape, 12)
        same(ours.encode(folded), weights.reshape(*shape, 4))
        same(ours(folded)[1], reconstruction.reshape(*shape, 12))
    torch.testing.assert_close(ours.encode(data[3]), weights[3])
    assert ours.encode(data[:0].reshape(2, 0, 12)).shape == (2, 0, 4)


@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_weights_of_an_array_are_the_minimisers(penalty):
    ours = dictionary(penalty=penalty, shifted=False)
    H = ours.dictionary.detach().numpy()
    W = ours.encode(X).detach().numpy()
    slope = (W @ H - X.numpy()) @ H.T + penalty
    assert 0.3 < np.mean(W > 0) < 0.9
    assert np.abs(slope[W > 0]).max() < 1e-11
    assert slope[W == 0].min() > -1e-11
    if not penalty:
        np.testing.assert_allclose(W[:9], [nnls(H.T, x)[0] for x in X[:9].numpy()], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_as_float32(dtype):
    x, full = X[:50].to(dtype), dictionary(torch.float32)
    ours = full.encode(x)
    assert ours.dtype == dtype
    same(ours, full.encode(x.float()).to(dtype))
    half = copy.deepcopy(full).to(dtype)
    assert half.dictionary.dtype == dtype
    assert half.penalty == 0.2
    wide = copy.deepcopy(half).float()
    same(half.encode(X.float()), wide.encode(X.float()))
    same(half.decode(ours), wide.decode(ours.float()).to(dtype))
    for module in (half, wide):
        module.encode(X.float()).square().sum().backward()
    same(half.dictionary.grad, wide.dictionary.grad.to(dtype))
    x.requires_grad_()
    full.encode(x).sum().backward()
    assert x.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(full.encode(X.float()), dictionary(torch.float32).encode(X.float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("estimator", [SNMF, MiniBatchSNMF])
def test_estimators_take_half_precision_as_float32(estimator, dtype):
    x = X.to(dtype)
    ours, theirs = (estimator(3, max_iter=5, **QUIET).fit(data) for data in (x, x.float()))
    assert ours.components_.dtype == torch.float32
    same(ours.components_, theirs.components_)
    same(ours.transform(x), theirs.transform(x.float()))
    found = factorize(x, 3, max_iter=5, **QUIET)
    same(found.W, factorize(x.float(), 3, max_iter=5, **QUIET).W)


# The gradient


@pytest.mark.parametrize(("penalty", "shifted"), [(0.0, False), (0.2, False), (0.3, True)])
def test_the_gradient_is_that_of_finite_differences(penalty, shifted):
    ours = dictionary(penalty=penalty, shifted=shifted)
    names = ["dictionary", "intercept"] if shifted else ["dictionary"]
    assert 0.2 < (ours.encode(X[:4]) > 0).double().mean() < 1

    def outputs(x, *tensors):
        return torch.func.functional_call(ours, dict(zip(names, tensors, strict=True)), x)

    x = X[:4].reshape(2, 2, 12).clone().requires_grad_()
    assert torch.autograd.gradcheck(outputs, (x, *(getattr(ours, name) for name in names)))


def test_on_a_device_it_is_the_same(monkeypatch):
    """As on a GPU: the tensors stay tensors, and torch computes in float64."""
    from snmf.backends._torch import Adapter

    def found():
        ours, x = dictionary(), X[:30].clone().requires_grad_()
        weights = ours.encode(x)
        weights.square().sum().backward()
        return [weights, x.grad, ours.dictionary.grad, ours.intercept.grad]

    theirs = found()
    monkeypatch.setattr(Adapter, "precise", property(lambda self: self))
    monkeypatch.setattr(_torch, "_there", torch.Tensor.detach)
    for one, other in zip(found(), theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_on_a_real_device_it_is_the_same(dtype):
    def found(device):
        ours, x = dictionary(dtype).to(device), X[:30].to(device, dtype).requires_grad_()
        weights, reconstruction = ours(x)
        assert weights.device == x.device
        assert weights.dtype == reconstruction.dtype == dtype
        (weights.square().sum() + reconstruction.sum()).backward()
        return [weights, reconstruction, x.grad, ours.dictionary.grad, ours.intercept.grad]

    for one, other in zip(found("cuda"), found("cpu"), strict=True):
        torch.testing.assert_close(one.cpu(), other)
    fitted = Dictionary(MiniBatchSNMF(4, **QUIET)).fit(X.to("cuda", dtype))
    assert fitted.dictionary.device.type == "cuda"
    with pytest.raises(ValueError, match="the device of the dictionary"):
        fitted.encode(X)


def test_only_what_asks_for_a_gradient_gets_one():
    ours = dictionary().requires_grad_(False)
    assert not ours.encode(X).requires_grad
    x = X[:5].clone().requires_grad_()
    ours.encode(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert ours.dictionary.grad is None
    with torch.no_grad():
        assert not dictionary().encode(X).requires_grad
    none = dictionary()
    none.encode(X[:0]).sum().backward()
    assert not none.dictionary.grad.any()
    (slope,) = torch.autograd.grad(ours.encode(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_dictionary_learns_through_a_head():
    """The head is fixed, and the dictionary alone makes its answers better."""
    torch.manual_seed(0)
    target = X[:, :1] > X[:, :1].median()
    ours, head = Dictionary(MODELS["SNMF"].fit(X.float())), torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.02)
    before, losses = ours.dictionary.detach().clone(), []
    for _ in range(30):
        optimizer.zero_grad()
        scores = head(ours.encode(X.float()))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, target.float())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert not torch.equal(ours.dictionary, before)


# Fit


def test_fit_takes_a_tensor_of_any_dimensions_and_batches():
    whole = Dictionary(MiniBatchSNMF(4, **QUIET))
    with pytest.raises(NotFittedError, match="Call fit"):
        whole.encode(X)
    assert whole.fit(X.float().reshape(4, 60, 12)) is whole
    expected = MiniBatchSNMF(4, **QUIET).fit(X.float())
    same(whole.get_dictionary().detach(), expected.components_)
    assert whole.penalty == expected.penalty_ == whole.estimator.penalty_
    streamed = MiniBatchSNMF(4, **QUIET).fit(DataLoader(X, batch_size=60))
    data = TensorDataset(X.reshape(20, 12, 12), torch.arange(20))  # with labels
    for batches in (DataLoader(X, 60), DataLoader(data, 5), iter(X.split(60))):
        ours = Dictionary(MiniBatchSNMF(4, **QUIET)).fit(batches)
        same(ours.dictionary.detach(), streamed.components_)


def test_fit_keeps_the_precision_and_starts_anew():
    ours = Dictionary(np.eye(3, 12)).double()
    ours.fit(X.float())
    assert ours.dictionary.shape == (3, 12)
    assert ours.dictionary.dtype == torch.float64
    ours = Dictionary(SNMF(3, fit_intercept=True, **QUIET)).fit(X)
    again = ours.fit(2 * X).dictionary
    same(again, Dictionary(SNMF(3, fit_intercept=True, **QUIET)).fit(2 * X).dictionary)


def test_a_fit_that_fails_leaves_it_as_it_was():
    ours = Dictionary(SNMF(3, **QUIET)).fit(X)
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(TypeError, match=r"tensor for SNMF, .* got batches\. Make .* MiniBatchSNMF"):
        ours.fit(DataLoader(X, 60))
    with pytest.raises(ValueError, match="NaN"):
        ours.fit(X * torch.nan)
    torch.testing.assert_close(ours.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(TypeError, match=r"must be an array; got .*DataLoader\. MiniBatchSNMF"):
        SNMF(3).fit(DataLoader(X, 60))


# Files


def test_a_state_dict_holds_everything():
    ours, blank = dictionary(torch.float32), Dictionary(np.zeros((4, 12)), intercept=np.zeros(12))
    blank.float().load_state_dict(ours.state_dict())
    assert blank.penalty == 0.2
    same(blank.encode(X.float()), ours.encode(X.float()))


@pytest.mark.parametrize("shifted", [False, True])
def test_safetensors_hold_everything(shifted, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    ours, file = dictionary(torch.bfloat16, shifted=shifted), tmp_path / "concepts.safetensors"
    ours.save(file)
    again = Dictionary.load(file)
    torch.testing.assert_close(again.state_dict(), ours.state_dict(), rtol=0, atol=0)
    same(again.encode(X), ours.encode(X))
    safetensors.save_file({"weight": X}, file)
    with pytest.raises(
        ValueError, match=r"Dictionary.save has written; got the tensors \['weight'\]"
    ):
        Dictionary.load(file)
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"concepts.safetensors: expected a safetensors file"):
        Dictionary.load(file)
    with pytest.raises(NotFittedError):
        Dictionary(SNMF(3)).save(file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_of_safetensors_are_read_as_they_are_needed(dtype, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    x = X.to(dtype)
    safetensors.save_file({"activations": x}, tmp_path / "layer.safetensors")
    rows = _torch.SafetensorsRows(tmp_path / "layer.safetensors", "activations")
    wide = x if dtype == torch.float64 else x.float()
    assert rows.shape == (240, 12)
    with pytest.raises(
        ValueError, match=r"layer.safetensors: expected .* does not contain .*other"
    ):
        _torch.SafetensorsRows(tmp_path / "layer.safetensors", "other")
    assert rows[3:5].dtype == rows.dtype == wide.numpy().dtype
    np.testing.assert_array_equal(rows[3:5], wide[3:5])
    ours, theirs = (factorize(data, 3, max_iter=5, **QUIET) for data in (rows, wide.numpy()))
    np.testing.assert_allclose(ours.H, theirs.H, atol=1e-5)
    np.testing.assert_allclose(ours.W, theirs.W, atol=1e-4)


# Without numbers, and beside another default device


@pytest.mark.parametrize("shifted", [True, False])
def test_shapes_and_dtypes_without_numbers(shifted):
    module = dictionary(shifted=shifted).to("meta")
    state = module.state_dict()
    assert {*state} == {"dictionary", "_extra_state", *(["intercept"] if shifted else [])}
    assert all(state[name].is_meta for name in {*state} - {"_extra_state"})
    assert float(state["_extra_state"]) == 0.2
    assert "n_components=4, n_features=12, penalty=0.2" in repr(module)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = torch.empty(2, 5, 12, dtype=dtype, device="meta")
        weights, again = module.to(dtype)(x)
        found = [(A.shape, A.dtype, A.device.type) for A in (weights, again)]
        assert found == [((2, 5, 4), dtype, "meta"), ((2, 5, 12), dtype, "meta")]
        assert module.encode(x[:0]).shape == (0, 5, 4)
        weights.sum().backward()
        assert module.dictionary.grad.shape == (4, 12)
        module.zero_grad()


def test_numbers_that_are_loaded_later_are_those_that_were_saved():
    saved = dictionary()
    with torch.device("meta"):
        module = Dictionary(torch.empty(4, 12), intercept=torch.empty(12))
    assert module.dictionary.is_meta
    module.load_state_dict(saved.state_dict(), assign=True)
    same(module.encode(X), saved.encode(X))


def test_a_fit_needs_numbers():
    for source in (SNMF(2, **QUIET), MiniBatchSNMF(2, **QUIET)):
        with pytest.raises(ValueError, match="'meta' holds shapes, and no numbers"):
            Dictionary(source).fit(X.to("meta"))
    with pytest.raises(ValueError, match="must be on the device of the dictionary, meta; got cpu"):
        dictionary().to("meta").encode(X)


def test_the_default_device_does_not_count():
    module, x = dictionary(), X[:5].clone().requires_grad_()
    tensors = module.dictionary, module.intercept, x
    weights = module.encode(x)
    gradients = torch.autograd.grad(weights.sum(), tensors)
    with torch.device("meta"):  # as another device would, and any number on it is lost
        again = module.encode(x)
        found = torch.autograd.grad(again.sum(), tensors)
        state = module.state_dict()
        assert Dictionary(MiniBatchSNMF(4, **QUIET)).fit(X).encode(X).device.type == "cpu"
    same(again, weights)
    assert float(state["_extra_state"]) == module.penalty
    for ours, theirs in zip(found, gradients, strict=True):
        same(ours, theirs)


# What is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dictionary(np.ones(3)), r"\(n_components, n_features\); got \(3,\)"),
        (lambda: Dictionary(np.eye(3), intercept=np.ones(2)), r"\(3,\), .* got \(2,\)"),
        (lambda: Dictionary(np.eye(3), penalty=-1), "penalty must be .* got -1"),
        (lambda: Dictionary(SNMF(3), penalty=1.0), "go with an array; got them with an estimator"),
        (lambda: Dictionary(SNMF(3, locality=0.1, **QUIET).fit(X)), "locality must be 0"),
        (lambda: Dictionary(SNMF(3, scale=True, **QUIET).fit(X)), "scale must be False"),
        (lambda: Dictionary(HierarchicalSNMF((3, 2), SNMF(**QUIET)).fit(X)), "one of its levels"),
        (lambda: Dictionary(ConvexNMF(3, kernel="rbf", **QUIET).fit(X.numpy())), "with a kernel"),
    ],
)
def test_a_source_that_does_not_fit(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (X.numpy(), TypeError, "tensor of floats; got ndarray"),
        (X.int(), TypeError, r"tensor of floats; got torch.int32\. .* x.float\(\)"),
        (X[:, :5], ValueError, r"12 features in its last dimension; got the shape \(240, 5\)"),
        (X[0, 0], ValueError, r"12 features in its last dimension; got the shape \(\)"),
        (X * torch.nan, ValueError, "NaN in row 0, column 0"),
        (
            X.to("meta"),
            ValueError,
            r"the device of the dictionary, cpu; got meta\. Move .*to\('meta'\)",
        ),
    ],
)
def test_an_x_that_does_not_fit(x, error, words):
    with pytest.raises(error, match=words):
        dictionary().encode(x)


def test_other_refusals():
    with pytest.raises(ValueError, match="4 components in its last dimension"):
        dictionary().decode(X)
    lost = dictionary()
    lost.dictionary.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the dictionary must be finite"):
        lost.encode(X)


def test_repr_says_what_it_is():
    assert "n_components=4, n_features=12, penalty=0.2" in repr(dictionary())
    assert "not fitted" in repr(Dictionary(SNMF(3)))


def test_torch_is_imported_when_it_is_asked_for():
    code = """
import sys
from snmf import SNMF, MiniBatchSNMF, factorize
assert "torch" not in sys.modules
sys.modules["torch"] = None  # as if it were not installed
try:
    import snmf.torch
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "snmf.torch needs PyTorch: pip install 'snmf[torch]'\n"
