"""What each parameter does to a response over trials: tests, shares of the variance, and where it is best.

The response (normal scores, see scores.py) is modelled as a sum of terms, by least squares: a number's position in its
range and the square of that, a category's levels. Parameters come in one by one, the surest first, and each is tested
given the others that matter: samplers that learn go for several good values at once, so that what does nothing comes
to go together with what does.

Sources: G. E. P. Box, K. B. Wilson, On the Experimental Attainment of Optimum Conditions, J. R. Stat. Soc. B 13 (1951),
for the second-order model; S. Holm (see significance.py) for tests of several parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from tuner.analysis.factors import TRIALS_A_TERM, Factor, Floats, product, product_terms
from tuner.analysis.significance import holm

SURE = 0.01
"""An effect that chance would make no more often than this, in any of the parameters, is one."""

FEWEST = 10
"""Trials below which no effect is looked for."""

MOST_EQUAL = 0.5
"""Where more trials than this share have one response, a few others would decide all."""


@dataclass(frozen=True)
class Effect:
    """What a parameter does to the response, given the others that matter.

    `p` is adjusted for the number of parameters (Holm), `share` the part of the response's variance (0 to 1) that its
    terms take, `most` the largest that it may truly be, with 95 % confidence. `best` is the position from -1 to 1 where
    the fitted response is highest, None for a category; `rise` how much higher it is there than at the worst.
    """

    name: str
    p: float
    share: float
    most: float
    sure: bool
    best: float | None = None
    rise: float = 0.0


@dataclass(frozen=True)
class PairEffect:
    """How much better two parameters' product explains the response than each for itself; as in `Effect`."""

    first: str
    second: str
    p: float
    share: float
    sure: bool


Pair = tuple[str, str]


