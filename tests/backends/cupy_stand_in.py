"""A CuPy for machines without a device: its rules, over NumPy, with the kernels on the host.

Arrays refuse ``__array__`` and mixing with NumPy, as CuPy's do, and a RawKernel checks its
arguments against the signature in its source before it runs, compiled by a C++ compiler: one block
after the other, each thread of a block in a thread of its own.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.sparse

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
PRELUDE = """
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>
#define __global__
#define __shared__ static
#define __align__(size) __attribute__((aligned(size)))
using std::sqrt;
struct Place { long long x; };
static Place blockIdx, blockDim;
static thread_local Place threadIdx;
static std::barrier<>* together;
static void __syncthreads() { together->arrive_and_wait(); }
template <class... P, class... A>
void launch(void (*body)(P...), long long blocks, long long threads, A... given) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        std::barrier<> all(threads);
        together = &all;
        std::vector<std::thread> block;
        for (long long number = 0; number < threads; ++number)
            block.emplace_back([=] { threadIdx.x = number; body(given...); });
        for (auto& thread : block) thread.join();
    }
}
"""
BATCHED = 256  # the largest systems that CuPy solves together
counts: Counter[str] = Counter()  # kernels that were started, and waits for what they give
SCALARS = {"real": None, "long long": "int64", "int": "int32"}
C_TYPES = {
    "float32": ctypes.c_float, "float64": ctypes.c_double, "int64": ctypes.c_longlong,
    "int32": ctypes.c_int,
}  # fmt: skip


def parameters(source, name):
    """The types of a kernel's parameters: "real*", "real", "long long" or "int"."""
    (listed,) = re.findall(rf"void {name}\(([^)]*)\)", source)
    for declared in listed.split(","):
        words = declared.replace("const", "").split()
        yield " ".join(words[:-1])


@functools.cache
def compiled(source, name):
    """The kernel as a function of (blocks, threads, *arguments) on the host."""
    types = list(parameters(source, name))
    names = [f"a{i}" for i in range(len(types))]
    declared = ", ".join(f"{t} {n}" for t, n in zip(types, names, strict=True))
    launcher = (
        f'extern "C" void launch_{name}(long long blocks, long long threads, {declared}) '
        f"{{ launch({name}, blocks, threads, {', '.join(names)}); }}"
    )
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        file.write_text(PRELUDE + source + launcher, encoding="utf-8")
        flags = ["-std=c++20", "-pthread", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
        subprocess.run([COMPILER, *flags, str(file), "-o", str(library)], check=True)
        return getattr(ctypes.CDLL(str(library)), f"launch_{name}")


class RawKernel:
    made = 0

    def __init__(self, source, name):
        RawKernel.made += 1
        self.source, self.name = source, name
        (real,) = re.findall(r"typedef (float|double) real;", source)
        self.real = {"float": "float32", "double": "float64"}[real]

    def __call__(self, grid, block, arguments):
        types = list(parameters(self.source, self.name))
        assert len(types) == len(arguments)
        given = []
        for kind, value in zip(types, arguments, strict=True):
            if kind == "real*":
                assert isinstance(value, ndarray)
                assert value.dtype == self.real
                assert value.raw.flags.c_contiguous
                given.append(ctypes.c_void_p(value.raw.ctypes.data))
            else:
                dtype = SCALARS[kind] or self.real
                assert type(value) is np.dtype(dtype).type, (kind, type(value))
                given.append(C_TYPES[dtype](value.item()))
        counts["kernels"] += 1
        function = compiled(self.source, self.name)
        function(*(ctypes.c_longlong(size) for size in (*grid, *block)), *given)


def wrap(value):
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value))
    if scipy.sparse.issparse(value):
        return csr_matrix(value)
    if isinstance(value, tuple):
        return tuple(map(wrap, value))
    return value


def unwrap(value):
    if isinstance(value, Wrapped):
        return value.raw
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, tuple | list):
        return type(value)(map(unwrap, value))
    return value


def lifted(function):
    """A function of CuPy's arrays; what is no view of its first argument, a kernel computes."""

    def call(*args, **kwargs):
        kwargs.pop("device", None)
        given = unwrap(args)
        result = function(*given, **{k: unwrap(v) for k, v in kwargs.items()})
        if isinstance(result, np.ndarray | np.generic):
            made = np.asarray(result)
            counts["kernels"] += not any(
                isinstance(A, np.ndarray) and np.may_share_memory(A, made) for A in given
            )
        return wrap(result)

    return call


