"""Sphinx settings of the site (`make site`). The pages are plain Markdown that reads as well where it lies."""

from __future__ import annotations

import importlib.metadata
import sys
from operator import attrgetter
from pathlib import Path
from unittest.mock import MagicMock

sys.path.insert(0, str(Path(__file__).parent))  # docstrings.py

# DP-SGD's reference needs its modules imported, and nothing of TensorFlow but one base class and the backend's name.
keras = MagicMock()
keras.Model = type("Model", (), {})
keras.utils.PyDataset = type("PyDataset", (), {})
keras.backend.backend.return_value = "tensorflow"
tensorflow = MagicMock()
tensorflow.autograph.experimental.do_not_convert = lambda function: function
sys.modules |= {"keras": keras, "tensorflow": tensorflow}

# Nor do the adapters' references need the engines, but for the classes that theirs are and what decorates methods.
flwr, nvflare, ray = MagicMock(), MagicMock(), MagicMock()
flwr.serverapp.Grid = type("Grid", (), {})
nvflare.apis.dxo_filter.DXOFilter = type("DXOFilter", (), {})
nvflare.app_common.aggregators.model_aggregator.ModelAggregator = type("ModelAggregator", (), {})
for decorator in ("init", "final", "publish"):
    setattr(nvflare.collab.collab, decorator, lambda method: method)
sys.modules |= {"flwr.app": flwr.app, "flwr.common.constant": flwr.common.constant, "flwr.serverapp": flwr.serverapp}
sys.modules |= {"nvflare": nvflare, "nvflare.collab": nvflare.collab, "ray": ray}
for area, modules in {
    "apis": "dxo dxo_filter event_type fl_constant fl_context server_engine_spec shareable",
    "fuel": "f3.cellnet.defs f3.cellnet.fqcn f3.cellnet.utils f3.message f3.streaming.stream_const",
    "private": "defs",
    "app_common": "abstract.fl_model aggregators.model_aggregator app_constant app_event_type default_component_policy",
}.items():
    sys.modules |= {f"nvflare.{area}.{name}": attrgetter(f"{area}.{name}")(nvflare) for name in modules.split()}

project = "secureagg"
copyright = "The secureagg authors"
version = release = importlib.metadata.version("secureagg")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx_external_toc",  # the tree is in _toc.yml, so that pages hold no directives
    "myst_nb",
    "docstrings",
]
exclude_patterns = ["conf.py", "docstrings.py"]

html_theme = "furo"
html_title = f"secureagg {release}"
html_show_sphinx = False

myst_heading_anchors = 4

nb_execution_mode = "force"
nb_execution_timeout = 300  # a cell, kernels being compiled the first time; all of a notebook takes seconds
nb_execution_raise_on_error = True

autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_type_aliases = {"Weights": "Weights"}
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
add_module_names = False
