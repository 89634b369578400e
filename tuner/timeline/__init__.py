"""Timelines: numeric hyperparameters that follow keyframes over training steps, from CSV or YAML."""

from tuner.timeline.csv_file import read_csv, to_csv
from tuner.timeline.curve import INTERPOLATIONS, SPACES, Curve
from tuner.timeline.parse import parse_timeline
from tuner.timeline.timeline import Timeline

__all__ = ["INTERPOLATIONS", "SPACES", "Curve", "Timeline", "parse_timeline", "read_csv", "to_csv"]
