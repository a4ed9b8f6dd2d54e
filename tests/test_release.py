"""What a release needs agrees: versions, addresses, and the Pythons that are named and tested."""

import re
import tomllib
from pathlib import Path

import snmf

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
URLS = PROJECT["urls"]
WITH_ADDRESSES = ("README.rst", "CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_addresses_agree_wherever_they_are():
    ours = {"repository": URLS["Repository"], "documentation": URLS["Documentation"]}
    assert all(url.startswith(tuple(ours.values())) for url in URLS.values())
    found = {name: re.findall(r"https://[^\s>`]+", text_of(name)) for name in WITH_ADDRESSES}
    for name, urls in found.items():
        assert urls, name
        assert all(url.startswith(tuple(ours.values())) for url in urls), name
    assert {*ours.values()} <= {*found["README.rst"]}
    assert f"{URLS['Issues']}>" in text_of("CONTRIBUTING.rst")
    for address in ours.values():  # the line that changes it
        assert f"s#{address.replace('.', chr(92) + '.')}#" in text_of("CONTRIBUTING.rst")


def test_pictures_of_the_readme_are_in_the_repository():
    pictures = re.findall(r"\.\. image:: (.+)", text_of("README.rst"))
    assert pictures
    for picture in pictures:
        path = picture.removeprefix(f"{URLS['Repository']}/raw/main/")
        assert (ROOT / path).is_file(), picture


def test_versions_agree():
    assert f"version: {snmf.__version__}\n" in text_of("CITATION.cff")
    assert f"\n{snmf.__version__}\n---" in text_of("CHANGELOG.rst")


def test_the_pythons_that_are_named_are_tested_on_three_systems():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    workflow = text_of(".github/workflows/tests.yml")
    tested = re.search(r"python: \[(.+)\]", workflow)[1]
    assert named == re.findall(r"3\.\d+", tested)
    assert f">={named[0]}" == PROJECT["requires-python"]
    for system in ("ubuntu", "macos", "windows"):
        assert f"{system}-latest" in workflow
    for environment in re.search(r"environment: \[(.+)\]", workflow)[1].split(", "):
        assert f"[testenv:{environment}]" in text_of("tox.ini"), environment


def test_publishing_needs_no_secret():
    release = text_of(".github/workflows/release.yml")
    assert "id-token: write" in release
    for word in ("secrets.", "password", "token:", "repository-url"):
        assert word not in release.replace("id-token:", ""), word
