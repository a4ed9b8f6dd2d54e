"""How the house is built: who imports whom, and what a wheel, an sdist and a checkout hold."""

import ast
import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import snmf

ROOT = Path(__file__).parents[1]

# What of snmf a file may import. A new file adds its row.
MAY_IMPORT = {
    "snmf/__init__.py": {
        "snmf._estimator", "snmf._factorize", "snmf._minibatch", "snmf._model_file",
        "snmf._selection",
    },
    "snmf/__main__.py": {"snmf._command_line", "snmf._commands"},
    "snmf/_callbacks.py": {"snmf._factorize"},
    "snmf/_canonical.py": {"snmf._nnls", "snmf._rows"},
    "snmf/_checkpoint.py": {"snmf._npz", "snmf._rows", "snmf._solve", "snmf._whole"},
    "snmf/_command_line.py": {"snmf"},
    "snmf/_commands.py": {
        "snmf", "snmf._files", "snmf._model_file", "snmf._outputs", "snmf._rows", "snmf._whole",
        "snmf.plots",
    },
    "snmf/_complaints.py": {"snmf._missing"},
    "snmf/_entries.py": set(),
    "snmf/_estimator.py": {
        "snmf._callbacks", "snmf._factorize", "snmf._given", "snmf._options", "snmf._rows",
        "snmf._selection",
        "snmf._transform", "snmf.backends",
    },
    "snmf/_factorize.py": {
        "snmf._checkpoint", "snmf._complaints", "snmf._given", "snmf._options", "snmf._parts",
        "snmf._problem", "snmf._progress", "snmf._rows", "snmf._solve", "snmf._transform",
        "snmf.backends",
    },
    "snmf/_files.py": {"snmf._npz", "snmf._text", "snmf._whole"},
    "snmf/_given.py": {"snmf._options", "snmf.backends"},
    "snmf/_header.py": set(),
    "snmf/_init.py": {"snmf._svd", "snmf._threads"},
    "snmf/_local.py": {"snmf._nnls", "snmf._quadratic", "snmf._solve", "snmf._updates"},
    "snmf/_minibatch.py": {
        "snmf._complaints", "snmf._estimator", "snmf._given", "snmf._init", "snmf._options",
        "snmf._progress", "snmf._rows", "snmf._stream", "snmf.backends",
    },
    "snmf/_missing.py": {"snmf._nnls", "snmf._quadratic", "snmf._solve"},
    "snmf/_model_file.py": {
        "snmf", "snmf._estimator", "snmf._minibatch", "snmf._npz", "snmf._whole", "snmf.backends",
    },
    "snmf/_nnls.py": {"snmf._quadratic"},
    "snmf/_npz.py": set(),
    "snmf/_options.py": {"snmf._init", "snmf.backends"},
    "snmf/_outputs.py": {
        "snmf._checkpoint", "snmf._files", "snmf._model_file", "snmf._whole",
    },
    "snmf/_parts.py": {"snmf._whole"},
    "snmf/_passive.py": set(),
    "snmf/_problem.py": {
        "snmf._canonical", "snmf._init", "snmf._local", "snmf._missing", "snmf._nnls",
        "snmf._options", "snmf._rows", "snmf._solve", "snmf._wide",
    },
    "snmf/_progress.py": set(),
    "snmf/_quadratic.py": set(),
    "snmf/_rows.py": {"snmf._threads"},
    "snmf/_selection.py": {"snmf._factorize", "snmf._options", "snmf.plots"},
    "snmf/_solve.py": {"snmf._updates", "snmf._nnls", "snmf._rows"},
    "snmf/_stored.py": {"snmf._entries", "snmf._parts", "snmf._rows"},
    "snmf/_stream.py": {"snmf._init", "snmf._rows", "snmf._solve", "snmf._updates"},
    "snmf/_svd.py": set(),
    "snmf/_text.py": {"snmf._header"},
    "snmf/_threads.py": set(),
    "snmf/_transform.py": {
        "snmf._given", "snmf._local", "snmf._missing", "snmf._nnls", "snmf._parts", "snmf._rows",
        "snmf.backends",
    },
    "snmf/_updates.py": set(),
    "snmf/_whole.py": set(),
    "snmf/_wide.py": {"snmf._svd"},
    "snmf/backends.py": {"snmf._updates", "snmf._rows", "snmf._stored"},
    "snmf/plots.py": set(),
    "backends/_cupy.py": {"snmf._entries", "snmf._passive", "snmf.backends"},
    "backends/_dask.py": {"snmf._entries", "snmf._threads", "snmf._rows", "snmf.backends"},
    "backends/_jax.py": {"snmf.backends", "snmf._updates"},
    "backends/_numpy.py": {
        "snmf._entries", "snmf._passive", "snmf._stored", "snmf._threads", "snmf.backends",
    },
    "backends/_torch.py": {"snmf._threads", "snmf.backends"},
}  # fmt: skip
IMPORTS_NOTHING = {"snmf/_updates.py": {"math", "typing"}}


def modules_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "snmf":
                private = {a.name for a in node.names if (ROOT / f"snmf/{a.name}.py").exists()}
                yield from (f"snmf.{name}" for name in private)
                if len(private) < len(node.names):
                    yield "snmf"
            else:
                yield node.module


def sources():
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ("snmf", "backends")
        for path in (ROOT / folder).glob("**/*.py")
    )


def test_every_file_has_its_row():
    assert set(sources()) == set(MAY_IMPORT)


@pytest.mark.parametrize("name", sources())
def test_a_file_imports_what_its_row_allows(name):
    imported = set(modules_imported(ROOT / name))
    ours = {module for module in imported if module.split(".")[0] == "snmf"}
    assert ours <= MAY_IMPORT[name]
    if name in IMPORTS_NOTHING:
        assert imported <= IMPORTS_NOTHING[name]


def test_the_reader_of_imports_sees_every_form(tmp_path):
    file = tmp_path / "f.py"
    file.write_text("import snmf._rows\nfrom snmf import _init, SNMF\nfrom snmf.backends import x")
    assert set(modules_imported(file)) == {"snmf._rows", "snmf._init", "snmf", "snmf.backends"}


def test_public_names_are_those_that_are_there():
    for name in snmf.__all__:  # they are imported when asked for
        assert getattr(snmf, name) is vars(snmf)[name]
    assert {*snmf.__all__, "backends", "plots"} <= {*dir(snmf)}
    public = {name for name in vars(snmf) if not name.startswith("_")} - {"TYPE_CHECKING"}
    modules = {name for name in public if isinstance(getattr(snmf, name), type(sys))}
    assert public - modules == set(snmf.__all__) - {"__version__"}
    assert modules <= {"backends", "plots"}


def test_folders_that_must_not_be_packages_are_none():
    for name in ("backends/__init__.py", "tests/__init__.py", "conftest.py"):
        assert not (ROOT / name).exists()


def test_a_bare_checkout_imports(tmp_path):
    code = "import snmf, snmf.backends, snmf.backends._numpy as a; print(snmf.__file__, a.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == [str(ROOT / "snmf/__init__.py"), str(ROOT / "backends/_numpy.py")]


def test_examples_in_docstrings():
    tried = 0
    for module in pkgutil.iter_modules(snmf.__path__, "snmf."):
        results = doctest.testmod(importlib.import_module(module.name))
        assert results.failed == 0
        tried += results.attempted
    assert tried > 5
