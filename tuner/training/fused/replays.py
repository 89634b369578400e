"""Replays: recordings as functions that run, as a script of torch's or, where that cannot be, as Python.

A script runs without Python: its operations take a fraction of the time to call, and threads do not wait for each
other. It is compiled from a text of one line an operation, which takes about 0.1 ms a line.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from tuner.training.fused.recording import Call, Recording, Rows, Value
from tuner.training.fused.vectors import REMEDIES, end_of, laid_out, mended, pointwise

aten = torch.ops.aten

Replay = Callable[..., list[Tensor | None]]
"""A function of the number of rows and the inputs that does what was recorded."""

HELPERS = "".join(inspect.getsource(function) for function in (laid_out, end_of, mended))
"""Parts of scripts; read at once, as the file may change while this runs."""

DIRECT: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add,
    aten.bmm.default: torch.bmm,
    aten.cat.default: torch.cat,
    aten.div.Tensor: torch.div,
    aten.expand.default: Tensor.expand,
    aten.mul.Tensor: torch.mul,
    aten.permute.default: torch.permute,
    aten.select.int: torch.select,
    aten.stack.default: torch.stack,
    aten.sub.Tensor: torch.sub,
    aten.sum.dim_IntList: torch.sum,
    aten.transpose.int: torch.transpose,
    aten.unsqueeze.default: torch.unsqueeze,
    aten.view.default: Tensor.view,
}
"""Frequent operators by torch's other name for them, under which Python takes half as long to call them."""


def as_python(recording: Recording) -> Replay:
    """The recording as a function in Python."""
    names: dict[str, Any] = {}
    numbers = count()

    def named(value: Any, prefix: str) -> str:
        name = f"{prefix}{next(numbers)}"
        names[name] = value
        return name

    def written(value: Any) -> str:
        if isinstance(value, Value):
            if value.number < 0:
                return f"i{-1 - value.number}"
            return f"v{value.number}[{value.entry}]" if recording.calls[value.number].several else f"v{value.number}"
        if isinstance(value, Rows):
            return f"rows * {value.times}"
        if value is None or type(value) in (bool, int):
            return repr(value)
        if isinstance(value, (list, tuple)):
            entries = "".join(f"{written(entry)}, " for entry in value)
            return f"[{entries}]" if isinstance(value, list) else f"({entries})"
        return named(value, "c")

    last = _last_uses(recording)
    lines = []
    for number, call in enumerate(recording.calls):
        arguments = [written(argument) for argument in call.arguments]
        arguments += [f"{name}={written(argument)}" for name, argument in call.options.items()]
        function = named(DIRECT.get(call.function, call.function), "f")
        lines.append(f"v{number} = {function}({', '.join(arguments)})")
        dead = [f"v{value}" for value in last.get(number, ())]
        if dead:
            lines.append(f"del {', '.join(dead)}")
    given = "".join(f"i{place}=None, " for place in range(_inputs(recording)))
    outputs = ", ".join(written(value) for value in recording.outputs)
    source = (
        f"def replay(rows, {given}*_):\n" + "".join(f"    {line}\n" for line in lines) + f"    return [{outputs}]\n"
    )
    exec(compile(source, "<recording>", "exec"), names)  # what is written here, from torch's own operators
    replay: Replay = names["replay"]
    return replay


def _last_uses(recording: Recording) -> dict[int, list[int]]:
    """By operation, of which operations' results it is the last to need any; none that are outputs."""
    last = {number: number for number in range(len(recording.calls))}
    for number, call in enumerate(recording.calls):
        last.update({value.number: number for value in _values(call) if value.number >= 0})
    kept = {value.number for value in recording.outputs if value is not None}
    found: dict[int, list[int]] = {}
    for earlier, number in last.items():
        if earlier not in kept:
            found.setdefault(number, []).append(earlier)
    return found


def as_script(recording: Recording) -> Replay | None:
    """The recording as a script; None where it cannot be one."""
    writer = _Writer(recording)
    try:
        script = torch.jit.CompilationUnit(writer.text()).replay
    except (RuntimeError, _UnwritableError):  # an operator or argument that scripts do not know
        return None
    inputs, constants = _inputs(recording), writer.constants
    present = [value is not None for value in recording.outputs]

    def replay(rows: int, *tensors: Tensor) -> list[Tensor | None]:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            found = script(rows, *tensors[:inputs], *constants)
        if len(found) == len(present):
            return found  # type: ignore[no-any-return]
        given = iter(found)
        return [next(given) if there else None for there in present]

    return replay


