"""A chart of the results: for each image, how long each way takes beside `gzip -dc | gzip -6`."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 760, 16, 4, 260, 70
_OURS = "#1a7f37"
_OTHERS = "#8c959f"


def svg(figures: dict[str, Any]) -> str:
    """Draw horizontal bars, the shortest is the fastest; longer than twice gzip's time is cut, and says so."""
    parts: list[str] = []
    y = 30
    scale = (_WIDTH - _LEFT - _RIGHT) / 2
    for image, found in figures.items():
        parts.append(f'<text x="0" y="{y + 12}" font-weight="bold">{escape(image)}</text>')
        y += 22
        for name, ratio in sorted(found["ratios"].items(), key=lambda pair: pair[1]):
            colour = _OURS if name.startswith("ocirootfs") else _OTHERS
            shown = escape(name.replace("\\", ""))
            width = min(ratio, 2) * scale
            more = " …" if ratio > 2 else ""
            parts += [
                f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{shown}</text>',
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
                f'<text x="{_LEFT + width + 6:.1f}" y="{y + 12}">{ratio:.2f}{more}</text>',
            ]
            y += _BAR + _GAP
        y += 10
    title = "Wall time as a ratio to gzip -dc | gzip -6 over the same layers; shorter is faster"
    look = 'font-family="sans-serif" font-size="12"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" {look}>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n<text x="0" y="14">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
