"""Puzzles as a picture: a row for each, with its test input, the right answer and the model's."""

from __future__ import annotations

from PIL import Image, ImageDraw
from torch import Tensor

from tuner.tasks.arc_puzzles.canvas import PAD

PALETTE = (
    (0, 0, 0), (0, 116, 217), (255, 65, 54), (46, 204, 64), (255, 220, 0),
    (170, 170, 170), (240, 18, 190), (255, 133, 27), (127, 219, 255), (135, 12, 37), (255, 255, 255),
)  # fmt: skip
"""RGB of the colours 0 to 9 in the order of the corpus, and of the padding."""

TITLES = ("input", "target", "prediction")
GRID_PIXELS, GAP, TITLE_PIXELS = 120, 12, 16


def drawn(tests: Tensor, targets: Tensor, predictions: Tensor) -> Image.Image:
    """Grids (puzzles x size x size, each) side by side; a prediction is shown where its target has cells."""
    predictions = predictions.where(targets != PAD, PAD)
    step, columns = GRID_PIXELS + GAP, (tests, targets, predictions)
    size = (GAP + step * len(columns), TITLE_PIXELS + step * len(tests))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for column, (title, grids) in enumerate(zip(TITLES, columns, strict=True)):
        left = GAP + step * column
        draw.text((left, 2), title, fill="black")
        for row, grid in enumerate(grids):
            picture.paste(_tile(grid), (left, TITLE_PIXELS + step * row))
    return picture


def _tile(grid: Tensor) -> Image.Image:
    """A canvas (size x size) as a square picture, a thin line about each cell of the grid."""
    cells = grid.tolist()
    side = GRID_PIXELS / len(cells)
    tile = Image.new("RGB", (GRID_PIXELS, GRID_PIXELS), PALETTE[PAD])
    draw = ImageDraw.Draw(tile)
    for row, colors in enumerate(cells):
        for column, color in enumerate(colors):
            if color != PAD:
                edges = [round(side * entry) for entry in (column, row, column + 1, row + 1)]
                corners = (edges[0], edges[1], edges[2] - 1, edges[3] - 1)
                draw.rectangle(corners, fill=PALETTE[color], outline=(85, 85, 85))
    return tile
