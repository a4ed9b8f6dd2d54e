"""What is shipped: built here with setuptools alone, from a copy without .git."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("snmf", "backends", "tests", "benchmarks")
FILES = ("pyproject.toml", "README.rst", "LICENSE", "tox.ini")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    code = "from setuptools.build_meta import *; build_sdist('out'); build_wheel('out')"
    (copy / "out").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    return copy / "out"


def test_the_wheel_has_one_top_level_name_and_the_adapters(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"snmf"}
    for path in [*ROOT.glob("snmf/*.py"), *ROOT.glob("backends/*.py")]:
        assert f"snmf/{path.relative_to(ROOT).as_posix().removeprefix('snmf/')}" in names
    assert "snmf/py.typed" in names
    assert "snmf/backends/_kernels.cu" in names


def test_the_sdist_builds_without_git(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.rst", "LICENSE", "snmf/core/updates.py"} <= names
    assert {"backends/_numpy.py", "backends/_kernels.cu"} <= names
