"""colors: a small autoencoder that lays colours out on a circle, for experiments with curricula."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from tuner.errors import UsageError
from tuner.seeds import seed_for
from tuner.tasks.base import Batch, Data, Samples, Task
from tuner.tasks.images import (
    compared,
    image_files,
    image_of,
    in_chunks,
    outputs_for,
    pixels_of,
    read_image,
    write_image,
)

PRIMARY, HUES = "Primary & secondary", "All hues"

SEPARATION_EPS = 0.01
"""Added to a squared distance in `separate`: two points that coincide add 100, and no gradient is infinite."""

NAMED = {
    "red": (1.0, 0.0, 0.0),
    "yellow": (1.0, 1.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "blue": (0.0, 0.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
}
"""The primary and secondary colours in the order of their hues, RGB in [0, 1]."""

PROBES = {
    **NAMED,
    "orange": (1.0, 0.5, 0.0),
    "lime": (0.5, 1.0, 0.0),
    "spring": (0.0, 1.0, 0.5),
    "azure": (0.0, 0.5, 1.0),
    "violet": (0.5, 0.0, 1.0),
    "rose": (1.0, 0.0, 0.5),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
    "white": (1.0, 1.0, 1.0),
}
"""The colours whose codes are traced: the six, the six between them, and black, grey and white."""

TEST_COLORS = 1_000
"""Colours to test on."""

PREVIEW_SIZE, PREVIEW_REACH = 400, 1.5
"""Pixels of a preview's side, and the coordinate at its edges; what lies beyond is drawn on the edge."""


class ColorOutput(NamedTuple):
    """What the autoencoder gives: colours (batch x 3), their codes (batch x 4), codes of those in `NAMED` (6 x 4)."""

    reconstruction: Tensor
    code: Tensor
    named: Tensor


class Colors(Task):
    """Colours through a code of four numbers, of which the first two should become a plane of hues.

    Trained on an HSV grid (36 hues x 10 saturations x 10 values), in the phase `Primary & secondary` on the six named
    colours only; validated on an RGB grid (10 x 10 x 10), which by design shares some colours with the other; tested on
    colours drawn at random, which are in neither. The data option `data_fraction` widens what is drawn from vivid hues
    (0) to all colours alike (1): see `sampling_weights`. The action `anchor` stores the six colours' codes, from which
    the loss term `anchor` then keeps them from moving.
    """

    name: ClassVar[str] = "colors"
    model_options: ClassVar[Mapping[str, Any]] = {"hidden": 16}
    data_options: ClassVar[Mapping[str, Any]] = {"data_fraction": 1.0}
    properties: ClassVar[tuple[str, ...]] = ("data_fraction",)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"data_fraction": (0.0, 1.0)}
    actions: ClassVar[tuple[str, ...]] = ("anchor",)
    phases: ClassVar[tuple[str, ...]] = (PRIMARY, HUES, "All colors", "Fine-tuning")
    held_out: ClassVar[bool] = False

    def data(self, options: Mapping[str, Any]) -> Data:
        """Both grids, RGB in [0, 1]: 3,600 colours to train on, 1,000 to validate on.

        Greys stand in the HSV grid once for every hue, black once for every saturation too. Raises `UsageError` for a
        `data_fraction` beyond [0, 1].
        """
        fraction = options.get("data_fraction", 1.0)
        if not 0 <= fraction <= 1:
            raise UsageError("must be from 0 to 1", place="recipe.data.data_fraction", value=fraction)
        return Data(train=Samples(hsv_grid()), validation=Samples(rgb_grid()))

    def test_data(self, options: Mapping[str, Any]) -> Samples:
        """1,000 colours drawn evenly from the RGB cube, always the same."""
        generator = torch.Generator().manual_seed(seed_for("colors", "test"))
        return Samples(torch.rand(TEST_COLORS, 3, generator=generator))

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A `ColorAutoencoder`; raises `ValueError` for options out of range."""
        return ColorAutoencoder(**options)

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        """As many colours as `index` has: by phase the six named ones in turn, or some drawn by `sampling_weights`.

        They are drawn with replacement, on the CPU so that every device draws alike. With a `data_fraction` of 1 all
        weights are equal, and the samples at `index` are taken as they are: each once an epoch.
        """
        if properties.get("phase", "") == PRIMARY:
            index = torch.arange(len(index), device=data.device) % len(NAMED)
            return Batch(_tensor(NAMED, data.device)[index])
        fraction = float(properties.get("data_fraction", 1.0))
        if fraction >= 1:
            return data.rows(index)
        drawn = torch.multinomial(_weights(data.inputs, fraction), len(index), replacement=True, generator=generator)
        return data.rows(drawn.to(data.device))

    def losses(self, output: ColorOutput, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms, per sample but for `anchor`; z is a sample's code.

        `recon` is the mean squared error of the channels; `norm` (|z| - 1)^2; `planar` the mean of z[2:]^2; `separate`
        see `separation`; `anchor` the mean over the six named colours of |z - z'|^2, z' the code that the action
        stored, and 0 before.
        """
        code = output.code
        moved = (output.named - state["anchors"]).square().sum(dim=-1).mean()
        return {
            "recon": (output.reconstruction - batch.inputs).square().mean(dim=-1),
            "norm": (torch.linalg.vector_norm(code, dim=-1) - 1).square(),
            "planar": code[..., 2:].square().mean(dim=-1),
            "separate": separation(code[..., :2], batch.inputs),
            "anchor": state["anchored"] * moved,
        }

    def state(self) -> dict[str, Tensor]:
        """The six named colours' stored codes (6 x 4), and whether they were stored (0 or 1)."""
        return {"anchors": torch.zeros(len(NAMED), 4), "anchored": torch.zeros(())}

    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`anchor`: the six named colours' codes as they are now."""
        with torch.no_grad():
            codes = model(_tensor(NAMED, state["anchors"].device)).code
        return {"anchors": codes, "anchored": torch.ones_like(state["anchored"])}

    def trace(self, model: nn.Module) -> dict[str, Tensor]:
        """`codes` of the colours of `PROBES`, in that order: 15 x 4."""
        return {"codes": model(_tensor(PROBES, _home(model))).code}

    def preview(self, model: nn.Module, data: Data) -> Image.Image:
        """The plane z[:2] from -1.5 to 1.5 both ways, y up: each validation colour as a disc, the six named ones large.

        400 x 400 pixels, with the unit circle.
        """
        assert isinstance(data.validation, Samples)
        picture = Image.new("RGB", (2 * PREVIEW_SIZE, 2 * PREVIEW_SIZE), (236, 236, 236))
        draw = ImageDraw.Draw(picture)
        draw.circle((PREVIEW_SIZE, PREVIEW_SIZE), PREVIEW_SIZE / PREVIEW_REACH, outline=(190, 190, 190), width=2)
        home = _home(model)
        for colors, radius in ((data.validation.inputs.to(home), 6), (_tensor(NAMED, home), 16)):
            _discs(draw, model(colors).code[:, :2], colors, radius)
        return picture.reduce(2)

    def apply(
        self, model: nn.Module, options: Mapping[str, Any], source: Path, destination: Path
    ) -> Iterator[tuple[Path, str]]:
        """Pass every pixel of an image, or of each image in a folder, through the autoencoder (see `outputs_for`).

        Raises `UsageError` for files that are no images, before anything is written.
        """
        home = _home(model)
        for path, target in outputs_for(image_files(source), destination):
            image = read_image(path)
            passed = in_chunks(lambda colors: model(colors.to(home)).reconstruction, pixels_of(image))
            write_image(target, image_of(passed, *image.size))
            yield target, f"{image.width} x {image.height} pixels, {compared(passed, image)} to {path.name}"


