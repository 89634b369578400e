"""YAML -> SearchSpace -> suggested values -> Recipe; conditions, constraints, derived values."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.search_space.build import build_space
    from tuner.search_space.file import Target, find_target
    from tuner.search_space.space import Budget, SearchSpace

__all__ = ["Budget", "SearchSpace", "Target", "build_space", "find_target"]

_MODULES = {"Budget": "space", "SearchSpace": "space", "Target": "file", "build_space": "build", "find_target": "file"}


def __getattr__(name: str) -> Any:
    """Import a name's module when it is asked for: reports need `parameter` alone, a fifth of the time."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
