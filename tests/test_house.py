"""How the house is built: who imports whom, and what a wheel, an sdist and a checkout hold."""

import ast
import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import snmf

ROOT = Path(__file__).parents[1]

# What of snmf the files of a folder may import, themselves included; and files with their own rule.
MAY_IMPORT = {
    "snmf/storage": {"snmf.storage"},
    "snmf/core": {"snmf.core", "snmf.storage"},
    "snmf/backends.py": {"snmf.core", "snmf.storage"},
    "backends": {"snmf.backends", "snmf.core", "snmf.storage"},
    "snmf/plots": {"snmf.plots", "snmf.storage.sparse_group"},
    "snmf": {"snmf"},
    "snmf/cli": {"snmf"},
}
EXTRAS = {
    "snmf.anndata": "anndata",
    "snmf.storage.dask_": "dask",
    "snmf.torch": "torch",
}  # which module needs what
IMPORTS_NOTHING = {"snmf/core/updates.py": {"collections.abc", "math", "typing"}}


def modules_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if file_of(inside) else node.module


def file_of(module):
    """The file of a module of ours, if it is one."""
    name = module.replace(".", "/").replace("snmf/backends/", "backends/") + ".py"
    return name if name.startswith(("snmf/", "backends/")) and (ROOT / name).exists() else None


def sources():
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ("snmf", "backends")
        for path in (ROOT / folder).glob("**/*.py")
    )


@pytest.mark.parametrize("name", sources())
def test_a_file_imports_what_its_folder_may(name):
    imported = set(modules_imported(ROOT / name))
    ours = {module for module in imported if module.split(".")[0] == "snmf"}
    allowed = MAY_IMPORT.get(name, MAY_IMPORT[name.rpartition("/")[0]])
    assert all(any(f"{module}.".startswith(f"{m}.") for m in allowed) for module in ours)
    if name in IMPORTS_NOTHING:
        assert imported <= IMPORTS_NOTHING[name]


def test_imports_go_round_in_no_circle():
    files = {
        name: {file for module in modules_imported(ROOT / name) if (file := file_of(module))}
        for name in sources()
    }
    assert files["snmf/_factorize.py"]
    order = list(TopologicalSorter(files).static_order())  # raises where there is a circle
    assert set(order) == set(files)


def test_the_reader_of_imports_sees_every_form(tmp_path):
    file = tmp_path / "f.py"
    file.write_text(
        "import snmf._factorize\nfrom snmf import _estimator, SNMF\n"
        "from snmf.backends import x, _numpy"
    )
    assert set(modules_imported(file)) == {
        "snmf._factorize", "snmf._estimator", "snmf", "snmf.backends", "snmf.backends._numpy"
    }  # fmt: skip


def test_public_names_are_those_that_are_there():
    for name in snmf.__all__:  # they are imported when asked for
        assert getattr(snmf, name) is vars(snmf)[name]
    assert {*snmf.__all__, "backends", "plots"} <= {*dir(snmf)}
    public = {name for name in vars(snmf) if not name.startswith("_")} - {"TYPE_CHECKING"}
    modules = {name for name in public if isinstance(getattr(snmf, name), type(sys))}
    assert public - modules == set(snmf.__all__) - {"__version__"}
    assert modules <= {"anndata", "backends", "plots", "cli", "core", "storage", "torch"}


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
    for module in pkgutil.walk_packages(snmf.__path__, "snmf."):
        extra = next(
            (name for start, name in EXTRAS.items() if module.name.startswith(start)), None
        )
        if extra and not find_spec(extra):
            continue
        results = doctest.testmod(importlib.import_module(module.name), globs={})  # as if pasted
        assert results.failed == 0
        tried += results.attempted
    assert tried > 5