class ColorAutoencoder(nn.Module):
    """RGB - `hidden` - 4 - `hidden` - RGB, with GELU between and a sigmoid out."""

    primaries: Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, not {hidden}")
        self.encoder = nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, 4))
        self.decoder = nn.Sequential(nn.Linear(4, hidden), nn.GELU(), nn.Linear(hidden, 3), nn.Sigmoid())
        self.register_buffer("primaries", _tensor(NAMED), persistent=False)

    def forward(self, colors: Tensor) -> ColorOutput:
        """The output for colours (batch x 3) in [0, 1]."""
        codes = self.encoder(torch.cat([colors, self.primaries]))
        code, named = codes.split([len(colors), len(self.primaries)])
        return ColorOutput(self.decoder(code), code, named)


def separation(points: Tensor, colors: Tensor) -> Tensor:
    """For each sample the mean of 1 / (d^2 + eps) over its distances d to the samples of other colours (batch,).

    `points` is batch x 2, `colors` batch x 3, eps `SEPARATION_EPS`. Samples of one colour are one point: they add
    nothing to one another, and a sample without another colour has 0.
    """
    mean, _, _ = _Separation.apply(points, colors)  # type: ignore[no-untyped-call]
    return cast(Tensor, mean)


class _Separation(torch.autograd.Function):
    """`separation` with its gradient written out, which passes far less often over the batch x batch pairs.

    With c_i what sample i's mean counts and u_ij = 1 / (d_ij^2 + eps)^2, the gradient at point k is
    2 sum_j (c_k + c_j) u_kj (p_j - p_k). Any dimensions may come before the batch.
    """

    recordable = True  # no number is read in Python, so that its operations may be recorded

    @staticmethod
    def forward(points: Tensor, colors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The means (batch,), u (batch x batch, 0 between samples of one colour), and each sample's others (batch,)."""
        other = _squared_distances(colors.to(points.dtype)).ne_(0)
        others = other.sum(dim=-1).clamp_(min=1)
        near = other.div_(_squared_distances(points).add_(SEPARATION_EPS))
        return near.sum(dim=-1) / others, near.square_(), others

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keep what the gradient needs."""
        _, squared, others = output
        ctx.save_for_backward(inputs[0], squared, others)
        ctx.mark_non_differentiable(squared, others)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        """The gradient at the points (batch x 2), by one product with u for all sums over j."""
        points, squared, others = ctx.saved_tensors
        share = (gradient / others).unsqueeze(-2)
        place = points.mT
        known = torch.cat([place, torch.ones_like(share)], dim=-2)
        alike, weighted = (torch.cat([known, share * known], dim=-2) @ squared).split(3, dim=-2)
        sums = share * alike + weighted
        return 2 * (sums[..., :2, :] - sums[..., 2:, :] * place).mT, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Any, tuple[int, int, int]]:
        """vmap's dimension put in front of the others."""
        stacked = (
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims, strict=True)
        )
        return _Separation.apply(*stacked), (0, 0, 0)  # type: ignore[no-untyped-call]


