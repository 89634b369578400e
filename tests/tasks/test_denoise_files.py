"""Recordings: folders of pairs, what is wrong with them, and noisy files made clean."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import UsageError
from tuner.tasks.audio.folder import parse_name, read_pairs
from tuner.tasks.audio.sound_files import read_sound, resampled
from tuner.tasks.audio.unet import UNet
from tuner.tasks.base import Samples
from tuner.tasks.denoise import Denoise

RATE = 8000


def tone(frequency: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write(path: Path, signal: np.ndarray, rate: int = RATE, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate, **options)
    return path


def parts(options: dict[str, Any]) -> tuple[Samples, Samples]:
    """What is trained and what is validated on."""
    data = Denoise().data(options)
    assert isinstance(data.train, Samples) and isinstance(data.validation, Samples)
    return data.train, data.validation


def write_pairs(folder: Path, names: tuple[str, ...] = ("a", "b", "c"), levels: tuple[float, ...] = (0, 10)) -> None:
    """Tones of their own pitch with noise of their level beside them."""
    for number, name in enumerate(names):
        clean = tone(200 + 130 * number)
        write(folder / f"{name}.wav", clean)
        for level in levels:
            noise = np.random.default_rng(number).standard_normal(len(clean))
            noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (level / 10))
            write(folder / f"{name}_snr_{level:g}.wav", clean + noise, subtype="FLOAT")


@pytest.mark.parametrize(
    ("name", "clean", "level"),
    [
        ("speech1_snr_5", "speech1", 5),
        ("speech1_snr_10_take2", "speech1", 10),
        ("speech1_snr_-2.5", "speech1", -2.5),
        ("speech1_SNR_+7dB", "speech1", 7),
        ("a_b_snr_2.5db_street-3", "a_b", 2.5),
        ("x_snr_1_snr_3", "x_snr_1", 3),
    ],
)
def test_names_of_noisy_files_say_clean_file_and_level(name: str, clean: str, level: float) -> None:
    parsed = parse_name(Path(f"{name}.wav"))
    assert parsed is not None
    assert (parsed.clean, parsed.snr) == (clean, level)


@given(clean=st.text("abc019-_. ", min_size=1, max_size=8), level=st.decimals(-40, 60, places=1))
@settings(deadline=None, max_examples=50)
def test_every_level_with_a_decimal_is_read_back(clean: str, level: float) -> None:
    parsed = parse_name(Path("folder") / f"{clean}_snr_{level}_x.flac")
    assert parsed is not None
    assert (parsed.clean, parsed.snr) == (clean, float(level))


def test_names_without_a_level_are_clean() -> None:
    assert parse_name(Path("speech1.wav")) is None
    assert parse_name(Path("snr_5.wav")) is None
    with pytest.raises(UsageError, match=r"speech_snr_high\.wav: the name says no number behind _snr_"):
        parse_name(Path("speech_snr_high.wav"))


def test_a_folder_is_split_by_clean_file(tmp_path: Path) -> None:
    write_pairs(tmp_path, ("a", "b", "c", "d", "e"), (0, 10))
    write(tmp_path / "lonely.wav", tone(1000))
    train, validation = parts({"path": str(tmp_path), "validation_share": 0.4})
    assert (len(train), len(validation)) == (3 * 2, 2 * 2 * 3)
    assert set(train.targets["snr"].tolist()) == {0, 10}

    def pitches(clean: torch.Tensor) -> set[int]:  # which tone each row holds
        size = clean.shape[-1]
        return {round((int(row.abs().argmax()) * RATE / size - 200) / 130) for row in torch.fft.rfft(clean[:, 0])}

    trained, held_out = pitches(train.targets["clean"]), pitches(validation.targets["clean"])
    assert trained | held_out == {0, 1, 2, 3, 4}
    assert len(trained) == 3 and len(held_out) == 2


def test_a_copy_of_a_clean_file_is_the_same_source(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for kind in ("", "_snr_0", "_snr_10"):
        (tmp_path / f"copy{kind}.wav").write_bytes((tmp_path / f"a{kind}.wav").read_bytes())
    pairs = read_pairs(tmp_path, RATE)
    assert len(pairs) == 8
    assert len({pair.source for pair in pairs}) == 3


def test_pairs_are_mixed_down_resampled_and_cut_to_the_shorter(tmp_path: Path) -> None:
    left, right = tone(440, rate=44_100), tone(900, seconds=0.5, rate=44_100)
    write(tmp_path / "clean" / "s.flac", np.stack([left, right], axis=1), 44_100)
    write(tmp_path / "noisy" / "deep" / "s_snr_3.wav", tone(440, seconds=0.3, rate=16_000), 16_000)
    (pair,) = read_pairs(tmp_path, RATE)
    assert len(pair.clean) == len(pair.noisy) == 2400
    middle = slice(200, 2200)
    np.testing.assert_allclose(pair.clean[middle], (tone(440) + tone(900))[:2400][middle] / 2, atol=2e-3)
    np.testing.assert_allclose(pair.noisy[middle], tone(440)[:2400][middle], atol=2e-3)
    assert pair.snr == 3


def test_resampling_leaves_nothing_of_what_the_new_rate_cannot_hold() -> None:
    high = resampled(tone(6000, rate=44_100), 44_100, RATE)
    assert np.abs(high[200:-200]).max() < 0.01


def test_volume_of_a_pair_makes_no_difference(tmp_path: Path) -> None:
    write_pairs(tmp_path / "loud")
    for path in (tmp_path / "loud").iterdir():
        write(tmp_path / "soft" / path.name, soundfile.read(path)[0] / 100, subtype="DOUBLE")
    loud, soft = (parts({"path": str(tmp_path / name)}) for name in ("loud", "soft"))
    rms = loud[0].inputs[:, 0, :4000].square().mean(dim=1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, 0.35))
    for one, other in zip(loud, soft, strict=True):
        torch.testing.assert_close(one.inputs, other.inputs)
        torch.testing.assert_close(one.targets["clean"], other.targets["clean"])


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "no such folder"),
        ("a file", "a folder is needed"),
        ("empty", r"found no WAV or FLAC file\. The noisy file is named after its clean one"),
        ("clean only", r"found only 2 clean files \(one.wav, two.wav\)\. The noisy file is named"),
        ("noisy only", "spech_snr_5.wav: no clean file .*no spech.wav. Did you mean 'speech'"),
        ("two clean", "x_snr_5.wav: two clean files .*x.flac and .*x.wav"),
        ("one source", "two different clean signals"),
        ("no sound", "b.wav: the sound cannot be read"),
        ("cut off", "b_snr_0.flac: the sound cannot be read"),
        ("nothing inside", "b.wav: there is no sound"),
        ("not numbers", "b_snr_0.wav: .*NaN"),
    ],
)
def test_errors_of_folders_say_what_to_do(tmp_path: Path, case: str, words: str) -> None:
    folder = tmp_path / "data"
    if case not in ("missing", "a file"):
        folder.mkdir()
    if case == "a file":
        write(tmp_path / "data.wav", tone(200)).rename(folder)
    elif case == "clean only":
        write(folder / "one.wav", tone(200)), write(folder / "two.wav", tone(300))
    elif case == "noisy only":
        write(folder / "speech.wav", tone(200)), write(folder / "spech_snr_5.wav", tone(200))
    elif case == "two clean":
        write(folder / "x.wav", tone(200)), write(folder / "x.flac", tone(200)), write(folder / "x_snr_5.wav", tone(1))
    elif case == "one source":
        write_pairs(folder, ("a",))
    elif case not in ("missing", "empty"):
        write_pairs(folder)
        damage(folder, case)
    with pytest.raises(UsageError, match=words):
        Denoise().data({"path": str(folder)})


def damage(folder: Path, case: str) -> None:
    if case == "no sound":
        (folder / "b.wav").write_text("not a sound")
    elif case == "cut off":
        (folder / "b_snr_0.wav").unlink()
        whole = write(folder / "b_snr_0.flac", tone(300))
        whole.write_bytes(whole.read_bytes()[:30])
    elif case == "nothing inside":
        write(folder / "b.wav", np.zeros(0))
    else:
        write(folder / "b_snr_0.wav", np.full(4000, np.nan), subtype="FLOAT")


def net(asleep: bool = False) -> UNet:
    """A net in evaluation: one that changes its input, or a fresh one, which gives it back."""
    torch.manual_seed(0)
    model = UNet(3, residual=True)
    if not asleep:
        torch.nn.init.normal_(model.readout.weight, std=0.5)
    for _ in range(20):
        model(0.35 * torch.randn(4, 1, 512))  # BatchNorm learns how strong its inputs are
    return model.eval().requires_grad_(False)


def apply(model: UNet, source: Path, destination: Path) -> list[Path]:
    return [path for path, _ in Denoise().apply(model, Denoise.data_options, source, destination)]


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [("x.wav", "PCM_16", 2**-15), ("x.FLAC", "PCM_24", 2**-23), ("x.flac", "PCM_16", 2**-15), ("x.wav", "FLOAT", 1e-6)],
)
def test_a_net_that_does_nothing_gives_the_same_file(tmp_path: Path, name: str, subtype: str, step: float) -> None:
    source = write(tmp_path / "in" / name, tone(440, seconds=1.01), subtype=subtype)
    (written,) = apply(net(asleep=True), source, tmp_path / "new" / "out")
    assert written == tmp_path / "new" / "out" / name
    before, after = soundfile.info(source), soundfile.info(written)
    for field in ("samplerate", "frames", "format", "subtype"):
        assert getattr(before, field) == getattr(after, field)
    assert after.channels == 1
    np.testing.assert_allclose(soundfile.read(written)[0], soundfile.read(source)[0], atol=2 * step)


def test_other_sample_rates_and_channels_come_back_as_they_were(tmp_path: Path) -> None:
    stereo = np.stack([tone(440, 0.7, 44_100), tone(880, 0.7, 44_100)], axis=1)
    source = write(tmp_path / "x.wav", stereo, 44_100)
    (written,) = apply(net(asleep=True), source, tmp_path / "out")
    signal, rate = soundfile.read(written)
    assert (rate, signal.shape) == (44_100, (30_870,))
    np.testing.assert_allclose(signal[2000:-2000], stereo.mean(axis=1)[2000:-2000], atol=5e-3)


def test_the_net_is_used_at_its_level_which_is_undone_after(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(size=RATE) * 0.1
    for name, volume in (("soft", 0.01), ("loud", 1.0), ("silent", 0.0)):
        write(tmp_path / "in" / f"{name}.wav", volume * noisy, subtype="DOUBLE")
    assert len(apply(net(), tmp_path / "in", tmp_path / "out")) == 3
    soft, loud, silent = (soundfile.read(tmp_path / "out" / f"{name}.wav")[0] for name in ("soft", "loud", "silent"))
    np.testing.assert_allclose(100 * soft, loud, rtol=1e-3, atol=1e-5)
    gain = 0.35 / np.sqrt(np.mean(noisy**2))
    expected = net()(torch.tensor(noisy * gain, dtype=torch.float32)[None, None])[0, 0].numpy() / gain
    np.testing.assert_allclose(loud, expected, atol=1e-5)
    assert np.abs(loud - noisy).max() > 0.01
    assert np.isfinite(silent).all()


def test_long_files_do_not_show_where_windows_fall(tmp_path: Path) -> None:
    noisy = np.random.default_rng(1).normal(size=5 * RATE + 5) * 0.1  # three windows
    source = write(tmp_path / "x.wav", noisy, subtype="DOUBLE")
    (written,) = apply(net(), source, tmp_path / "out")
    gain = 0.35 / np.sqrt(np.mean(noisy**2))
    padded = np.pad(noisy * gain, (0, -len(noisy) % 16))
    whole = net()(torch.tensor(padded, dtype=torch.float32)[None, None])[0, 0, : len(noisy)].numpy() / gain
    np.testing.assert_allclose(soundfile.read(written)[0], whole, atol=1e-5)


def test_a_folder_keeps_its_layout_and_what_is_no_sound_stays_out(tmp_path: Path) -> None:
    for name in ("a.wav", "deep/b.flac"):
        write(tmp_path / "in" / name, tone(300))
    (tmp_path / "in" / "notes.txt").write_text("about the recordings")
    write(tmp_path / "in" / "._a.flac", tone(300))
    originals = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    target = tmp_path / "in" / "cleaned"
    for _ in range(2):  # what the first run wrote is no input of the second
        assert apply(net(), tmp_path / "in", target) == [target / "a.wav", target / "deep" / "b.flac"]
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["a.wav", "b.flac"]
    assert all(path.read_bytes() == content for path, content in originals.items())


def test_one_file_can_be_named_and_takes_the_container_of_its_name(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", tone(300), subtype="FLOAT")
    assert apply(net(asleep=True), source, tmp_path / "b.flac") == [tmp_path / "b.flac"]
    assert soundfile.info(tmp_path / "b.flac").format == "FLAC"
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.flac")[0], tone(300), atol=1e-4)


def test_sources_are_never_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "a.wav", tone(300))
    content = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for origin, destination in ((source, source), (source, source.parent), (source.parent, tmp_path / "link")):
        with pytest.raises(UsageError, match="would overwrite"):
            apply(net(), origin, destination)
    assert source.read_bytes() == content


@pytest.mark.parametrize("broken", ["b.wav", "deep/z.flac"])
def test_a_file_that_cannot_be_read_is_named_before_anything_is_written(tmp_path: Path, broken: str) -> None:
    write(tmp_path / "in" / "a.wav", tone(300))
    path = tmp_path / "in" / broken
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"RIFF and then nothing")
    with pytest.raises(UsageError, match=f"{broken}: the sound cannot be read"):
        apply(net(), tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_without_sound_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    for source, words in (
        (tmp_path / "in", "no WAV or FLAC file"),
        (tmp_path / "in" / "notes.txt", "not an ending"),
        (tmp_path / "nowhere", "no such file or folder"),
    ):
        with pytest.raises(UsageError, match=words):
            apply(net(), source, tmp_path / "out")
    write(tmp_path / "in" / "a.wav", tone(300))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UsageError, match="a folder is needed"):
        apply(net(), tmp_path / "in", tmp_path / "taken")


def test_files_written_are_sound_files_a_second_reader_takes(tmp_path: Path) -> None:
    import wave

    source = write(tmp_path / "a.wav", tone(300), subtype="PCM_16")
    (written,) = apply(net(asleep=True), source, tmp_path / "out")
    with wave.open(io.BytesIO(written.read_bytes())) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 2**15
    np.testing.assert_allclose(frames, read_sound(source).signal, atol=2**-14)
