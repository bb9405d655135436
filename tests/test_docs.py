"""What the pages show is what commands print, and their figures name what makes them."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SCRIPT = ROOT / "docs" / "refresh.py"
REFRESH = runpy.run_path(str(SCRIPT))

TABLE = [
    "Rows",
    "┏━━━━┳━━━━━┓",
    "┃ n  ┃ auc ┃",
    "└────┴─────┘",
    "Done: 12 of 1,200 rows, p = 0.67.",
    "report: a.html",
]


@pytest.mark.slow
def test_pages_show_what_commands_print() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Done: 12 of 1,200 rows, p = 0.67.", []),
        ("Done: 12 of 1,201 rows, p = 0.68.", []),
        ("Done: 12 of 1,200 rows, p = 0.71.", ["0.71 is now 0.67"]),
        ("Done: 12 of 1,300 rows, p = 0.67.", ["1,300 is now 1,200"]),
        ("Over: 12 of 1,200 rows, p = 0.67.", ["'Over:' is now 'Done:'"]),
        ("Done: 12 of 1,200 rows, p = 0.67. More.", ["'More.' is now 'report:'"]),
    ],
)
def test_words_are_the_same_and_numbers_close(line: str, found: list[str]) -> None:
    assert REFRESH["differences"]([*TABLE[:4], line, TABLE[5]], TABLE) == found


@pytest.mark.parametrize("version", ["4f2cfad1e886", "1e886", "012345678901", "12345e678901", "7e1"])
def test_a_hash_is_the_same_as_itself_whatever_its_digits(version: str) -> None:
    shown = f"Features 'features', version {version}."
    assert REFRESH["differences"]([shown], [shown]) == []
    assert REFRESH["differences"]([shown], ["Features 'features', version a23456789012."]) != []


def test_the_version_of_a_model_may_be_another() -> None:
    shown, other = '{"model":{"version":"4f2cfad1e886"},"n":7}', '{"model":{"version":"012345678901"},"n":7}'
    assert REFRESH["differences"]([shown], [other]) == []
    assert REFRESH["differences"]([shown], [other.replace("7}", "70}")]) != []


def test_labels_of_tables_in_any_order_are_what_another_rounding_leaves() -> None:
    head = ["Shares", "┏━━━┳━━━━┓", "┃ n ┃ by ┃", "┡━━━╇━━━━┩"]
    shown = [*head, "│ a │ 12 │", "│ b │  3 │", "└───┴────┘", "Fit: 12."]
    other = [*head, "│ b │ 30 │", "│ a │  2 │", "└───┴────┘", "These rows cannot tell."]
    assert REFRESH["differences"](shown, other, labels_alone=True) == []
    assert REFRESH["differences"](shown, other) == ["'a' is now 'b'"]
    renamed = [*other[:2], "┃ n ┃ of ┃", *other[3:]]
    found = ["'┃ n ┃ by ┃' is gone", "'┃ n ┃ of ┃' is new"]
    assert REFRESH["differences"](shown, renamed, labels_alone=True) == found
    assert REFRESH["differences"](shown, other[1:], labels_alone=True) == ["'Shares' is gone"]


def test_lines_and_frames_may_be_of_another_width() -> None:
    shown = [
        "Rows",
        "┏━━━━━━┳━━━━━┓",
        "┃ n    ┃ auc ┃",
        "└──────┴─────┘",
        "Done: 12 of",
        "1,200 rows, p = 0.67.",
    ]
    assert REFRESH["differences"]([*shown, "report: a.html"], TABLE) == []
    assert REFRESH["differences"](TABLE[:-1], TABLE) == ["11 words are now 13"]


def test_pieces_of_an_output_are_found_again() -> None:
    cut = REFRESH["cut"]
    assert cut(TABLE, ["all", "of it"]) == TABLE
    assert cut(TABLE, ["...", "Done: 9 of 900 rows, p = 0.1.", "..."]) == ["...", TABLE[4], "..."]
    assert cut(TABLE, ["┏━━┳━━┓", "└──┴──┘", "...", "report: a.html"]) == [*TABLE[1:4], "...", TABLE[5]]
    with pytest.raises(LookupError, match="no longer printed: Doing"):
        cut(TABLE, ["...", "Doing: 9 rows"])


def test_a_page_is_read_as_its_commands(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- data: real.parquet -->\n<!-- $ ctrkit train -->\n\n    ctrkit ope\n\n"
        "    $ ctrkit evaluate \\\n        --quiet; echo $?\n    1\n    $ ls\n    a\n    b\n\n"
        "    $ python benchmarks/ope.py\n    2\n"
    )
    read = REFRESH["read_page"](page)
    assert read.data == ["real.parquet"]
    commands = [(one.text, read.lines[one.start : one.end]) for one in read.commands]
    assert commands == [
        ("ctrkit train", []),
        ("ctrkit evaluate --quiet; echo $?", ["    1"]),
        ("ls", ["    a", "    b"]),
    ]


def test_a_command_beside_a_server_asks_it_and_ends_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("    $ ls\n\n<!-- beside: serve it -->\n\n    $ curl localhost:8000\n    hello\n")
    before, beside = REFRESH["read_page"](page).commands
    assert before.text == "ls"
    lines = beside.text.splitlines()
    assert lines[1] == "serve it > server.log 2>&1 &"
    assert lines[-2:] == ["curl localhost:8000", "kill $!; wait $!"]


def test_tables_of_figures_name_the_benchmark_that_makes_them() -> None:
    nameless, absent = [], []
    for page in PAGES:
        for section in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            scripts = re.findall(r"benchmarks/\w+\.py", section)
            absent += [f"{page.name}: {script}" for script in scripts if not (ROOT / script).exists()]
            for table in re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE):
                cells = [cell.strip() for row in table.splitlines()[2:] for cell in row.split("|")[2:-1]]
                figures = [cell for cell in cells if re.match(r"[-+]?\d", cell)]
                if len(figures) > len(cells) / 2 and "benchmarks/" not in section[: section.index(table)]:
                    nameless.append(f"{page.name}: {table.splitlines()[0]}")
    assert not nameless
    assert not absent
