"""A report as plain data, and as HTML: a page that opens offline, or a part of a notebook.

Much of a report's text comes from the data. So control characters are made visible, HTML is escaped, and the
name of a figure cannot point outside its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias
from urllib.parse import quote

from ctrkit.names import file_name, visible
from ctrkit.reports.cells import Value, text
from ctrkit.reports.tables import Table


@dataclass(frozen=True)
class Figure:
    """A picture as SVG text, with a caption of one sentence; its name is a valid file name."""

    name: str
    caption: str
    svg: str

    def __post_init__(self) -> None:
        _set(self, name=file_name(self.name), caption=visible(self.caption))
        _set(self, svg=visible(self.svg, lines=True))


# Drawing is slow, so a figure is drawn only when it is needed.
DrawFigure: TypeAlias = Callable[[], Figure]
# Figures by name.
Drawings: TypeAlias = Mapping[str, DrawFigure]


@dataclass(frozen=True)
class Report:
    """The results of a run, in reading order: the answer first, then tables, details and notes.

    Attributes:
        title: heading of the page.
        answer: the main result in words, one line for each subject.
        tables: tables for the terminal and the page.
        notes: remarks of one sentence or two.
        links: (text, relative path) of other pages.
        details: more tables, on the page only.
    """

    title: str
    answer: str = ""
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    details: tuple[Table, ...] = ()

    def __post_init__(self) -> None:
        _set(self, title=visible(self.title), answer=visible(self.answer, lines=True))
        _set(self, notes=tuple(visible(note, lines=True) for note in self.notes))


# A longer cell is a sentence, and may wrap.
_LINE = 60
_STYLE = """
.ctrkit { color-scheme: light dark; --ink: #1c2430; --soft: #5d6b7c; --line: #dde3ea;
  --paper: #fff; --tint: #f5f7fa;
  font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
@media (prefers-color-scheme: dark) {
  .ctrkit { --ink: #e6eaf0; --soft: #9aa7b6; --line: #333d49; --paper: #14181d; --tint: #1c2229; }
  .ctrkit figure svg { background: #fff; border-radius: 6px; }
}
body.ctrkit { max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
div.ctrkit { font-size: 14px; padding: .5rem 1rem; }
.ctrkit h1 { font-size: 1.7em; margin: 0 0 .3rem; }
.ctrkit .answer { font-size: 1.1em; } .ctrkit .note { color: var(--soft); }
.ctrkit table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }
.ctrkit caption { text-align: left; font-weight: 600; padding: .4rem 0; }
.ctrkit th, .ctrkit td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
.ctrkit td.long { text-align: left; white-space: normal; min-width: 24rem; }
.ctrkit th:first-child, .ctrkit td:first-child { text-align: left; }
.ctrkit thead th { color: var(--soft); font-weight: 600; }
.ctrkit tbody tr:hover { background: var(--tint); }
.ctrkit figure { margin: 1.2rem 0; } .ctrkit figure svg { max-width: 100%; height: auto; }
.ctrkit figcaption { color: var(--soft); }
"""


def to_html(report: Report, figures: Sequence[Figure] = ()) -> str:
    """The report as one page, which loads nothing from elsewhere."""
    parts = [*_read_first(report), *map(_figure, figures), *map(_table, report.details), *_notes(report)]
    parts += [f'<p><a href="{quote(path)}">{escape(said)}</a></p>' for said, path in report.links]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body class="ctrkit">\n{body}\n</body>\n</html>\n'
    )


def notebook_html(report: Report) -> str:
    """The answer, the tables and the notes, as HTML for a notebook."""
    body = "\n".join([*_read_first(report), *_notes(report)])
    return f'<div class="ctrkit">\n<style>{_STYLE}</style>\n{body}\n</div>'


def _read_first(report: Report) -> list[str]:
    parts = [f"<h1>{escape(report.title)}</h1>"]
    if report.answer:
        lines = "<br>".join(escape(line) for line in report.answer.splitlines())
        parts.append(f'<p class="answer">{lines}</p>')
    return [*parts, *map(_table, report.tables)]


def _notes(report: Report) -> list[str]:
    return [f'<p class="note">{escape(note)}</p>' for note in report.notes]


def _figure(figure: Figure) -> str:
    drawing = figure.svg[figure.svg.index("<svg") :]  # without the XML heading
    return f"<figure>{drawing}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    caption = f"<caption>{escape(table.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _cell(value: Value) -> str:
    """A table cell: numbers and names stay on one line, sentences may wrap."""
    shown = text(value)
    kind = ' class="long"' if len(shown) > _LINE else ""
    return f"<td{kind}>{escape(shown)}</td>"


def _set(frozen: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
