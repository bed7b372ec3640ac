"""One colour per class, the same in the report's pictures and on a device."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]  # RGB

# Okabe and Ito's palette without black, bright enough for a box on a photograph.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (255, 255, 255),
)  # fmt: skip
GOLDEN = 0.618034  # of the colour circle from one further colour to the next: no two of any number are close


def colour_of(index: int) -> Colour:
    """Choose a class's colour: the palette's, then others around the colour circle."""
    if index < len(PALETTE):
        return PALETTE[index]
    red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.55 + 0.25 * (index % 2), 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
