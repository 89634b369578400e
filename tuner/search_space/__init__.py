"""YAML -> SearchSpace -> suggested values -> Recipe; conditions, constraints, derived values."""

from tuner.search_space.build import build_space
from tuner.search_space.file import Target, find_target
from tuner.search_space.space import Budget, SearchSpace

__all__ = ["Budget", "SearchSpace", "Target", "build_space", "find_target"]
