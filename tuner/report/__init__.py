"""The tables of an analysis as terminal text and as JSON. Never imports torch, and by itself no pandas."""

from __future__ import annotations

from tuner.report.as_json import analysis_json
from tuner.report.terminal import print_analysis

__all__ = ["analysis_json", "print_analysis"]
