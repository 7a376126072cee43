"""One HTML page of sections: words, pictures, tables; it needs nothing beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lipzoo._figures import rendered
from lipzoo.plots.style import COLOURS, INK, PAPER, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Picture", "Section", "Table", "cell", "files_of", "page"]

#: Rows of a table that stand open; a longer one is unfolded.
_OPEN = 12


@dataclass(frozen=True)
class Table:
    """Numbers: what they are, the heads of the columns, and the rows as text."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def html(self) -> str:
        """A ``<table>`` in a box that scrolls; the first cell of a row is its head."""
        heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in self.heads)
        lines = "\n".join(
            f'<tr><th scope="row">{html.escape(first)}</th>'
            + "".join(f"<td>{html.escape(each)}</td>" for each in rest)
            + "</tr>"
            for first, *rest in self.rows
        )
        caption = html.escape(self.caption)
        table = (
            f'<div class="table" role="region" tabindex="0" aria-label="{caption}">\n<table>\n'
            f"<caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n"
            f"<tbody>\n{lines}\n</tbody>\n</table>\n</div>"
        )
        if len(self.rows) <= _OPEN:
            return table
        words = f"{caption} ({len(self.rows)} rows)"
        return f"<details><summary>{words}</summary>\n{table}\n</details>"


@dataclass(frozen=True)
class Picture:
    """A drawing: the name of its files, what it is drawn on, and what it shows, in words."""

    name: str
    axes: Axes
    alt: str

    @property
    def names(self) -> tuple[str, str]:
        """What its files are called."""
        return f"{self.name}.svg", f"{self.name}.png"

    def files(self) -> dict[str, bytes]:
        """``{"<name>.svg": …, "<name>.png": …}``."""
        kinds = ({"kind": "svg"}, {"kind": "png", "dpi": 150})
        return {name: rendered(self.axes.figure, **kind) for name, kind in zip(self.names, kinds)}

    def html(self, svg: bytes) -> str:
        """An inline ``<svg>``, whose colours are the page's, in the dark too."""
        text = svg.decode()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        # Pictures on one page name their parts alike.
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r'(href="|url\()#', rf"\g<1>#{self.name}-", text)
        for colour, name in _COLOURS.items():
            text = text.replace(colour, f"var(--{name})")
        alt = html.escape(self.alt)
        text = text.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        return f"<figure>\n{text}\n<figcaption>{alt}</figcaption>\n</figure>"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Parameters
    ----------
    name : str
        Of its place in the page and in ``facts``.
    title : str
        Its heading.
    words : str
        What it shows, or, where there is nothing to show, why not.
    pictures, tables : sequences
        What it shows.
    facts : dict
        The figures, as plain values.
    """

    name: str
    title: str
    words: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def html(self, files: dict[str, bytes]) -> str:
        """A ``<section>``, its pictures beside their tables."""
        pictures = "\n".join(each.html(files[f"{each.name}.svg"]) for each in self.pictures)
        tables = "\n".join(each.html() for each in self.tables)
        drawn = f'<div class="pictures">\n{pictures}\n</div>\n' if pictures else ""
        told = f'<div class="tables">\n{tables}\n</div>\n' if tables else ""
        kind = "beside" if len(self.pictures) <= 2 else "below"
        return (
            f'<section aria-labelledby="{self.name}">\n<h2 id="{self.name}">'
            f"{html.escape(self.title)}</h2>\n<p>{html.escape(self.words)}</p>\n"
            f'<div class="{kind}">\n{drawn}{told}</div>\n</section>'
        )


def page(
    title: str,
    words: Sequence[str],
    sections: Sequence[Section],
    files: dict[str, bytes] | None = None,
) -> str:
    """The page.

    Parameters
    ----------
    title : str
        Its heading.
    words : sequence of str
        Paragraphs below it.
    sections : sequence of Section
    files : dict of bytes, optional
        Those of their pictures, where they were rendered before.
    """
    if files is None:
        files = files_of(sections)
    contents = "\n".join(
        f'<li><a href="#{each.name}">{html.escape(each.title)}</a></li>' for each in sections
    )
    return _PAGE.format(
        title=html.escape(title),
        style=_STYLE,
        words="\n".join(f"<p>{html.escape(each)}</p>" for each in words),
        contents=contents,
        sections="\n".join(each.html(files) for each in sections),
    )


def files_of(sections: Iterable[Section]) -> dict[str, bytes]:
    """The files of all pictures."""
    return {
        name: data
        for section in sections
        for each in section.pictures
        for name, data in each.files().items()
    }


def cell(value: Any) -> str:
    """A value of a table: four digits of a number, - where there is none."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}".replace("inf", "∞")
    return f"{value:,}" if isinstance(value, int) else str(value)


#: Colours of pictures, and the variables of the page that stand for them.
_COLOURS = {INK: "ink", RULE: "rule", PAPER: "paper", COLOURS[0]: "blue", COLOURS[1]: "orange"}

_LIGHT = " ".join(f"--{name}: {colour};" for colour, name in _COLOURS.items())

_STYLE = (
    f":root {{ color-scheme: light dark; --link: #0060a0; {_LIGHT} }}"
    + """
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --paper: #15181c; --rule: #3d444d; --link: #79b8ff;
    --blue: #4a9cd4; --orange: #ee8434; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; max-width: 72rem; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--rule); }
p { max-width: 45rem; margin: .5rem 0; }
a { color: var(--link); }
nav ul { columns: 15rem; padding-left: 1.2rem; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; flex: 1 1 24rem; min-width: 0; }
.tables { flex: 1 1 18rem; min-width: 0; max-width: 100%; }
.below .tables { display: flex; flex-wrap: wrap; gap: 0 2rem; }
figure { margin: 0; max-width: 100%; }
figure svg { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .85rem; max-width: 24rem; }
.table { overflow-x: auto; max-width: 100%; margin: .5rem 0 1rem; }
.table:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
td, th { padding: .2rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  font-weight: 400; vertical-align: top; }
th[scope=row], thead th:first-child { text-align: left; }
th[scope=row] { white-space: nowrap; }
thead th { font-weight: 600; }
summary { cursor: pointer; padding: .25rem 0; }
"""
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{words}
<nav aria-label="Contents">
<ul>
{contents}
</ul>
</nav>
{sections}
</main>
</body>
</html>
"""
