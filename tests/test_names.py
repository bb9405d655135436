"""Names of the data on screens and in files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ctrkit.names import cut, file_name, visible
from ctrkit.reports import Figure, Report, Table

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ümläut 漢字 🍕 👩‍👩‍👧", "plain – ümläut 漢字 🍕 👩‍👩‍👧"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("half \ud83d", r"half \ud83d"),
        ("\0", r"\x00"),
    ],
)
def test_what_is_hidden_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    shown.encode()


def test_lines_may_stay() -> None:
    assert visible("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_a_long_text_is_cut() -> None:
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"


def test_names_of_files_stay_in_their_folder_and_apart() -> None:
    nasty = (
        "/../../x",
        "..",
        ".",
        "",
        "a/b",
        "a:b",
        "a\\b",
        "\0",
        "\x1b",
        "n" * 1000,
        "🍕",
        ".hidden",
        "a\nb",
        "<a>",
    )
    names = [file_name(text) for text in nasty]
    assert len(set(names)) == len(nasty)
    for name in names:
        assert Path(name).name == name
        assert not name.startswith(".")
        assert len(name.encode()) < 200
        assert visible(name) == name
    assert [file_name(text) for text in ("click", "p-1_2.x", "two words", "größe")] == [
        "click", "p-1_2.x", "two_words", "größe",
    ]  # fmt: skip


def test_no_report_holds_what_is_hidden() -> None:
    table = Table("t\x1b", ("h\x1b",), (("c\x1b\n",),))
    assert table == Table(r"t\x1b", (r"h\x1b",), ((r"c\x1b\n",),))
    figure = Figure("/../x", "c\x1b", "<svg>\n\x1b</svg>")
    assert (figure.caption, figure.svg) == (r"c\x1b", "<svg>\n\\x1b</svg>")
    assert "/" not in figure.name
    report = Report("t\x1b", "a\x1b\nb", notes=("n\x1b",))
    assert (report.title, report.answer, report.notes) == (r"t\x1b", "a\\x1b\nb", (r"n\x1b",))


def test_all_that_commands_say_goes_through_one_place() -> None:
    for path in (*(ROOT / "ctrkit").rglob("*.py"), *(ROOT / "cli").rglob("*.py")):
        if path == ROOT / "cli" / "common.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "typer.secho", "sys.stdout.write"), path
