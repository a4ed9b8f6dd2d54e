"""Sphinx: ``tox -e docs``."""

import os
import sys
import tomllib
import warnings
from pathlib import Path

import snmf

sys.path.insert(0, str(Path(__file__).parent))
os.environ["COLUMNS"] = "80"  # of the help of the command line

project = "snmf"
author = "the snmf developers"
version = release = snmf.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx-mathjax-offline",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "command_help",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"
add_module_names = False
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_validation_checks = {"PR01", "PR02", "PR03", "RT01", "SS02", "SS03"}
numpydoc_validation_exclude = {
    r"^sklearn\.",
    r"\.Backend\.",  # a line each
    # made by the library
    r"\.(Alignment|Consensus|ConsensusTable|Diagnostics|Factorization|Merged|Selection|Stability)"
    r"(\.of)?$",
}

plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 110)]
plot_pre_code = ""  # a block brings its own imports, as for a reader who pastes it

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "doc_module": ("snmf",),
    "backreferences_dir": "generated/backreferences",
    "download_all_examples": False,
    "show_signature": False,
    "reference_url": {"snmf": None},
    "min_reported_time": 1e6,  # the time of a busy machine says nothing
}
warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["snmf.css"]
html_title = f"snmf {release}"
html_show_sourcelink = False
with open(Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
    urls = tomllib.load(file)["project"]["urls"]
html_baseurl = urls["Documentation"]
pages = {path.stem for path in Path(__file__).parent.glob("*.rst")}
html_sidebars = {page: [] for page in pages - {"reference"}}  # no page lies below them
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,  # on one row, in a window of 1280 pixels
    "icon_links": [
        {"name": "Repository", "url": urls["Repository"], "icon": "fa-solid fa-code-branch"}
    ],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
}
