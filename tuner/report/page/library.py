"""The plotting library's own script, from the installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tuner.errors import TunerError


def plotting_library() -> str:
    """plotly.js as text that may stand in a `<script>`; the Python package is found, but not imported: it is slow."""
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path.read_text(encoding="utf-8").replace("</script", "<\\/script").replace("<!--", "<\\!--")
    raise TunerError("the plotting library is not installed. Install it: pip install plotly")
