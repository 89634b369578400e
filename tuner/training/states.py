"""What a model and an optimizer hold while they train, taken off the device and put back, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def snapshot(value: Any) -> Any:
    """A copy of a nested value of dicts, lists and tuples, its tensors on the CPU, of which it shares no memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if type(value) is dict:
        return {key: snapshot(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(snapshot(entry) for entry in value)
    return copy.deepcopy(value)


def borrowed(value: Any) -> Any:
    """The same, but for tensors that are on the CPU already: they are shared, and good until training goes on."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu")
    return {key: borrowed(entry) for key, entry in value.items()} if type(value) is dict else snapshot(value)


def all_finite(value: Any) -> bool:
    """Whether no tensor of a nested value holds NaN or infinity."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, Mapping):
        return all(all_finite(entry) for entry in value.values())
    return all(all_finite(entry) for entry in value) if isinstance(value, (list, tuple)) else True


def model_state(model: nn.Module) -> dict[str, Any]:
    """All that a model holds: its `state_dict`, every buffer (also those outside it), which parameters are frozen."""
    return {
        "weights": snapshot(dict(model.state_dict())),
        "buffers": {path: snapshot(dict(part._buffers)) for path, part in _parts(model)},
        "frozen": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
    }


def restore_model(model: nn.Module, state: Mapping[str, Any], device: torch.device) -> None:
    """Give a model on `device` what `model_state` took from its like, whose buffers may have other shapes by then."""
    parts = dict(_parts(model))
    for path, buffers in state["buffers"].items():
        for name, saved in buffers.items():
            _restore_buffer(parts[path], name, saved, device)
    model.load_state_dict(state["weights"])
    frozen = set(state["frozen"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Let an optimizer go on from another's `state_dict`, of which it shares no memory.

    torch alone would give all numbers the parameters' type, and so round those that are kept finer (NAdam's
    `mu_product` for a bfloat16 model).
    """
    optimizer.load_state_dict(dict(state))
    optimizer._opt_called = True  # type: ignore[attr-defined]  # else a scheduler that steps first is warned of
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, saved in state["state"].items():
        optimizer.state[parameters[number]] = _exactly(saved, optimizer.state[parameters[number]])


def _exactly(saved: Any, loaded: Any) -> Any:
    """What was saved, copied to where torch has loaded it."""
    if isinstance(saved, Tensor):
        return saved.to(loaded.device, copy=True)
    if isinstance(saved, dict):
        return {key: _exactly(entry, loaded[key]) for key, entry in saved.items()}
    if isinstance(saved, (list, tuple)):
        return type(saved)(_exactly(*pair) for pair in zip(saved, loaded, strict=True))
    return saved


def _parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that have buffers of their own, by path; one that occurs twice counts once."""
    return [(path, part) for path, part in model.named_modules() if part._buffers]


def _restore_buffer(part: nn.Module, name: str, saved: Tensor | None, device: torch.device) -> None:
    """In place where it fits, as the buffer may be tied to another."""
    present = part._buffers[name]
    if present is not None and saved is not None and (present.shape, present.dtype) == (saved.shape, saved.dtype):
        present.copy_(saved)
    else:
        part._buffers[name] = None if saved is None else saved.to(device, copy=True)
