"""Sections as HTML; every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tuner.report.page.figures.figure import Figure
from tuner.report.sections import Part, Section


def section_markup(section: Section, figures: Sequence[Figure]) -> str:
    """A section: its reading, facts, plots, tables and notes."""
    loose = [text for name, text in section.facts if not name]
    named = [(name, text) for name, text in section.facts if name]
    blocks = [
        f"<h2>{escape(section.title.partition(' (')[0])}</h2>",
        f'<p class="reading">{escape(section.reading)}</p>',
        _facts(named),
        *(figure_markup(figure) for figure in figures if not figure.small),
        _side_by_side([figure for figure in figures if figure.small]),
        *(f'<p class="quiet">{escape(text)}</p>' for text in loose),
        *(part_markup(part) for part in section.parts),
        *(f"<p>{escape(note)}</p>" for note in section.notes),
    ]
    return f'<section id="{anchor(section)}">\n' + "\n".join(block for block in blocks if block) + "\n</section>"


def anchor(section: Section) -> str:
    """The section's place in the page's address: `top-trials`."""
    return "-".join(section.title.partition(" (")[0].lower().split())


def figure_markup(figure: Figure) -> str:
    """A plot's place, which the page's script fills, and the words around it."""
    width = f"min-width:{figure.least_width}px;" if figure.least_width else ""
    note = f"<figcaption>{escape(figure.note)}</figcaption>" if figure.note else ""
    bar = "true" if figure.bar and not figure.small else "false"
    title = escape(figure.title)
    plot = (
        f'<div class="plot" id="plot-{figure.name}" data-plot="{figure.name}" data-bar="{bar}" '
        f'role="img" aria-label="{title}" style="{width}height:{figure.height}px"></div>'
    )
    return f'<figure><h3>{title}</h3><div class="scroll">{plot}</div>{note}</figure>'


def _side_by_side(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    return '<div class="side-by-side">' + "".join(map(figure_markup, figures)) + "</div>"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{_broken(text)}</dd>" for name, text in facts)
    return f"<dl>{rows}</dl>" if rows else ""


def _broken(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def part_markup(part: Part) -> str:
    """A table with the lines above and below it; wide ones scroll in their own box."""
    head, colon, rest = part.title.partition(":")
    title = f"<p><b>{escape(head)}</b>{escape(colon + rest)}</p>" if colon else f"<p>{escape(part.title)}</p>"
    below = "".join(f'<p class="quiet">{escape(line)}</p>' for line in part.below)
    kinds = [' class="words"' if column.words else "" for column in part.columns]
    heads = "".join(f"<th{kind}>{escape(c.header)}</th>" for kind, c in zip(kinds, part.columns, strict=True))
    rows = "".join(
        f"<tr{' class=best' if place == part.bold else ''}>"
        + "".join(f"<td{kind}>{_cell(text)}</td>" for kind, text in zip(kinds, row, strict=True))
        + "</tr>"
        for place, row in enumerate(part.rows)
    )
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f'{title if part.title else ""}<div class="scroll">{table}</div>{below}'


def _cell(text: str) -> str:
    """A cell; what is a bar on a terminal is one here."""
    if text and not text.strip("#"):
        return f'<span class="bar" style="width:{len(text)}ch"></span>'
    return escape(text)
