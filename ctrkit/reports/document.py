"""A report as plain data, and as one HTML file that opens offline.

Much of a report's text came with the data. Whatever is made here holds nothing that a terminal or a browser
would follow unseen, and no name of a figure leaves its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from ctrkit.names import file_name, visible


@dataclass(frozen=True)
class Table:
    """Cells are text, ready to print. The first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        _set(self, title=visible(self.title), header=tuple(map(visible, self.header)))
        _set(self, rows=tuple(tuple(map(visible, row)) for row in self.rows))


@dataclass(frozen=True)
class Figure:
    """A picture as SVG text, with the sentence that says what it shows; its name is that of a file."""

    name: str
    caption: str
    svg: str

    def __post_init__(self) -> None:
        _set(self, name=file_name(self.name), caption=visible(self.caption))
        _set(self, svg=visible(self.svg, lines=True))


@dataclass(frozen=True)
class Report:
    """What a run found, in reading order: the answer first, then tables, figures, details and remarks.

    Attributes:
        answer: lines, one a subject.
        details: tables for those who look closer; they stand on the page, not on the terminal.
        links: (text, relative path) of pages that tell more.
    """

    title: str
    answer: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    details: tuple[Table, ...] = ()

    def __post_init__(self) -> None:
        _set(self, title=visible(self.title), answer=visible(self.answer, lines=True))
        _set(self, notes=tuple(visible(note, lines=True) for note in self.notes))


# Cells of more characters are sentences.
_LINE = 60
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6b7c; --line: #dde3ea;
  --paper: #fff; --tint: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa7b6; --line: #333d49; --paper: #14181d; --tint: #1c2229; }
  figure svg { background: #fff; border-radius: 6px; }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
.answer { font-size: 1.1rem; } .note { color: var(--soft); }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
td.long { text-align: left; white-space: normal; min-width: 24rem; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
tbody tr:hover { background: var(--tint); }
figure { margin: 1.2rem 0; } figure svg { max-width: 100%; height: auto; } figcaption { color: var(--soft); }
"""


def to_html(report: Report) -> str:
    """The report as one page; nothing in it is fetched from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{_body(report)}\n</body>\n</html>\n"
    )


def _body(report: Report) -> str:
    parts = [f"<h1>{escape(report.title)}</h1>"]
    if report.answer:
        lines = "<br>".join(escape(line) for line in report.answer.splitlines())
        parts.append(f'<p class="answer">{lines}</p>')
    parts += [_table(table) for table in report.tables]
    for figure in report.figures:
        drawing = figure.svg[figure.svg.index("<svg") :]  # without the XML heading
        parts.append(f"<figure>{drawing}<figcaption>{escape(figure.caption)}</figcaption></figure>")
    parts += [_table(table) for table in report.details]
    parts += [f'<p class="note">{escape(note)}</p>' for note in report.notes]
    parts += [f'<p><a href="{quote(path)}">{escape(text)}</a></p>' for text, path in report.links]
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    caption = f"<caption>{escape(table.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _cell(text: str) -> str:
    """A number or a name stays on one line; a sentence does not."""
    kind = ' class="long"' if len(text) > _LINE else ""
    return f"<td{kind}>{escape(text)}</td>"


def _set(frozen: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
