"""A control on the page: a slider with a field, a choice, or a switch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from nicegui import ui

from tuner.live.controls import Control, Value

PLACES = 1000
"""Places that a slider can stand at, beside its first."""

Ask = Callable[[str, object], None]
"""Called with a control's name and the value that a person wants."""


def place_of(control: Control, value: float) -> int:
    """Where a slider stands for a value; at an end for one beyond it."""
    low, high = control.low, control.high
    value = min(max(value, low), high)
    if control.scale == "log":
        share = math.log(value / low) / math.log(high / low)
    else:
        share = (value - low) / (high - low)
        if control.scale == "cubic":
            share = share ** (1 / 3)
    return round(PLACES * share)


def value_at(control: Control, place: float) -> Value:
    """The value that a slider's place stands for, of three digits, or whole; the ends are exact."""
    low, high, share = control.low, control.high, place / PLACES
    if share in (0, 1):
        value = low if share == 0 else high
    elif control.scale == "log":
        value = low * (high / low) ** share
    else:
        value = low + (high - low) * (share**3 if control.scale == "cubic" else share)
    if control.whole:
        return round(value)
    return min(max(float(f"{value:.3g}"), low), high)


def shown(value: Value) -> str:
    """A value as it stands on the page."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Widget(ABC):
    """One control's elements; `show` brings them to what the control stands at."""

    def __init__(self, control: Control, ask: Ask) -> None:
        self.control, self.ask = control, ask
        self.value: Value | None = None
        self._showing = False
        with ui.column().classes("w-full gap-0") as self.box:
            self.box.props(f'data-control="{control.name}"')
            self._build()
        if control.hint:
            with self.box:
                ui.tooltip(control.hint).props('delay=600 max-width=280px anchor="center right" self="center left"')

    @abstractmethod
    def _build(self) -> None:
        """Make the elements."""

    @abstractmethod
    def _bring(self, value: Value) -> None:
        """Bring the elements to a value."""

    def show(self, value: Value, optimizer: str, again: bool = False) -> None:
        """Show a value, unless it is shown already and nothing was refused (`again`)."""
        self.box.set_visibility(not self.control.with_optimizers or optimizer in self.control.with_optimizers)
        if value != self.value or again:
            self.value, self._showing = value, True
            self._bring(value)
            self._showing = False

    def enable(self, able: bool) -> None:
        """Let it be turned, or not."""
        for element in self._elements():
            element.set_enabled(able)

    @abstractmethod
    def _elements(self) -> list[Any]:
        """What can be turned."""

    def _wish(self, value: object) -> None:
        if not self._showing and value != self.value:
            self.ask(self.control.name, value)


class NumberWidget(Widget):
    """A slider that is taken when it is let go, and a field for any number."""

    def _build(self) -> None:
        with ui.row().classes("w-full items-center no-wrap justify-between"):
            ui.label(self.control.shown).classes("text-sm")
            self.field = ui.input().props('dense borderless input-class="text-right" maxlength=24').classes("w-24")
            self.field.props(f'aria-label="{self.control.shown}"')
        self.slider = ui.slider(min=0, max=PLACES, step=1).props(f'dense aria-label="{self.control.shown}"')
        self.slider.classes("-mt-2")
        self.slider.on("update:model-value", self._moved, throttle=0.15)
        self.slider.on("change", self._let_go)
        self.field.on("keydown.enter", self._typed)
        self.field.on("blur", self._typed)

    def _elements(self) -> list[Any]:
        return [self.slider, self.field]

    def _moved(self, event: Any) -> None:
        """While it is dragged the field says what it would be."""
        if not self._showing and _is_place(event.args):
            self.field.value = shown(value_at(self.control, event.args))

    def _let_go(self, event: Any) -> None:
        if _is_place(event.args):
            self._wish(value_at(self.control, event.args))

    def _typed(self) -> None:
        text = str(self.field.value).strip()
        if self.value is not None and text == shown(self.value):
            return
        try:
            number = float(text.replace(",", ".") if text.count(",") == 1 else text)
        except ValueError:
            self._wish(text)
            return
        self._wish(int(number) if self.control.whole and number.is_integer() else number)

    def _bring(self, value: Value) -> None:
        assert not isinstance(value, str)
        self.field.value = shown(value)
        self.slider.value = place_of(self.control, value)


class ChoiceWidget(Widget):
    """A list to choose from."""

    def _build(self) -> None:
        self.select = ui.select(list(self.control.choices), label=self.control.shown).props("dense options-dense")
        self.select.classes("w-full")
        self.select.on_value_change(lambda event: self._wish(event.value))

    def _elements(self) -> list[Any]:
        return [self.select]

    def _bring(self, value: Value) -> None:
        self.select.value = value


class SwitchWidget(Widget):
    """On or off; of a choice of two, the first of which is none, too."""

    def _build(self) -> None:
        more = f" ({self.control.choices[1]})" if self.control.kind == "choice" else ""
        self.switch = ui.switch(f"{self.control.shown}{more}").props("dense")
        self.switch.on_value_change(lambda event: self._wish(self._meant(event.value)))

    def _elements(self) -> list[Any]:
        return [self.switch]

    def _meant(self, on: bool) -> object:
        return self.control.choices[int(on)] if self.control.kind == "choice" else on

    def _bring(self, value: Value) -> None:
        self.switch.value = value == self.control.choices[1] if self.control.kind == "choice" else bool(value)


def widget_for(control: Control, ask: Ask) -> Widget:
    """The widget of a control."""
    if control.kind == "number":
        return NumberWidget(control, ask)
    if control.kind == "switch" or (len(control.choices) == 2 and control.choices[0] == "none"):
        return SwitchWidget(control, ask)
    return ChoiceWidget(control, ask)


def _is_place(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= PLACES
