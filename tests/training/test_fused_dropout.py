"""Dropout that every member of a stack draws from a key of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tuner.seeds import seed_for
from tuner.training.fused.dropout import KEY_RANGE, MemberDropout

Forward = Callable[..., Any]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def keys_for(count: int, *parts: object) -> Tensor:
    """Keys as a group has them (members,)."""
    return torch.tensor([seed_for("dropout", member, *parts) % KEY_RANGE for member in range(count)])


def drawn(forward: Forward, keys: Tensor, *inputs: Any) -> Any:
    """`forward` of every member's inputs, with its own dropout."""

    def one(key: Tensor, *inputs: Any) -> Any:
        with MemberDropout(key):
            return forward(*inputs)

    return vmap(one)(keys, *inputs)


def dropped(keys: Tensor, p: float, *shape: int, calls: int = 1) -> Tensor:
    """Where successive calls drop, as 0 or 1 (calls x members x shape)."""
    ones = torch.ones(len(keys), *shape)
    return torch.stack(drawn(lambda x: tuple(F.dropout(x, p) for _ in range(calls)), keys, ones)).eq(0).float()


def standardized(masks: Tensor, p: float) -> Tensor:
    """Of mean 0 and variance 1, if elements are dropped with probability `p`."""
    return (masks.double() - p) / math.sqrt(p * (1 - p))


# What is drawn


def test_an_element_is_dropped_by_its_key_and_its_place_in_the_pass_alone():
    """The definition again, in Python's own integers."""

    def mixed(x: int) -> int:
        x = (x ^ (x >> 16)) * 0x21F0AAAD % 2**32
        x = (x ^ (x >> 15)) * 0x735A2D97 % 2**32
        return x ^ (x >> 15)

    def is_dropped(key: int, place: int, p: float) -> bool:
        offset, factor = ((mixed(2 * place + word) + 2**31) % 2**32 for word in (0, 1))
        hashed = ((offset ^ key) * (factor | 1) + 2**31) % 2**32 - 2**31
        return (hashed >> 1) >= round((0.5 - p) * 2**31)

    keys = torch.tensor([0, 1, KEY_RANGE - 1, *keys_for(5).tolist()])
    found = dropped(keys, 0.3, 40, 30, calls=60)  # beyond the smallest table of words
    for call in (0, 1, 59):
        for member, key in enumerate(keys.tolist()):
            expected = [is_dropped(key, call * 1200 + place, 0.3) for place in range(1200)]
            assert found[call, member].flatten().tolist() == expected


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.85])
def test_every_element_is_dropped_with_the_probability_and_by_itself(p: float):
    members, elements = 3000, 500
    z = standardized(dropped(keys_for(members), p, elements)[0], p)
    of_elements, of_masks = z.sum(0) / math.sqrt(members), z.sum(1) / math.sqrt(elements)
    assert abs(z.mean()) * math.sqrt(z.numel()) < 4
    assert of_elements.abs().max() < 4.5 and of_masks.abs().max() < 5.5
    assert abs(of_elements.var() - 1) < 5 * math.sqrt(2 / elements)  # chi-square / degrees of freedom
    assert abs(of_masks.var() - 1) < 5 * math.sqrt(2 / members)


def test_no_two_elements_are_dropped_together_more_often_than_by_chance():
    members, elements = 4000, 600
    z = standardized(dropped(keys_for(members), 0.5, 20, 30)[0], 0.5).view(members, elements)
    together = (z.T @ z / math.sqrt(members))[tuple(torch.triu_indices(elements, elements, 1))]
    assert together.abs().max() < 6  # of 180 thousand pairs
    assert abs(together.var() - 1) < 0.02


def test_rows_and_columns_vary_as_independent_elements_would():
    z = standardized(dropped(keys_for(2000), 0.2, 32, 64)[0], 0.2)
    for along, length in ((1, 32), (2, 64)):
        sums = z.sum(along) / math.sqrt(length)
        assert abs(sums.var() - 1) < 5 * math.sqrt(2 / sums.numel())


def test_calls_steps_members_and_neighbours_are_uncorrelated():
    p, steps, members = 0.3, 40, 8
    keys = torch.cat([keys_for(members, "epoch", step) for step in range(steps)])
    z = standardized(dropped(keys, p, 1000, calls=3), p).view(3, steps, members, 1000)
    pairs = {
        "calls": (z[:-1], z[1:]),
        "distant calls": (z[0], z[2]),
        "steps": (z[:, :-1], z[:, 1:]),
        "members": (z[:, :, :-1], z[:, :, 1:]),
        "neighbours": (z[..., :-1], z[..., 1:]),
        "second neighbours": (z[..., :-2], z[..., 2:]),
        "halves": (z[..., :512], z[..., 488:]),
    }
    for name, (first, second) in pairs.items():
        assert abs((first * second).mean()) * math.sqrt(first.numel()) < 4.5, name