@dataclass(frozen=True)
class EffectModel:
    """Effects of parameters on one response over `trials`.

    `factors` stand for the parameters that vary; `found` names those whose effect is sure, `joined` the pairs. The
    `response` (rows,), the parameters' `terms` and the pairs' `products` (rows x terms) have the inner products that
    they have over the trials, in fewer rows where there are many trials.
    """

    trials: int
    response: Floats
    factors: Mapping[str, Factor]
    terms: Mapping[str, Floats]
    products: Mapping[Pair, Floats]
    found: tuple[str, ...] = ()
    joined: tuple[Pair, ...] = ()

    def given(self, without: str = "", but: Pair | None = None) -> list[Floats]:
        """The terms of all that is found, less a parameter's own, or less a pair's product."""
        names = dict.fromkeys([*self.found, *(name for pair in self.joined for name in pair)])
        products = [self.products[pair] for pair in self.joined if pair != but]
        return [*(self.terms[name] for name in names if name != without), *products]

    @cached_property
    def explained(self) -> float:
        """The share of the response's variance (0 to 1) that all that is found explains."""
        base = _basis(np.concatenate([*self.given(), self.response[:, None][:, :0]], axis=1))
        return float(((base.T @ self.response) ** 2).sum() / max(float(self.response @ self.response), 1e-300))

    @cached_property
    def tests(self) -> dict[str, TermTest]:
        """Of each parameter given the others that are found; those for which there are enough trials."""
        found = {name: self._added(self.given(without=name), self.terms[name]) for name in self.factors}
        return {name: tested for name, tested in found.items() if tested is not None}

    @cached_property
    def pair_tests(self) -> dict[Pair, TermTest]:
        """Of each pair's product, given both parameters and all else that is found."""
        found = {pair: self._pair_test(pair) for pair in self.products}
        return {pair: tested for pair, tested in found.items() if tested is not None}

    def _pair_test(self, pair: Pair) -> TermTest | None:
        both = [self.terms[name] for name in pair]
        return self._added([*self.given(but=pair), *both], self.products[pair])

    def _added(self, given: Sequence[Floats], terms: Floats) -> TermTest | None:
        """What terms add to a model of others; None where there are too few trials for them."""
        from scipy.special import fdtrc

        response = self.response
        base = _basis(np.concatenate([*given, terms[:, :0]], axis=1))
        rest = response - base @ (base.T @ response)
        added = _basis(terms - base @ (base.T @ terms))
        freedom, spare = added.shape[1], self.trials - 1 - base.shape[1] - added.shape[1]
        if not freedom or spare < max(3, self.trials // 4):
            return None
        taken = float(((added.T @ rest) ** 2).sum())
        total, left = float(response @ response), float(rest @ rest) - taken
        if left <= 1e-12 * total:
            return TermTest(0.0, taken / total, taken / total)
        ratio = (taken / freedom) / (left / spare)
        most = max(taken / total, _most(ratio, freedom, spare) * (taken + left) / total)  # never less than was seen
        return TermTest(float(fdtrc(freedom, spare, ratio)), taken / total, most)

    @cached_property
    def effects(self) -> dict[str, Effect]:
        """The parameters' effects by name."""
        adjusted = dict(zip(self.tests, holm([entry.p for entry in self.tests.values()]), strict=True))
        effects: dict[str, Effect] = {}
        for name, tested in self.tests.items():
            best, rise = _best_position(self, name)
            sure = name in self.found
            effects[name] = Effect(name, adjusted[name], tested.share, tested.most, sure, best, rise)
        return effects

    @cached_property
    def pairs(self) -> tuple[PairEffect, ...]:
        """Interactions, the surest first."""
        adjusted = holm([entry.p for entry in self.pair_tests.values()])
        found = [
            PairEffect(first, second, p, entry.share, p <= SURE)
            for ((first, second), entry), p in zip(self.pair_tests.items(), adjusted, strict=True)
        ]
        return tuple(sorted(found, key=lambda entry: (entry.p, -entry.share)))


@dataclass(frozen=True)
class TermTest:
    """An F test: its p, the share of the variance that the tested terms take, and the most that it may be."""

    p: float
    share: float
    most: float


def fitted(scores: pd.Series[float], factors: Sequence[Factor]) -> EffectModel:
    """The model of a response, NaN-free, by parameters; without any where there are too few trials."""
    kept = {entry.name: entry for entry in factors if entry.terms.shape[1]}
    response: Floats = np.array(scores, dtype=np.float64)
    response -= response.mean() if len(response) else 0.0
    _, counts = np.unique(response, return_counts=True)
    if len(response) < FEWEST or not kept or counts.max() > MOST_EQUAL * len(response):
        return EffectModel(len(response), response, {}, {}, {})
    terms = {name: entry.terms for name, entry in kept.items()}
    products = {
        (first.name, second.name): product(first, second)
        for first, second in itertools.combinations(kept.values(), 2)
        if product_terms(first, second) * TRIALS_A_TERM <= len(response)
    }
    model = EffectModel(len(response), *_compressed(response, kept, terms, products))
    while (larger := _with_another(model)) is not None:
        model = larger
    while (smaller := _without_one(model)) is not None:
        model = smaller
    return model


def _with_another(model: EffectModel) -> EffectModel | None:
    """The model with the surest parameter that is not in it, or if none is sure, with the surest pair."""
    name = _surest(model.tests, [name for name in model.factors if name not in model.found])
    if name is not None:
        return replace(model, found=(*model.found, name))
    pair = _surest(model.pair_tests, [pair for pair in model.products if pair not in model.joined])
    return None if pair is None else replace(model, joined=(*model.joined, pair))


def _without_one(model: EffectModel) -> EffectModel | None:
    """The model without a parameter that is no longer sure, now that others are in it."""
    if len(model.found) < 2:
        return None
    chances = {name: model.tests[name].p for name in model.found if name in model.tests}
    worst = max(chances, key=lambda name: chances[name], default=None)
    if worst is None or chances[worst] * len(model.factors) <= SURE:
        return None
    return replace(model, found=tuple(name for name in model.found if name != worst))


def _compressed(
    response: Floats, factors: Mapping[str, Factor], terms: Mapping[str, Floats], products: Mapping[Pair, Floats]
) -> tuple[Floats, Mapping[str, Factor], Mapping[str, Floats], Mapping[Pair, Floats]]:
    """The same columns in as many rows as there are columns, where trials are more: by a QR decomposition."""
    blocks = [response[:, None], *terms.values(), *products.values()]
    ends = np.cumsum([block.shape[1] for block in blocks])
    if len(response) <= 2 * int(ends[-1]):
        return response, factors, terms, products
    triangle = np.linalg.qr(np.concatenate(blocks, axis=1)).R
    parts = iter(np.split(triangle, ends[:-1], axis=1))
    return next(parts)[:, 0], factors, {name: next(parts) for name in terms}, {pair: next(parts) for pair in products}


Key = TypeVar("Key")


def _surest(tests: Mapping[Key, TermTest], among: Sequence[Key]) -> Key | None:
    """The one of several that chance would least give, if it is sure."""
    told = {key: tests[key].p for key in among if key in tests}
    best = min(told, key=lambda key: told[key], default=None)
    return best if best is not None and told[best] * len(among) <= SURE else None


def _most(ratio: float, freedom: int, spare: int) -> float:
    """The upper 95 % bound of the share of variance behind an F ratio, by the noncentral F distribution."""
    from scipy.special import ncfdtrinc

    noncentrality = float(ncfdtrinc(freedom, spare, 0.05, max(ratio, 1e-6)))
    if not math.isfinite(noncentrality) or noncentrality < 0:
        return 1.0
    return noncentrality / (noncentrality + freedom + spare + 1)


def _basis(terms: Floats) -> Floats:
    """Orthonormal columns that span the terms; what depends on others is left out."""
    if not terms.shape[1]:
        return terms
    scale = np.linalg.norm(terms, axis=0)
    wide = terms[:, scale > 1e-9]
    if not wide.shape[1]:
        return wide
    basis, triangle = np.linalg.qr(wide / np.linalg.norm(wide, axis=0))
    return np.asarray(basis[:, np.abs(np.diag(triangle)) > 1e-7], dtype=np.float64)


def _best_position(model: EffectModel, name: str) -> tuple[float | None, float]:
    """Where a number's fitted response is highest, and by how much over where it is lowest."""
    own = model.factors[name]
    if own.position is None:
        return None, 0.0
    terms = np.concatenate([model.terms[name], *model.given(without=name)], axis=1)
    weights = np.linalg.lstsq(terms, model.response, rcond=None)[0]
    curve = weights[: own.terms.shape[1]][-2 if own.squared else -1 :]
    reached = own.position[np.isfinite(own.position)]
    grid = np.linspace(reached.min(), reached.max(), 101)
    heights = curve[0] * grid + (curve[1] * grid**2 if len(curve) > 1 else 0.0)
    return float(grid[int(np.argmax(heights))]), float(np.ptp(heights))