class _UnwritableError(Exception):
    """Says that a script has no words for an argument."""


class _Writer:
    """Writes a recording as a script; its `constants` are tensors, the script's last arguments."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._lines: list[str] = []
        self.constants: list[Tensor] = []

    def text(self) -> str:
        outputs = self._recording.outputs
        for number, call in enumerate(self._recording.calls):
            self._lines.append(self._line(number, call))
        found = ", ".join(self._value(value) for value in outputs if value is not None)
        names = [f"i{place}" for place in range(_inputs(self._recording))]
        names += [f"c{place}" for place in range(len(self.constants))]
        given = "".join(f", {name}: Tensor" for name in names)
        return f"{HELPERS}def replay(rows: int{given}):\n    " + "\n    ".join((*self._lines, f"return [{found}]\n"))

    def _line(self, number: int, call: Call) -> str:
        schema = call.function._schema
        namespace, _, name = call.function._name.partition("::")
        types = {argument.name: argument.type for argument in schema.arguments}
        operands = [str(kind) == "Tensor" for kind in types.values()]
        values = list(call.arguments)
        if schema.name == "aten::_to_copy" and isinstance(values[0], (int, float)):  # elsewhere, numbers choose no type
            values[0] = torch.tensor(values[0])
        given = [self._written(value, kind) for value, kind in zip(values, types.values(), strict=False)]
        options = [f"{name}={self._written(value, types[name])}" for name, value in call.options.items()]
        results = ", ".join(self._name(number, entry) for entry in range(len(schema.returns))) or "_"
        operator = f"torch.ops.{schema.name.replace('::', '.')}"
        if namespace == "aten" or REMEDIES[name][0].apply is not pointwise:
            return f"{results} = {operator}({', '.join(given + options)})"
        own = operator.replace(".tuner.", ".aten.")
        tensors = [value for value, is_tensor in zip(given, operands, strict=False) if is_tensor]
        self._lines.append(f"o{number} = laid_out([{', '.join(tensors)}])")
        places = iter(range(len(tensors)))
        given = [f"o{number}[{next(places)}]" if kind else value for value, kind in zip(given, operands, strict=False)]
        ends = [f"end_of({value})" if kind else value for value, kind in zip(given, operands, strict=False)]
        return f"{results} = mended({own}({', '.join(given + options)}), {own}({', '.join(ends + options)}))"

    def _name(self, number: int, entry: int) -> str:
        schema = self._recording.calls[number].function._schema
        return f"v{number}_{entry}" if len(schema.returns) > 1 else f"v{number}"

    def _value(self, value: Value) -> str:
        if value.number < 0:
            return f"i{-1 - value.number}"
        call = self._recording.calls[value.number]
        if call.several and len(call.function._schema.returns) == 1:  # a list
            return f"v{value.number}[{value.entry}]"
        return self._name(value.number, value.entry)

    def _written(self, value: Any, kind: Any) -> str:
        if isinstance(value, Value):
            return self._value(value)
        if isinstance(value, Rows):
            return f"rows * {value.times}"
        if isinstance(value, Tensor):
            self.constants.append(value)
            return f"c{len(self.constants) - 1}"
        if isinstance(value, (list, tuple)):
            entries = ", ".join(self._written(entry, None) for entry in value)
            if value and None not in value:
                return f"[{entries}]"
            name = f"l{len(self._lines)}"  # a list whose type its entries do not tell
            self._lines.append(f"{name}: {kind.annotation_str} = [{entries}]")
            return name
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        if value is None or type(value) in (bool, int, float, str):
            return repr(value)
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
            return str(value)
        if isinstance(value, torch.device):
            return f"torch.device('{value}')"
        raise _UnwritableError(value)


def _inputs(recording: Recording) -> int:
    """How many inputs it uses, or has before one that it uses."""
    used = [value for call in recording.calls for value in _values(call)]
    return max((-value.number for value in (*used, *recording.outputs) if value is not None), default=0)


def _values(call: Call) -> Iterator[Value]:
    leaves, _ = tree_flatten((call.arguments, call.options))
    return (leaf for leaf in leaves if isinstance(leaf, Value))
