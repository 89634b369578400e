"""What every bundled task promises; a new file on the shelf is tested without another edit."""

from __future__ import annotations

import pytest
import torch

from tuner.probe import build_model, first_batch, probe_task
from tuner.recipe import Recipe
from tuner.resolve import resolve
from tuner.search_space import build_space, find_target
from tuner.search_space.file import bundled_folder, spaces_in
from tuner.tasks import Data, Samples, Task, bundled, load_task, tensors_in

TASKS = sorted(bundled())


@pytest.fixture(params=TASKS, scope="module")
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


@pytest.fixture(scope="module")
def recipe(task: Task) -> Recipe:
    """The default recipe of mode `quick`."""
    space, _ = resolve(build_space(find_target(task.name), "quick"), task)
    return space.recipe_for(space.default_values()[0])[0]


@pytest.fixture(scope="module")
def data(task: Task, recipe: Recipe) -> Data:
    """What that recipe trains on."""
    return task.data(recipe.data)


def test_every_task_has_a_search_space_of_its_name() -> None:
    assert set(TASKS) == set(spaces_in(bundled_folder()))


@pytest.mark.parametrize("name", TASKS)
def test_every_mode_resolves(name: str) -> None:
    target = find_target(name)
    assert {"quick", "full"} <= set(target.file.modes)
    for mode in target.file.modes:
        resolve(build_space(target, mode), load_task(name))


def test_data_is_the_same_every_time(task: Task, recipe: Recipe, data: Data) -> None:
    again = task.data(recipe.data)
    for one, two in ((data.train, again.train), (data.validation, again.validation)):
        if isinstance(one, Samples):
            parts = ([source.inputs, source.targets] for source in (one, two))
            for first_part, second_part in zip(*map(tensors_in, parts), strict=True):
                assert torch.equal(first_part, second_part)


def test_train_and_validation_share_no_sample(task: Task, data: Data) -> None:
    if isinstance(data.train, Samples) and isinstance(data.validation, Samples) and task.held_out:
        train, validation = (zip(*tensors_in(source.inputs), strict=True) for source in (data.train, data.validation))
        seen = {b"".join(part.numpy().tobytes() for part in row) for row in train}
        assert not any(b"".join(part.numpy().tobytes() for part in row) in seen for row in validation)


def rows_of(source: Samples) -> set[bytes]:
    """The inputs of each sample."""
    rows = zip(*tensors_in(source.inputs), strict=True)
    return {b"".join(part.numpy().tobytes() for part in row) for row in rows}


def test_what_validates_on_other_samples_has_a_test_split_too(task: Task, recipe: Recipe) -> None:
    assert task.test_data(recipe.data) is not None or not task.held_out


def test_the_test_split_shares_no_sample_with_the_others(task: Task, recipe: Recipe, data: Data) -> None:
    test = task.test_data(recipe.data)
    if test is None:
        return
    assert isinstance(test, Samples)
    assert len(test) >= 100
    for other in (data.train, data.validation):
        assert isinstance(other, Samples)
        assert rows_of(test).isdisjoint(rows_of(other))


def test_the_test_split_is_like_what_is_validated_on(task: Task, recipe: Recipe, data: Data) -> None:
    test, again = task.test_data(recipe.data), task.test_data(recipe.data)
    if test is None:
        return
    for one, two, other in zip(*(_tensors(source) for source in (test, again, data.validation)), strict=True):
        assert torch.equal(one, two)
        assert one.shape[1:] == other.shape[1:]
        assert one.dtype == other.dtype


def _tensors(source: object) -> list[torch.Tensor]:
    assert isinstance(source, Samples)
    return tensors_in([source.inputs, source.targets] if source.targets is not None else [source.inputs])


def test_weights_depend_on_the_seed_alone(task: Task, recipe: Recipe) -> None:
    torch.manual_seed(1)
    first = build_model(task, recipe).state_dict()
    torch.manual_seed(2)
    again = build_model(task, recipe).state_dict()
    other = build_model(task, recipe.with_values({"seed": 9})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_losses_are_per_sample_and_pure(task: Task, recipe: Recipe, data: Data) -> None:
    model = build_model(task, recipe).eval()
    batch = first_batch(data.train, 6)
    output = task.predict(model, batch.inputs)
    once, twice = (task.losses(output, batch, task.state()) for _ in range(2))
    for name, term in once.items():
        assert term.shape in ((6,), ())
        assert torch.equal(term, twice[name])
        assert torch.isfinite(term).all()


def test_every_option_of_the_model_changes_it_or_its_output(task: Task, recipe: Recipe) -> None:
    assert probe_task(task, recipe).parameters > 0
    assert set(recipe.model) == set(task.model_options)


def test_unknown_options_are_refused_by_the_model(task: Task) -> None:
    with pytest.raises(TypeError):
        task.build_model({**task.model_options, "no_such_option": 1})


def test_sounds_are_those_that_are_named_and_can_be_read(task: Task, recipe: Recipe) -> None:
    import io

    import soundfile

    model = build_model(task, recipe).eval()
    with torch.no_grad():
        sounds = task.sounds(model, recipe.data)
    assert tuple(sounds) == task.sound_names
    for content in sounds.values():
        signal, rate = soundfile.read(io.BytesIO(content))
        assert len(signal) > rate / 10
        assert 0 < abs(signal).max() <= 1


def test_properties_begin_within_their_ranges(task: Task) -> None:
    for name, (low, high) in task.ranges.items():
        assert name in task.properties
        assert low <= task.data_options[name] <= high
