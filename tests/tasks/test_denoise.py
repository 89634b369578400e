"""The denoise task: its data against what it claims of them, crops, measures in numpy, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate, periodogram

from tuner.errors import SearchSpaceError
from tuner.recipe import Recipe
from tuner.tasks.audio.clips import fixed_clips, random_clips, segments
from tuner.tasks.audio.pairs import Pair, made_pairs, split_by_source, with_noise
from tuner.tasks.audio.voices import make_voice
from tuner.tasks.base import Batch, Samples
from tuner.tasks.denoise import Denoise
from tuner.training.run import Goal
from tuner.training.trainer import Trainer, train

SMALL = {"sources": 4, "seconds": 0.5, "segment_seconds": 0.5}


def parts(options: dict[str, Any]) -> tuple[Samples, Samples]:
    """What is trained and what is validated on."""
    data = Denoise().data(options)
    assert isinstance(data.train, Samples) and isinstance(data.validation, Samples)
    return data.train, data.validation


def decibels(clean: np.ndarray, other: np.ndarray) -> float:
    return 10 * float(np.log10(np.sum(clean**2) / np.sum((other - clean) ** 2)))


@given(snr=st.floats(-30, 60), samples=st.integers(2, 500), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_noise_has_exactly_the_strength_asked_for(snr: float, samples: int, seed: int) -> None:
    clean = np.sin(np.arange(samples) + 1.0)
    assert decibels(clean, with_noise(clean, snr, np.random.default_rng(seed))) == pytest.approx(snr, abs=1e-6)


def test_made_data_has_the_five_levels_over_every_whole_signal() -> None:
    train, _ = parts({})
    noisy, clean = train.inputs[:, 0].double().numpy(), train.targets["clean"][:, 0].double().numpy()
    assert noisy.shape == (70, 16_000)  # 14 of 18 voices at five levels, 2 s each
    np.testing.assert_allclose(np.sqrt(np.mean(noisy**2, axis=1)), 0.35, rtol=1e-5)
    levels = train.targets["snr"].numpy()
    assert sorted(levels) == sorted([0.0, 5.0, 10.0, 15.0, 20.0] * 14)
    np.testing.assert_allclose([decibels(c, x) for c, x in zip(clean, noisy, strict=True)], levels, atol=1e-3)


def test_made_noise_is_white_and_its_own_for_every_signal() -> None:
    noises = [(pair.noisy - pair.clean) / np.std(pair.noisy - pair.clean) for pair in made_pairs(2, 2.0, 8000)]
    for noise in noises:
        _, power = periodogram(noise)
        quarters = [part.mean() for part in np.array_split(power, 4)]
        assert max(quarters) < 1.15 * min(quarters)
    assert np.abs(np.corrcoef(noises) - np.eye(len(noises))).max() < 0.05


def test_voices_are_harmonic_and_speak_in_syllables() -> None:
    voices = [make_voice(number, 16_000, 8000) for number in range(8)]
    for voice in voices:
        assert np.mean(voice**2) == pytest.approx(1)
        frames = voice.reshape(-1, 400)  # 50 ms
        power = np.mean(frames**2, axis=1)
        assert power.min() < 0.1 < 1.5 < power.max()
        loud = frames[power.argmax()]
        lags = correlate(loud, loud, mode="full")[400:] / np.sum(loud**2)
        assert lags[20:120].max() > 0.5  # a period of 67 to 400 Hz
        frequency, spectrum = periodogram(voice, 8000, window="hann")
        assert spectrum[frequency > 3900].sum() < 1e-4 * spectrum.sum()  # nothing folds back
    assert np.abs(np.corrcoef(voices) - np.eye(8)).max() < 0.2
    assert np.array_equal(voices[3], make_voice(3, 16_000, 8000))


@pytest.mark.parametrize("rate", [4000, 8000, 24_000])
def test_even_the_shortest_voice_says_something(rate: int) -> None:
    for number in range(20):
        voice = make_voice(number, rate // 2, rate)
        assert np.isfinite(voice).all()
        assert np.mean(voice**2) == pytest.approx(1)


def likeness(clip: np.ndarray, signal: np.ndarray) -> float:
    """How alike a clip is to the stretch of a signal most like it: 1 for one cut from it, at any volume."""
    products = correlate(signal, clip, mode="valid")
    energies = np.convolve(signal**2, np.ones(len(clip)), mode="valid").clip(1e-9)
    return float(np.abs(products / np.sqrt(energies * np.sum(clip**2).clip(1e-9))).max())


def test_no_made_clean_signal_is_on_both_sides() -> None:
    train, validation = parts({"sources": 8, "validation_clips": 2})
    signals = train.targets["clean"][:, 0].double().numpy()[train.targets["snr"].numpy() == 0]
    clips = validation.targets["clean"][:, 0].double().numpy()
    clips = clips[np.mean(clips**2, axis=1) > 1e-3]
    assert max(likeness(clip, signal) for clip in clips for signal in signals) < 0.999
    assert likeness(signals[0][3000:3512], signals[0]) == pytest.approx(1)


@given(
    sources=st.lists(st.text("abc", max_size=2), min_size=2, max_size=30).filter(lambda names: len(set(names)) > 1),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_split_keeps_every_pair_and_parts_the_sources(sources: Sequence[str], share: float, seed: int) -> None:
    pairs = [Pair(source, np.ones(1), np.ones(1), float(number)) for number, source in enumerate(sources)]
    train, validation = split_by_source(pairs, share, seed)
    assert {pair.source for pair in train}.isdisjoint(pair.source for pair in validation)
    assert sorted([pair.snr for pair in train + validation]) == [pair.snr for pair in pairs]
    held_out = len({pair.source for pair in validation})
    assert 1 <= held_out < len(set(sources))
    assert abs(held_out - share * len(set(sources))) <= 1


def test_the_split_is_drawn_by_its_seed() -> None:
    first, again, other = (parts({**SMALL, "split_seed": seed})[1].inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def counted(lengths: Sequence[int]) -> list[Pair]:
    """Pairs whose clean samples count on from 1 across all pairs, and whose noisy ones are half of that more."""
    starts = np.cumsum([1, *lengths[:-1]])
    return [
        Pair(str(i), start + np.arange(length, dtype=float), start + np.arange(length) + 0.5, i)
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=5), longest=st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_segments_cover_every_sample(lengths: Sequence[int], longest: int) -> None:
    data = segments(counted(lengths), longest, clip_length=32)
    assert data.inputs.shape == data.targets["clean"].shape
    assert data.inputs.shape[1] == 1
    assert data.inputs.shape[2] % 16 == 0 and data.inputs.shape[2] >= 32
    seen = set()
    for row, length in enumerate(data.targets["length"].tolist()):
        assert length <= max(longest, 32)
        clean, noisy = data.targets["clean"][row, 0], data.inputs[row, 0]
        assert torch.equal(clean[:length], clean[0] + torch.arange(length))
        assert torch.equal(noisy[:length], clean[:length] + 0.5)
        assert not clean[length:].any() and not noisy[length:].any()
        seen.update(clean[:length].int().tolist())
    assert seen == set(range(1, sum(lengths) + 1))


@given(length=st.integers(1, 500), most=st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_fixed_clips_are_spread_over_the_file(length: int, most: int) -> None:
    clips = fixed_clips(counted([length]), 32, most)
    count = len(clips)
    assert clips.inputs.shape == (count, 1, 32)
    assert count == min(most, max(1, -(-length // 32)))
    starts = clips.targets["clean"][:, 0, 0]
    assert starts.min() - 1 <= 500 / count
    if length < 32:
        assert clips.targets["clean"][0, 0].tolist() == [*range(1, length + 1), *[0] * (32 - length)]
    else:
        assert torch.equal(clips.targets["clean"][:, 0], starts[:, None] + torch.arange(32))
        assert clips.targets["clean"].max() <= length


def test_random_clips_are_whole_stretches_of_their_segments() -> None:
    data = segments(counted([100, 20, 64, 33]), 64, clip_length=32)
    index = torch.arange(len(data)).repeat(300)
    batch = random_clips(data, index, 32, torch.Generator().manual_seed(1))
    clean = batch.targets["clean"][:, 0]
    first = data.targets["clean"][index, 0, 0]
    length = data.targets["length"][index]
    long = length >= 32
    assert torch.equal(clean[long], clean[long][:, :1] + torch.arange(32))
    assert torch.equal(batch.inputs[long], batch.targets["clean"][long] + 0.5)
    assert torch.equal(batch.targets["snr"], data.targets["snr"][index])
    offsets = (clean[:, 0] - first).long()
    for row in range(len(data)):
        room = max(0, int(data.targets["length"][row]) - 32)
        drawn = torch.bincount(offsets[index == row], minlength=room + 1)
        assert len(drawn) == room + 1 and drawn.min() > 0, "every place is drawn, and none beyond"


def test_clips_depend_on_the_generator_alone() -> None:
    task, (data, _) = Denoise(), parts(SMALL)
    index = torch.arange(len(data))
    before = torch.random.get_rng_state()

    def drawn(seed: int) -> Batch:
        return task.batch(data, index, Denoise.data_options, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(5).inputs, drawn(5).inputs)
    assert torch.equal(drawn(5).targets["clean"], drawn(5).targets["clean"])
    assert not torch.equal(drawn(5).inputs, drawn(6).inputs)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow  # torch takes seconds to ready itself for such tensors
def test_clips_are_cut_on_the_device_of_the_data() -> None:
    data = parts(SMALL)[0].to(torch.device("meta"))  # has no numbers: nothing can be brought to the CPU
    batch = Denoise().batch(data, torch.zeros(3, dtype=torch.int64, device="meta"), {}, torch.Generator())
    assert batch.inputs.device.type == batch.targets["clean"].device.type == "meta"
    assert batch.inputs.shape == batch.targets["clean"].shape == (3, 1, 512)


def test_losses_and_metrics_equal_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    levels = np.array([-14.0, -4.0, 0.0, 2.4, 5.0, 7.6, 20.0, 41.0, 10.0])
    clean, noisy, output = random.normal(size=(3, 9, 1, 64))
    clean[8] = 0  # silent: its improvement is not defined, and it counts nowhere
    batch = Batch(torch.tensor(noisy), {"clean": torch.tensor(clean), "snr": torch.tensor(levels)})
    terms = Denoise().losses(torch.tensor(output), batch, {})
    np.testing.assert_allclose(terms["mse"], np.mean((output - clean) ** 2, axis=(1, 2)))
    found = {name: mean for name, mean in Denoise().metrics(torch.tensor(output), batch).items() if mean.number}
    gained = [decibels(c, o) - decibels(c, x) for c, o, x in zip(clean[:8], output, noisy, strict=False)]
    expected = {
        "snr_improvement": np.mean(gained),
        "snr_improvement_at_minus_10db": gained[0],
        "snr_improvement_at_minus_5db": gained[1],
        "snr_improvement_at_0db": gained[2],
        "snr_improvement_at_5db": np.mean([gained[4]]),
        "snr_improvement_at_10db": gained[5],
        "snr_improvement_at_20db": gained[6],
        "snr_improvement_at_30db": gained[7],
    }
    expected["snr_improvement_at_0db"] = np.mean([gained[2], gained[3]])  # 2.4 is nearer to 0 than to 5
    assert set(found) == set(expected)
    for name, mean in found.items():
        assert float(mean.total) / float(mean.number) == pytest.approx(expected[name], abs=1e-4), name


def test_doing_nothing_improves_nothing_and_a_perfect_output_is_finite() -> None:
    _, validation = parts(SMALL)
    batch = validation.rows(torch.arange(len(validation)))
    nothing = Denoise().metrics(batch.inputs, batch)["snr_improvement"]
    assert float(nothing.total) == 0 and int(nothing.number) > 10
    perfect = Denoise().metrics(batch.targets["clean"], batch)["snr_improvement"]
    assert 70 < float(perfect.total) / int(perfect.number) < 101  # ends at 100 dB, less the input's SNR


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("clip_length", 500, "multiple of 16 .*496 is the nearest"),
        ("clip_length", 16, "from 32"),
        ("sample_rate", 0, "from 4000"),
        ("validation_share", 1.0, "0.9"),
        ("sources", 1, "from 2"),
        ("path", 3, "folder"),
    ],
)
def test_impossible_data_options_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(SearchSpaceError, match=f"data.{name}.*{words}"):
        Denoise().data({name: value})


def test_preview_shows_three_signals() -> None:
    model = Denoise().build_model({"channels": 2, "residual": True}).eval()
    with torch.no_grad():
        picture = Denoise().preview(model, Denoise().data(SMALL))
    assert picture.size == (1200, 600)
    assert len(set(picture.convert("L").tobytes())) > 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_clips_are_the_same_on_a_gpu() -> None:
    data, _ = parts(SMALL)
    clips = []
    for device in ("cpu", "cuda"):
        home, index = data.to(torch.device(device)), torch.arange(len(data), device=device)
        batch = Denoise().batch(home, index, {}, torch.Generator().manual_seed(3))
        assert batch.inputs.device.type == device
        clips.append(batch.inputs.cpu())
    assert torch.equal(*clips)


def recipe_for(**values: object) -> Recipe:
    return Recipe(
        batch_size=8,
        learning_rate=2e-3,
        gradient_clip=1.0,
        scheduler=None,
        model={"channels": 8, "residual": True},
        data={**Denoise.data_options, "sources": 10, "validation_clips": 8},
        **values,  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_a_small_net_learns_to_take_noise_from_voices_it_never_heard() -> None:
    trainer = Trainer(Denoise(), Goal("val_loss"), ("mse",), torch.device("cpu"))
    best = min(train(trainer.start(recipe_for(epochs=12))).records, key=lambda record: record.val_loss).values
    levels = {name for name in best if name.startswith("val_snr_improvement_at_")}
    assert levels == {f"val_snr_improvement_at_{snr}db" for snr in (0, 5, 10, 15, 20)}
    assert best["val_snr_improvement"] > 1.5
    assert all(best[f"val_snr_improvement_at_{snr}db"] > 0.5 for snr in (0, 5, 10))
    validation = trainer.data(recipe_for()).validation
    assert isinstance(validation, Samples)
    nothing = (validation.inputs - validation.targets["clean"]).square().mean()
    assert best["val_loss"] < 0.6 * float(nothing)


@pytest.mark.long
def test_quick_finds_a_net_that_cleans_voices_it_never_heard(own_folder: Path, tuner: Callable[..., Any]) -> None:
    """The promise of `tuner quick denoise`, measured on files that `tuner apply` cleans."""
    assert tuner("quick", "denoise", "--quiet").code == 0
    best = json.loads(tuner("analyze", "denoise-quick", "--json").out)["best"]
    assert 0.001 <= best["value"] <= 0.01 and best["gap"] <= 0.01
    gained = gains_of_files(own_folder, tuner)
    print({snr: round(float(np.mean(values)), 2) for snr, values in gained.items()})
    assert np.mean(list(gained.values())) >= 2
    assert all(np.mean(gained[snr]) > 0 for snr in (0, 5, 10))


def gains_of_files(folder: Path, tuner: Callable[..., Any]) -> dict[int, list[float]]:
    """What the study's best net gains on voices beyond all those it was trained and validated on: dB by level."""
    heard = {}
    for number in range(1000, 1006):
        clean = 0.1 * make_voice(number, 24_000, 8000)
        for snr in (0, 5, 10, 15, 20):
            name = f"{number}_snr_{snr}.wav"
            heard[name] = (snr, clean, with_noise(clean, snr, np.random.default_rng(number)))
            (folder / "noisy").mkdir(exist_ok=True)
            soundfile.write(folder / "noisy" / name, heard[name][2], 8000)
    assert tuner("apply", "denoise-quick", "noisy", "cleaned").code == 0
    gained: dict[int, list[float]] = {}
    for name, (snr, clean, noisy) in heard.items():
        cleaned, _ = soundfile.read(folder / "cleaned" / name)
        gained.setdefault(snr, []).append(decibels(clean, cleaned) - decibels(clean, noisy))
    return gained