def _squared_distances(vectors: Tensor) -> Tensor:
    """Between every two vectors: batch x batch of batch x coordinates; 0 between equal ones.

    Each coordinate lies together and few memory is touched: on a CPU this is several times as fast as it reads.
    """
    first, *others = vectors.mT.contiguous().unbind(dim=-2)
    total = first.unsqueeze(-1) - first.unsqueeze(-2)
    total.square_()
    difference = torch.empty_like(total)
    for axis in others:
        torch.sub(axis.unsqueeze(-1), axis.unsqueeze(-2), out=difference)
        total.addcmul_(difference, difference)
    return total


def vividness(colors: Tensor) -> Tensor:
    """The vividness of colours (n x 3) in [0, 1], their chroma: the largest channel less the smallest (n,).

    In HSV it is saturation times value.
    """
    return colors.amax(dim=-1) - colors.amin(dim=-1)


def sampling_weights(vivid: Tensor, fraction: float) -> Tensor:
    """How often colours of a given vividness (n,) are drawn, in [0, 1], float64: as levels in an image editor.

    At a `fraction` of 0 only the vivid hues, above 0.99, are drawn; at 0.5 the weight is the vividness; at 1 it is 1
    for all. Between, the input's black level goes from 0.99 to 0 in the first half, the output's from 0 to 1 in the
    second: weight = out + (1 - out) clamp((vivid - in) / (1 - in), 0, 1).
    """
    black_in = float(np.interp(fraction, [0, 0.5], [0.99, 0]))
    black_out = float(np.interp(fraction, [0.5, 1], [0, 1]))
    return black_out + (1 - black_out) * ((vivid.double() - black_in) / (1 - black_in)).clamp(0, 1)


@lru_cache(maxsize=32)
def _weights(colors: Tensor, fraction: float) -> Tensor:
    """The `sampling_weights` of colours, remembered for the tensors at hand."""
    return sampling_weights(vividness(colors.cpu()), fraction)


def hsv_grid() -> Tensor:
    """The RGB colours of 36 hues, 10 saturations and 10 values, the last two from 0 to 1: 3,600 x 3.

    Channel n of 5, 3, 1 (red, green, blue) is v - v s max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6.
    """
    levels = torch.linspace(0, 1, 10, dtype=torch.float64)
    sextant, saturation, value = torch.meshgrid(
        torch.arange(36, dtype=torch.float64) / 6, levels, levels, indexing="ij"
    )
    channel = (torch.tensor([5, 3, 1]) + sextant.unsqueeze(-1)) % 6
    fall = torch.minimum(channel, 4 - channel).clamp(0, 1)
    return (value.unsqueeze(-1) * (1 - saturation.unsqueeze(-1) * fall)).reshape(-1, 3).float()


def rgb_grid() -> Tensor:
    """The colours of 10 levels a channel from 0 to 1: 1,000 x 3."""
    return torch.cartesian_prod(*[torch.linspace(0, 1, 10)] * 3)


def _discs(draw: ImageDraw.ImageDraw, points: Tensor, colors: Tensor, radius: float) -> None:
    """Draw `points` (n x 2) in their `colors` (n x 3) on a preview at twice its size."""
    places = PREVIEW_SIZE * (1 + (points / PREVIEW_REACH).clamp(-1, 1) * points.new_tensor([1, -1]))
    for (x, y), color in zip(places.tolist(), (colors * 255).round().int().tolist(), strict=True):
        draw.circle((x, y), radius, fill=tuple(color), outline=(110, 110, 110), width=1)


def _tensor(colors: Mapping[str, tuple[float, float, float]], device: torch.device | None = None) -> Tensor:
    return torch.tensor(list(colors.values()), device=device)


def _home(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
