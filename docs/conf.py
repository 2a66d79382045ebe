"""Configuration of the documentation. Build it with ``tox -e docs``."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # the documentation imports Keras, and must not import TensorFlow
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the examples are small: threads would wait for one another
sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

import finetuner  # noqa: E402

project = "finetuner"
author = "The finetuner authors"
copyright = "The finetuner authors, Apache License 2.0"
version = release = finetuner.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "finetuner_docs",  # in _ext
]
exclude_patterns = ["_build", "_ext", "reference/generated", "gallery/*.ipynb", "gallery/*.py", "gallery/*.md5"]
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions
nitpicky = True  # a name in a docstring that leads nowhere is an error
nitpick_ignore_regex = [  # no network, so no links to the documentation of others
    (r"py:.*", r"(collections|contextlib|keras|numpy|os|paddle|pathlib|torch)\..*"),
    (r"py:class", r".*\.LossLayer"),
    (r"py:(attr|meth)", r"labels|classes|save"),  # attributes without a description of their own; summaries
]

# Markdown

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Docstrings

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autosummary_generate = False
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 96

# The gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "image_scrapers": ("finetuner_docs.saved_pictures", "matplotlib"),
    "reset_modules": (),
    "only_warn_on_example_error": False,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "min_reported_time": 1_000_000,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "capture_repr": (),
    "remove_config_comments": True,
}

# HTML

html_theme = "furo"
html_title = "finetuner"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["finetuner.css"]
html_math_renderer = "mathml"  # formulas need no script and no network
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#7db4ee", "color-brand-content": "#7db4ee"},
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
