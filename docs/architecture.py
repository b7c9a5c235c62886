"""The image of docs/architecture.md, drawn from the imports: python docs/architecture.py

A line leads from a room to what it imports; one that others imply (a → c beside a → b → c) is left out. The
rooms, and their order from top to bottom, are those of the contract in pyproject.toml.
"""

import tomllib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ROOT / "docs/architecture.svg"

# Room → what is in it, in a few words.
CONTENTS = {
    "cli": "parse, call, print",
    "studio": "the page an expert works on",
    "study": "a page of questions for people",
    "project": "Project; the stages in order",
    "report": "HTML, figures, model card",
    "run": "the directory, the typed record",
    "alignment": "masks, RRR, counterfactuals, λ",
    "critique": "critic g, judge h, the store",
    "training": "one loop that takes a loss",
    "evaluate": "numbers from tensors alone",
    "explain": "sampling, Φ, segments C",
    "vision": "what stands in an image",
    "models": "adapter, zoo, checkpoints",
    "data": "images: folder, DICOM, ...",
    "config": "the project file",
}
# The walk of Project.align; the room's number is its place in it.
WALK = (
    "project",
    "data",
    "models",
    "training",
    "explain",
    "critique",
    "alignment",
    "evaluate",
    "run",
    "report",
)

WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT, GAP = 900, 96, 212, 52, 40
INK, LINE, FILL, MARK = "#1f2933", "#9aa5b1", "#f5f7fa", "#b3261e"
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"

Imports = Mapping[str, frozenset[str]]
Point = tuple[float, float]


def rooms() -> list[str]:
    """The rooms from top to bottom."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers: list[str] = document["tool"]["importlinter"]["contracts"][0]["layers"]
    return layers


def imports() -> Imports:
    """Room → the rooms that its files import."""
    known, found = rooms(), {room: set[str]() for room in rooms()}
    graph = grimp.build_graph("lvlm_va", cache_dir=None)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = (name.split(".")[1:2] for name in (module, imported))
            if here and there and here != there and here[0] in known and there[0] in known:
                found[here[0]].add(there[0])
    return {room: frozenset(others) for room, others in found.items()}


def reduced(edges: Imports) -> Imports:
    """Without what others imply; the edges form no circle."""

    def reached(room: str) -> set[str]:
        return {room}.union(*(reached(other) for other in edges[room]))

    return {
        room: frozenset(
            other for other in others if not any(other in reached(between) for between in others - {other})
        )
        for room, others in edges.items()
    }


def rows(edges: Imports) -> list[list[str]]:
    """Every room one row below the lowest that imports it; in a row, below those that import it."""
    level: dict[str, int] = {}
    for room in edges:
        level[room] = max((level[other] + 1 for other in level if room in edges[other]), default=0)
    table: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    place: dict[str, float] = {}
    for row, names in enumerate(table):
        for room in (one for one in edges if level[one] == row):
            above = [place[other] for other in place if room in edges[other]]
            place[room] = sum(above) / len(above) if above else 0.5
            names.append(room)
        names.sort(key=lambda room: place[room])
        for position, room in enumerate(names):
            place[room] = (position + 0.5) / len(names)
    return table


def svg() -> str:
    """The whole image."""
    everything = imports()
    edges = reduced({room: everything[room] & CONTENTS.keys() for room in rooms() if room in CONTENTS})
    table = rows(edges)
    ground = [room for room in rooms() if room not in CONTENTS]
    height = len(table) * ROW + 70
    centre: dict[str, Point] = {}
    for row, names in enumerate(table):
        left = (WIDTH - len(names) * BOX_WIDTH - (len(names) - 1) * GAP) / 2 + BOX_WIDTH / 2
        for position, room in enumerate(names):
            centre[room] = (left + position * (BOX_WIDTH + GAP), 16 + row * ROW + BOX_HEIGHT / 2)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img'>",
        "<title>The rooms of lvlm_va, and what imports what</title>",
        f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
        *(_edge(centre[a], centre[b], centre.values()) for a in edges for b in sorted(edges[a])),
        *(_box(room, *at) for room, at in centre.items()),
        _bar(ground, height - 46),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _edge(start: Point, end: Point, boxes: Iterable[Point]) -> str:
    """A line from under one box to the top of another, through the gaps of the rows between."""
    bottom, top, half = start[1] + BOX_HEIGHT / 2, end[1] - BOX_HEIGHT / 2, BOX_WIDTH / 2 + GAP / 2
    path, x, y = f"M{start[0]:g} {bottom:g}", start[0], bottom
    for row in sorted({box[1] for box in boxes if bottom < box[1] < top}):
        taken = [box[0] for box in boxes if box[1] == row]
        straight = start[0] + (end[0] - start[0]) * (row - bottom) / (top - bottom)
        gaps = [at for one in taken for at in (one - half, one + half)]
        gap = min(gaps, key=lambda at: (round(abs(at - straight), 3), at))
        path += _bend(x, y, gap, row - BOX_HEIGHT / 2) + f" V{row + BOX_HEIGHT / 2:g}"
        x, y = gap, row + BOX_HEIGHT / 2
    path += _bend(x, y, end[0], top)
    return f"<path d='{path}' fill='none' stroke='{LINE}' stroke-width='1.6'/>"


def _bend(x0: float, y0: float, x1: float, y1: float) -> str:
    middle = (y0 + y1) / 2
    return f" C{x0:g} {middle:g} {x1:g} {middle:g} {x1:g} {y1:g}"


def _box(room: str, x: float, y: float) -> str:
    left, top = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
    parts = [
        f"<rect x='{left:g}' y='{top:g}' width='{BOX_WIDTH}' height='{BOX_HEIGHT}' rx='6' "
        f"fill='{FILL}' stroke='{LINE}'/>",
        _text(x, y - 5, room, 15, bold=True),
        _text(x, y + 15, CONTENTS[room], 11.5),
    ]
    if room in WALK:
        parts += [
            f"<circle cx='{left:g}' cy='{top:g}' r='11' fill='{MARK}'/>",
            _text(left, top + 4, str(WALK.index(room) + 1), 11.5, colour="white"),
        ]
    return "\n".join(parts)


def _bar(names: list[str], top: float) -> str:
    box = f"<rect x='60' y='{top:g}' width='{WIDTH - 120}' height='30' rx='6' fill='none' stroke='{LINE}'/>"
    return f"{box}\n{_text(WIDTH / 2, top + 20, 'used everywhere: ' + ', '.join(names), 11.5)}"


def _text(x: float, y: float, text: str, size: float, *, bold: bool = False, colour: str = INK) -> str:
    weight = " font-weight='bold'" if bold else ""
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size:g}' text-anchor='middle' fill='{colour}' {FONT}{weight}>"
        f"{escape(text)}</text>"
    )


if __name__ == "__main__":
    IMAGE.write_text(svg(), "utf-8")
