"""Which models an optimizer can train: some take matrices only, one rate only, sparse gradients only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from tuner.errors import SearchSpaceError

MOST_LISTED = 8
"""Parameters that an error lists."""


def check_groups(name: str, groups: Iterable[Any]) -> None:
    """Raise `SearchSpaceError` for several groups of an optimizer that trains all parameters as one (LBFGS)."""
    parts = [f"'{group['part']}'" if group["part"] else "the rest" for group in groups]
    if name == "LBFGS" and len(parts) > 1:
        raise SearchSpaceError(
            f"LBFGS trains all parameters as one, at one rate, and these make {len(parts)} groups: {', '.join(parts)}",
            place="lr_multipliers",
            hint="Leave lr_multipliers out, or take another optimizer.",
        )


def check_model(name: str, model: nn.Module) -> None:
    """Raise `SearchSpaceError` for a model with parameters that the optimizer `name` cannot train.

    Muon takes matrices only. SparseAdam takes parameters with sparse gradients only; those of torch's own layers
    are known, a user's own layers are left to prove themselves.
    """
    if name == "Muon":
        _refuse(
            [entry for entry in _trainable(model) if entry[1].ndim != 2],
            "Muon trains matrices only, and these parameters are none",
            "It is for models of linear layers without biases. Freeze the others with requires_grad_(False), or take "
            "another optimizer, such as AdamW.",
        )
    if name == "SparseAdam":
        sparse = _with_sparse_gradients(model)
        _refuse(
            [entry for entry in _of_torchs_layers(model) if id(entry[1]) not in sparse],
            "SparseAdam trains parameters with sparse gradients only, and these have dense ones",
            "It is for models of nn.Embedding(..., sparse=True); take Adam for this one.",
        )


def _refuse(parameters: list[tuple[str, nn.Parameter]], rule: str, hint: str) -> None:
    if not parameters:
        return
    shown = [f"{name} ({' x '.join(map(str, entry.shape)) or 'scalar'})" for name, entry in parameters[:MOST_LISTED]]
    more = f", and {len(parameters) - MOST_LISTED} more" if len(parameters) > MOST_LISTED else ""
    raise SearchSpaceError(f"{rule}: {', '.join(shown)}{more}", place="optimizer", hint=hint)


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _with_sparse_gradients(model: nn.Module) -> set[int]:
    kinds = (nn.Embedding, nn.EmbeddingBag)
    return {id(module.weight) for module in model.modules() if isinstance(module, kinds) and module.sparse}


def _of_torchs_layers(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The trainable parameters that layers of `torch.nn` itself hold, by name."""
    return [
        (f"{path}.{name}" if path else name, parameter)
        for path, module in model.named_modules()
        if type(module).__module__.startswith("torch.nn")
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
