"""A stored space is the one that was stored: same description, same recipes, without reading its file."""

from __future__ import annotations

import json

import pytest

from tuner.resolve import resolve
from tuner.search_space import build_space, find_target
from tuner.search_space.file import bundled_folder, spaces_in
from tuner.search_space.stored import stored_space
from tuner.tasks import load_task

MODES = [(name, mode) for name in spaces_in(bundled_folder()) for mode in find_target(name).file.modes]


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_a_space_comes_back_as_it_was_stored(name: str, mode: str) -> None:
    space, _ = resolve(build_space(find_target(name), mode), load_task(name))
    described = json.loads(json.dumps(space.describe()))
    back, _ = resolve(stored_space(described, "a-study"), load_task(name))
    assert json.loads(json.dumps(back.describe())) == described
    values, _ = space.default_values()
    assert back.recipe_for(values) == space.recipe_for(values)
