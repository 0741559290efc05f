"""The results as a picture: CPU a call by who carries it, with the run's conditions. An SVG of our own, as it is two rows of bars.

python -m bench.plot results.json docs/speed.svg
"""

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

from bench.measure import OURS, Result
from bench.table import Outcome
from bench.targets import STREAM, UNARY

WIDTH, BAR, GAP, LEFT = 860, 22, 8, 120
_LONGEST = WIDTH - LEFT - 170
_COLOURS = {OURS: "#1f6feb"}
_OTHER, _DATABASE = "#8b949e", "#79c0ff"


def draw(outcome: Outcome, to: Path) -> None:
    body = list(_chart(outcome, UNARY, 40))
    below = 40 + 60 + (BAR + GAP) * len(_bars(outcome, UNARY))
    body += _chart(outcome, STREAM, below)
    foot = below + 50 + (BAR + GAP) * len(_bars(outcome, STREAM))
    notes = [f"{name}: {value}" for name, value in outcome.conditions.items()]
    for number, words in enumerate(_lines(notes)):
        body.append(_text(12, foot + 16 * number, words, size=11, fill="#57606a"))
    height = foot + 16 * len(list(_lines(notes))) + 6
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>{"".join(body)}</svg>\n'
    )


def _bars(outcome: Outcome, run: str) -> list[Result]:
    return [result for result in outcome.runs if result.run == run and result.in_flight == "32" and result.proxy_cpu_us]


def _chart(outcome: Outcome, run: str, top: int) -> Iterator[str]:
    bars = _bars(outcome, run)
    most = max((_whole(bar) for bar in bars), default=1.0)
    yield _text(12, top, f"{run}, 32 in flight: CPU a call, microseconds (light: PostgreSQL's)", size=14, fill="#24292f")
    for number, bar in enumerate(bars):
        y = top + 14 + number * (BAR + GAP)
        own, database = (bar.proxy_cpu_us or 0.0), (bar.postgres_cpu_us or 0.0)
        ends = LEFT + own / most * _LONGEST
        told = f"{own:,.0f}" + (f" + {database:,.0f}" if database else "")
        yield _text(12, y + BAR - 6, bar.through, size=13, fill="#24292f")
        yield f'<rect x="{LEFT}" y="{y}" width="{max(ends - LEFT, 1):.1f}" height="{BAR}" fill="{_COLOURS.get(bar.through, _OTHER)}"/>'
        yield f'<rect x="{ends:.1f}" y="{y}" width="{database / most * _LONGEST:.1f}" height="{BAR}" fill="{_DATABASE}"/>'
        yield _text(ends + database / most * _LONGEST + 6, y + BAR - 6, told, size=12, fill="#24292f")


def _whole(bar: Result) -> float:
    return (bar.proxy_cpu_us or 0.0) + (bar.postgres_cpu_us or 0.0)


def _text(x: float, y: float, words: str, *, size: int, fill: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{fill}">{escape(words)}</text>'


def _lines(notes: Sequence[str]) -> Iterator[str]:
    """As many notes in a line as fit."""
    line = ""
    for note in notes:
        if line and len(line) + len(note) > 120:
            yield line
            line = ""
        line = f"{line}; {note}" if line else note
    yield line


if __name__ == "__main__":
    draw(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Outcome), Path(sys.argv[2]))