# On what it does not depend


@pytest.mark.parametrize("count", [2, 3, 7, 33])
def test_a_member_has_the_same_bits_in_any_group_and_place(count: int):
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Tanh(), nn.AlphaDropout(0.4)), nn.Dropout1d(0.5))
    key, x = keys_for(1, "mine"), torch.randn(4, 5, 6)
    alone = drawn(model, key.repeat(2), torch.stack([x, x]))[0]
    for place in {0, 1, count // 2, count - 1}:
        keys, inputs = keys_for(count, "others"), torch.randn(count, 4, 5, 6)
        keys[place], inputs[place] = key[0], x
        assert torch.equal(drawn(model, keys, inputs)[place], alone)


def test_the_same_key_draws_the_same_masks_and_another_does_not():
    keys = keys_for(3)[[0, 1, 0]]
    masks = dropped(keys, 0.5, 200, calls=2)
    assert torch.equal(masks[:, 0], masks[:, 2])
    assert not torch.equal(masks[:, 0], masks[:, 1])
    assert torch.equal(masks, dropped(keys, 0.5, 200, calls=2))


def test_memory_layout_and_kind_of_number_do_not_matter():
    keys, x = keys_for(3), torch.randn(3, 6, 4, 5).abs() + 1
    expected = drawn(F.dropout, keys, x) == 0
    laid_out = x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    assert torch.equal(drawn(F.dropout, keys, laid_out) == 0, expected)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        found = drawn(F.dropout, keys, x.to(dtype))
        assert found.dtype == dtype
        assert torch.equal(found == 0, expected)


def test_a_stack_with_its_members_last_in_memory_drops_the_same():
    def one(key: Tensor, x: Tensor) -> Tensor:
        with MemberDropout(key):
            return F.dropout(x)

    keys, x = keys_for(3), torch.ones(3, 6, 4, 5)
    assert torch.equal(vmap(one, in_dims=(0, 3))(keys, x.movedim(0, 3)), drawn(F.dropout, keys, x))


def test_torchs_own_generator_is_left_alone():
    before = torch.get_rng_state()
    dropped(keys_for(2), 0.5, 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_draw_without_disturbing_each_other():
    keys = [keys_for(3, part) for part in range(4)]
    expected = [dropped(of, 0.3, 300, calls=4) for of in keys]
    with ThreadPoolExecutor(4) as workers:
        for _ in range(5):
            found = list(workers.map(lambda of: dropped(of, 0.3, 300, calls=4), keys))
            assert all(map(torch.equal, found, expected))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_drops_the_same():
    keys, x = keys_for(5), torch.randn(5, 300, 70)
    for p in (0.1, torch.tensor(0.37, dtype=torch.float64)):
        on_gpu = drawn(lambda x, p=p: F.dropout(F.dropout(x, p), p), keys.cuda(), x.cuda())
        assert torch.equal(on_gpu.cpu(), drawn(lambda x, p=p: F.dropout(F.dropout(x, p), p), keys, x))


# What it does


def test_what_is_kept_is_scaled_and_gradients_go_the_same_way():
    x = torch.randn(3, 8, 9, requires_grad=True)
    found = drawn(lambda x: F.dropout(x, 0.3), keys_for(3), x)
    kept = found != 0
    assert torch.equal(found, torch.where(kept, x * torch.tensor(1 / 0.7), 0.0))
    weights = torch.randn(3, 8, 9)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    assert torch.equal(gradient, torch.where(kept, weights * torch.tensor(1 / 0.7), 0.0))


def test_a_model_of_nested_modules_equals_its_members_with_these_masks():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))

        def forward(self, x: Tensor) -> Tensor:
            return x + F.dropout(self.inner(x), 0.2, self.training)

    def by_hand(model: nn.Sequential, x: Tensor, masks: list[Tensor]) -> Tensor:
        for block in model:
            x = x + masks.pop(0) * (masks.pop(0) * block.inner[0](x))
        return x

    models = [nn.Sequential(Block(), Block()).double() for _ in range(4)]
    parameters, buffers = stack_module_state(models)
    keys, x = keys_for(4), torch.randn(4, 10, 6, dtype=torch.float64)
    found = drawn(lambda p, b, x: functional_call(models[0], (p, b), (x,)), keys, parameters, buffers, x)
    gradients = torch.autograd.grad(found.square().sum(), list(parameters.values()))

    ones = torch.ones_like(x)
    masks = drawn(lambda x: [F.dropout(x, p) for p in (0.5, 0.2, 0.5, 0.2)], keys, ones)
    for number, model in enumerate(models):
        inner_first = [masks[call][number] for call in (1, 0, 3, 2)]
        expected = by_hand(model, x[number], inner_first)
        torch.testing.assert_close(found[number], expected, rtol=1e-12, atol=1e-12)
        of_model = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
        for stacked, own in zip(gradients, of_model, strict=True):
            torch.testing.assert_close(stacked[number], own, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dropout", [F.dropout, F.alpha_dropout, F.dropout1d, F.feature_alpha_dropout])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_member_may_have_its_own_probability(dropout: Forward, dtype: torch.dtype):
    rates = [0.1, 0.5, 0.93, 1.0]
    keys, x = keys_for(4), torch.randn(4, 40, 6, dtype=dtype, requires_grad=True)
    found = drawn(lambda x, p: dropout(x, p, training=True), keys, x, torch.tensor(rates, dtype=torch.float64))
    (gradients,) = torch.autograd.grad(found.sum(), x)
    for number, p in enumerate(rates):
        shared = drawn(lambda x, p=p: dropout(x, p, training=True), keys, x)
        assert torch.equal(found[number], shared[number])
        assert torch.equal(gradients[number], torch.autograd.grad(shared.sum(), x)[0][number])


def test_a_member_of_probability_0_keeps_all():
    x = torch.randn(2, 200_000)
    found = drawn(F.dropout, keys_for(2), x, torch.tensor([0.0, 0.5]))
    assert torch.equal(found[0], x[0])
    assert not torch.equal(found[1], x[1])


def test_out_of_training_and_with_probability_0_nothing_happens_and_1_drops_all():
    keys, x = keys_for(2), torch.randn(2, 50, requires_grad=True)
    model = nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.5))
    assert torch.equal(drawn(model.eval(), keys, x), x)
    assert torch.equal(drawn(lambda x: F.dropout(F.dropout(x, 0.0), 0.5, False), keys, x), x)
    for dropout in (F.dropout, F.alpha_dropout):
        none = drawn(lambda x, dropout=dropout: dropout(x, 1.0, training=True), keys, x)
        assert torch.equal(none, torch.zeros_like(x))
        assert torch.equal(torch.autograd.grad(none.sum(), x)[0], torch.zeros_like(x))


