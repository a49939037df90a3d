"""Small charts as SVG that the server draws: no script, no request, and the same in words for who cannot see them."""

from collections.abc import Sequence
from decimal import Decimal

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

WIDTH, HEIGHT, EDGE = 120, 28, 2
Value = Decimal | float | int | None


@register.simple_tag
def sparkline(values: Sequence[Value], label: str) -> SafeString:
    """Draw a line through the values, nothing and the largest among them; where there is none, there is no point."""
    known = [(number, float(value)) for number, value in enumerate(values) if value is not None]
    scale = [0.0, *(value for _, value in known)]
    least, most = min(scale), max(scale)
    step = (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)
    drawn = [(EDGE + number * step, _height(value, least, most)) for number, value in known]
    if len(drawn) == 1:
        drawn = [(EDGE, drawn[0][1]), (WIDTH - EDGE, drawn[0][1])]  # one point is no line: all there is was this
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    words = f"{label}: {_words([value for _, value in known])}"
    return format_html(
        '<svg class="sparkline" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<title>{}</title><polyline points="{}"></polyline></svg>',
        WIDTH, HEIGHT, words, words, points,
    )  # fmt: skip


@register.simple_tag
def stacked_bar(parts: Sequence[tuple[str, int]], label: str) -> SafeString:
    """Draw one bar of the parts beside each other, and name them below it."""
    whole = sum(count for _, count in parts)
    if not whole:
        return format_html('<p class="nothing">{}</p>', "None.")
    bars, start = [], 0.0
    for number, (_, count) in enumerate(parts):
        width = 100 * count / whole
        bars.append((f"{start:.2f}", f"{width:.2f}", number % 6))
        start += width
    drawn = format_html_join("", '<rect x="{}" y="0" width="{}" height="8" class="part-{}"></rect>', bars)
    names = ((number % 6, count, name) for number, (name, count) in enumerate(parts))
    legend = format_html_join("", '<li class="part-{}"><b>{}</b> {}</li>', names)
    words = f"{label}: {', '.join(f'{name} {count}' for name, count in parts)}"
    return format_html(
        '<svg class="stacked-bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
        '<ul class="legend">{}</ul>',
        words, drawn, legend,
    )  # fmt: skip


def _height(value: float, least: float, most: float) -> float:
    room = HEIGHT - 2 * EDGE
    return HEIGHT - EDGE - (room * (value - least) / (most - least) if most > least else 0)


def _words(values: Sequence[float]) -> str:
    if not values:
        return "nothing yet"
    return f"from {min(values):g} to {max(values):g}, last {values[-1]:g}"