class Wrapped:
    __array_ufunc__ = None

    def __init__(self, raw):
        self.raw = raw

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`.")

    def get(self):
        counts["waits"] += 1
        return self.raw.copy()

    def __getattr__(self, name):
        if name.startswith("__"):  # NumPy's protocols would let it in by the back door
            raise AttributeError(name)
        raw = object.__getattribute__(self, "raw")
        if not callable(value := getattr(raw, name)) or name == "dtype":
            return wrap(value)
        method = lifted(getattr(type(raw), name))
        return lambda *args, **kwargs: method(self, *args, **kwargs)

    def __setitem__(self, key, value):
        self.raw[unwrap(key)] = unwrap(value)

    def __reduce__(self):
        return wrap, (self.raw,)

    __float__, __bool__, __int__, __len__, __iter__ = (
        lambda self: float(self.get()), lambda self: bool(self.get()), lambda self: int(self.get()),
        lambda self: len(self.raw), lambda self: map(wrap, self.raw),
    )  # fmt: skip


OPERATORS = "add sub mul truediv pow matmul and or xor lt le gt ge eq ne neg abs invert getitem"
for name in OPERATORS.split():
    dunder = f"__{name}__"
    setattr(Wrapped, dunder, lifted(getattr(operator, dunder)))
for name in ("add", "sub", "mul", "truediv", "pow", "and", "or", "xor"):
    plain = getattr(operator, f"__{name}__")
    setattr(Wrapped, f"__r{name}__", lifted(lambda a, b, f=plain: f(b, a)))


class ndarray(Wrapped):  # noqa: N801  (CuPy's name)
    __module__ = "cupy"
    device = SimpleNamespace(id=0)

    @property
    def T(self):  # noqa: N802
        return wrap(self.raw.T)


class csr_matrix(Wrapped):  # noqa: N801
    """As CuPy's: what is computed needs to know of duplicates, and that waits for the device.

    Slices, transposes and multiples know of them what it knows.
    """

    __module__ = "cupyx.scipy.sparse"
    waits = 0

    @property
    def device(self):
        raise NotImplementedError

    def __init__(self, raw, canonical=None):
        super().__init__(scipy.sparse.csr_matrix(raw))
        self.canonical = canonical

    @property
    def has_canonical_format(self):
        if self.canonical is None:
            csr_matrix.waits += 1
            self.canonical = bool(self.raw.has_canonical_format)
        return self.canonical

    def sum_duplicates(self):
        if not self.has_canonical_format:
            self.raw.sum_duplicates()
            self.canonical = True

    @property
    def T(self):  # noqa: N802
        return csr_matrix(self.raw.T, self.canonical)

    def tocsr(self):
        return self

    def __getitem__(self, key):
        return csr_matrix(self.raw[unwrap(key)], self.canonical)

    def astype(self, dtype, copy=True):
        return csr_matrix(self.raw.astype(dtype, copy=copy), self.canonical)


def summed_up(name):
    """A method of csr_matrix that first sums its duplicates up."""

    def call(self, *args, **kwargs):
        self.sum_duplicates()
        result = lifted(getattr(self.raw, name))(*args, **kwargs)
        if isinstance(result, csr_matrix):
            result.canonical = True
        return result

    return call


for name in ("multiply", "max", "__matmul__", "__mul__"):
    setattr(csr_matrix, name, summed_up(name))


class CUDARuntimeError(RuntimeError):
    pass


def solve(a, b):
    assert a.shape[-1] <= BATCHED, "CuPy solves systems as large one by one"
    return lifted(np.linalg.solve)(a, b)


class Namespace(ModuleType):
    def __getattr__(self, name):
        value = getattr(np, name)
        if isinstance(value, ModuleType):
            return Namespace.over(value)
        return lifted(value) if callable(value) and not isinstance(value, type) else value

    @classmethod
    def over(cls, module):
        made = ModuleType(module.__name__)
        made.__getattr__ = lambda name: lifted(getattr(module, name))
        return made


def modules():
    """What stands for CuPy in sys.modules."""
    cupy = Namespace("cupy")
    cupy.ndarray, cupy.RawKernel = ndarray, RawKernel
    cupy.asarray = lambda A, dtype=None, copy=None, **_: ndarray(
        np.array(A.raw if isinstance(A, ndarray) else A, dtype=dtype, copy=copy)
    )
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1, getDevice=lambda: 0, CUDARuntimeError=CUDARuntimeError
    )
    cupy.cuda = SimpleNamespace(runtime=runtime, Device=lambda number: nullcontext())
    cupy.linalg = Namespace.over(np.linalg)
    cupy.linalg.solve = solve
    cupyx, scipy_, sparse = (ModuleType(n) for n in ("cupyx", "cupyx.scipy", "cupyx.scipy.sparse"))
    cupyx.scipy, scipy_.sparse = scipy_, sparse
    sparse.csr_matrix = csr_matrix
    sparse.issparse = lambda A: isinstance(A, csr_matrix)
    return {
        "cupy": cupy, "cupyx": cupyx, "cupyx.scipy": scipy_, "cupyx.scipy.sparse": sparse,
        "array_api_compat.cupy": cupy,
    }  # fmt: skip


def install(monkeypatch):
    """Let this stand for CuPy until the test ends."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("_cupy", "_kernels"):
        monkeypatch.delitem(sys.modules, f"snmf.backends.{name}", raising=False)