def test_not_a_number_stays_where_it_was_and_with_its_member():
    x = torch.randn(3, 100)
    x[1, ::7] = math.nan
    for dropout in (F.dropout, F.alpha_dropout):
        found = drawn(lambda x, dropout=dropout: dropout(x, 0.5, training=True), keys_for(3), x)
        assert torch.equal(found.isnan(), x.isnan())


def test_in_place_dropout_writes_into_its_input():
    keys, x = keys_for(2), torch.randn(2, 60)

    def in_place(x: Tensor) -> tuple[Tensor, Tensor]:
        copy = x * 1
        return copy, nn.Dropout(0.4, inplace=True)(copy)

    written, given = drawn(in_place, keys, x)
    assert torch.equal(written, given)
    assert torch.equal(given, drawn(lambda x: F.dropout(x, 0.4), keys, x))
    assert torch.equal(given, drawn(lambda x: torch.dropout_(x * 1, 0.4, True), keys, x))


@pytest.mark.parametrize(
    ("module", "shape", "of_channel"),
    [
        (nn.Dropout1d(0.5), (6, 7, 9), (6, 7)),
        (nn.Dropout1d(0.5), (40, 9), (40,)),
        (nn.Dropout2d(0.5), (6, 7, 3, 4), (6, 7)),
        (nn.Dropout3d(0.5), (6, 7, 3, 2, 2), (6, 7)),
        (nn.Dropout3d(0.5), (40, 3, 2, 2), (40,)),
        (nn.FeatureAlphaDropout(0.5), (6, 7, 3, 4), (6, 7)),
    ],
)
def test_channels_are_dropped_whole(module: nn.Module, shape: tuple[int, ...], of_channel: tuple[int, ...]):
    found = drawn(module, keys_for(3), torch.zeros(3, *shape) + 2.0).view(3, math.prod(of_channel), -1)
    assert torch.equal(found.amin(2), found.amax(2))
    low, high = found.unique().tolist()
    assert 0.3 < (found == low).float().mean() < 0.7
    if not isinstance(module, nn.FeatureAlphaDropout):
        assert (low, high) == (0.0, 4.0)


def test_alpha_dropout_keeps_mean_and_variance_and_drops_to_the_saturation_of_selu():
    p, x = 0.3, torch.randn(4, 50_000)
    found = drawn(nn.AlphaDropout(p), keys_for(4), x)
    assert found.mean(1).abs().max() < 0.03
    assert (found.var(1) - 1).abs().max() < 0.03
    low = nn.functional.selu(torch.tensor(-100.0)).item()
    scale = 1 / math.sqrt((1 - p) * (1 + p * low**2))
    at_low = (found - scale * (low - p * low)).abs() < 1e-6
    assert abs(at_low.float().mean() - p) < 0.01
    torch.testing.assert_close(found[~at_low], scale * (x[~at_low] - p * low), rtol=1e-5, atol=1e-6)


# Attention


@pytest.mark.parametrize("options", ["plain", "causal", "boolean", "added", "scaled", "grouped"])
def test_attention_drops_weights_and_scales_the_rest(options: str):
    """With the identity for values, attention gives its weights."""
    places = torch.arange(5)
    allowed = (places[:, None] + 2 * places) % 3 != 0
    allowed[2] = False  # a query that sees nothing
    given: dict[str, Any] = {
        "plain": {},
        "causal": {"is_causal": True},
        "boolean": {"attn_mask": allowed},
        "added": {"attn_mask": torch.randn(5, 5).masked_fill(~allowed, -math.inf)},
        "scaled": {"scale": 0.7},
        "grouped": {"enable_gqa": True},
    }[options]
    query, key = (
        torch.randn(3, 2, 4, 5, 8, requires_grad=True),
        torch.randn(3, 2, 2 if given.get("enable_gqa") else 4, 5, 8),
    )
    value = torch.eye(5).expand(*key.shape[:-1], 5)

    weights = F.scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), **given)
    weights = weights.view(3, 2, 4, 5, 5)
    found = drawn(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.25, **given), keys_for(3), query, key, value
    )
    kept = (found != 0) | (weights == 0)
    assert 0.1 < 1 - kept.float().mean() < 0.35
    torch.testing.assert_close(found, torch.where(kept, weights / 0.75, 0.0))
    (gradient,) = torch.autograd.grad(found.square().sum(), query)
    assert gradient.isfinite().all()


def test_attention_takes_a_mask_or_is_causal_as_torch_has_it():
    x = torch.randn(2, 1, 4, 8)
    with pytest.raises(ValueError, match="not both"):
        drawn(
            lambda x: F.scaled_dot_product_attention(x, x, x, torch.zeros(4, 4), dropout_p=0.5, is_causal=True),
            keys_for(2),
            x,
        )


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_drops_its_weights(need_weights: bool):
    """One head whose values are the identity, so that it gives its weights."""
    attention = nn.MultiheadAttention(6, 1, dropout=0.4, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight[12:] = torch.eye(6)
        attention.out_proj.weight.copy_(torch.eye(6))
    x, value = torch.randn(3, 7, 6, 6), torch.eye(6).expand(3, 7, 6, 6)

    def forward(x: Tensor, value: Tensor) -> Tensor:
        return attention(x, x, value, need_weights=need_weights)[0]

    found = drawn(forward, keys_for(3), x, value)
    with torch.no_grad():
        weights = attention.eval()(x.flatten(0, 1), x.flatten(0, 1), value.flatten(0, 1))[0].view_as(found)
    kept = found != 0
    assert abs(kept.float().mean() - 0.6) < 0.08
    torch.testing.assert_close(found, torch.where(kept, weights / 0.6, 0.0))


def test_a_transformer_layer_trains_with_dropout_and_agrees_with_itself_on_average():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True).double()
    x = torch.randn(1, 3, 5, 8, dtype=torch.float64)
    found = drawn(layer, keys_for(4000), x.expand(4000, -1, -1, -1))
    with torch.no_grad():
        torch.manual_seed(0)
        expected = layer(x[0].repeat(4000, 1, 1)).view(4000, 3, 5, 8)
    spread = found.std(0) / math.sqrt(4000)
    assert (found.mean(0) - expected.mean(0)).div(spread).abs().max() < 6
    assert (found.std(0) / expected.std(0) - 1).abs().max() < 0.12
    gradients = torch.autograd.grad(found.sum(), list(layer.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


# What stays torch's


def test_other_randomness_still_raises():
    layers = nn.LSTM(4, 3, num_layers=2, dropout=0.5)
    for random in (
        lambda x: x + torch.rand(4),
        lambda x: torch.bernoulli(x.sigmoid()),
        lambda x: torch.native_dropout(x, 0.5, True)[0],
        lambda x: layers(x)[0],
    ):
        with pytest.raises(RuntimeError, match=r"random operation|Batching rule"):
            drawn(random, keys_for(2), torch.randn(2, 3, 4))


def test_impossible_arguments_are_refused_as_torch_does():
    for dropout in (F.dropout, F.alpha_dropout, F.dropout1d):
        with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
            drawn(lambda x, dropout=dropout: dropout(x, 1.5, True), keys_for(2), torch.randn(2, 3, 4))
    with pytest.raises(RuntimeError, match="dropout1d: Expected 2D or 3D input"):
        drawn(F.dropout1d, keys_for(2), torch.randn(2, 3))
    with pytest.warns(UserWarning, match="dropout2d: Received a 2-D input"):
        drawn(F.dropout2d, keys_for(2), torch.randn(2, 3, 4))
