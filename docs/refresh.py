"""Outputs shown in README.md and docs/*.md are those of today's code.

    python docs/refresh.py            # run the pages' commands and write what they print into the pages
    python docs/refresh.py --check    # change nothing; tell where a page shows something else, and exit 1

A transcript is an indented block: `$ command`, then what it prints. The commands of a page run one after
another in a folder of their own. A page says in comments what stands there before:

    <!-- $ ctrkit train -->           a command whose output is not shown
    <!-- data: hillstrom.parquet -->  a file of real logs; where it is absent, commands that name it are left
    <!-- file: model.py -->           the indented block after it is this file
    <!-- beside: ctrkit serve -->     a server that answers the commands after it, started anew for each

Pages run side by side. Those that begin with the same commands share them, so that a model is trained once.
A line `...` in an output stands for any lines: the pieces beside it are found again by their first and last
lines, whatever their numbers. Figures of `python benchmarks/...` are not made here: they take hours, real
logs or an idle machine.

`--check` wants the same words, and numbers to 2 % or two units of the last digit. What is trained depends on
how sums are rounded: on the number of threads, which is two here wherever it runs, and on the processor,
which moves metrics of few conversions by up to a half. README.md keeps the AUC that training gave
(`trained:`); where it gives another, a verdict may be another too, and outputs of trained models are held to
the titles, heads and first columns of their tables alone, in any order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
DATA = ROOT.parent / "shared" / "data"
INDENT, CUT = "    ", "..."
# Threads that wait do not spin, so that others may use the processor.
ENVIRONMENT = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "TZ": "UTC"}
ABREAST = 2  # commands at a time
TOLERANCE, LAST_DIGITS = 0.02, 2
# Digits after a letter belong to a word: the hash 4f2cfad1e886 ends in no number.
NUMBER = re.compile(r"(?<![a-zA-Z\d])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
# The version of an exported model, which hangs on the last digit of each weight; that of features is no such.
VERSION = re.compile(r"(?<!, version )(?<![\w.])[0-9a-f]{12}(?![\w.])")
# A command beside a server, which has the port alone and is told to stop in the end.
BESIDE = """exec 9> ../server.lock; flock 9
{0} > server.log 2>&1 &
until curl -sf localhost:8000/readyz > ready.json; do
kill -0 $! || {{ cat server.log; exit 1; }}; sleep 0.1
done
{1}
kill $!; wait $!"""
TRAIN, TRAINED = "ctrkit train", "<!-- trained: {} -->"


@dataclass(frozen=True)
class Command:
    """A command of a page; its output stands in the lines from `start` to `end`, both 0 if not shown."""

    text: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Page:
    path: Path
    lines: list[str]
    commands: list[Command]
    data: list[str]


def read_page(path: Path) -> Page:
    lines = path.read_text(encoding="utf-8").splitlines()
    page = Page(path, lines, [], [])
    at, server = 0, ""
    while at < len(lines):
        line, at = lines[at], at + 1
        if comment := re.fullmatch(r"<!-- (\$|data:) (.+) -->", line):
            sign, text = comment.groups()
            page.data.append(text) if sign == "data:" else page.commands.append(Command(text))
        elif comment := re.fullmatch(r"<!-- beside: (.+) -->", line):
            server = comment[1]
        elif comment := re.fullmatch(r"<!-- file: (.+) -->", line):
            block = itertools.takewhile(lambda one: not one or one.startswith(INDENT), lines[at:])
            text = "\n".join(one.removeprefix(INDENT) for one in block).strip()
            page.commands.append(Command(f"cat > {comment[1]} <<'END'\n{text}\nEND"))
        elif line.startswith(INDENT + "$ "):
            text = line.removeprefix(INDENT + "$ ")
            while text.endswith("\\"):
                text, at = text[:-1] + lines[at].strip(), at + 1
            start = at
            while (
                at < len(lines) and lines[at].startswith(INDENT) and not lines[at].startswith(INDENT + "$ ")
            ):
                at += 1
            if not text.startswith("python benchmarks/"):
                page.commands.append(Command(BESIDE.format(server, text) if server else text, start, at))
    return page


@dataclass
class Runs:
    """What commands print, run one after another; the same ones in the same order are run once.

    Pages may ask side by side: as many commands as `ABREAST` run at a time.
    """

    scratch: Path
    outputs: dict[tuple[str, ...], Future[list[str]]] = field(default_factory=dict)
    folders: dict[tuple[str, ...], Path] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(ABREAST))

    def output(self, commands: tuple[str, ...], data: list[str], *, must_succeed: bool) -> list[str]:
        """What the last of the commands prints after the others, which were run before."""
        with self.lock:
            first = commands not in self.outputs
            if first:
                self.outputs[commands] = Future()
                self.folders[commands] = self.scratch / str(len(self.folders))
        if first:
            try:
                with self.places:
                    self.outputs[commands].set_result(self.run(commands, data, must_succeed))
            except BaseException as error:
                self.outputs[commands].set_exception(error)
        return self.outputs[commands].result()

    def run(self, commands: tuple[str, ...], data: list[str], must_succeed: bool) -> list[str]:
        folder = self.folders[commands]
        if len(commands) > 1:
            shutil.copytree(self.folders[commands[:-1]], folder, symlinks=True)
        else:
            folder.mkdir()
        for name in data:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(DATA / name)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-c", commands[-1]],
            cwd=folder,
            env={**os.environ, "PATH": path, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        if must_succeed and ran.returncode:
            raise SystemExit(f"{commands[-1]}\n{ran.stdout}")
        return [line.rstrip() for line in ran.stdout.splitlines() if line.strip()]

    def trained(self) -> str:
        """The comment that tells how sums are rounded here."""
        metrics = self.folders[(TRAIN,)] / "runs" / "train" / "metrics.json"
        auc = json.loads(metrics.read_text(encoding="utf-8"))["metrics"]["click"]["auc"]
        return TRAINED.format(f"{auc:.9f}")


def outputs(page: Page, runs: Runs) -> Iterator[tuple[Command, list[str]]]:
    """The transcripts of a page, with what their commands print today."""
    absent = [name for name in page.data if not (DATA / name).exists()]
    there = [name for name in page.data if name not in absent]
    done: tuple[str, ...] = ()
    for command in page.commands:
        if any(name in command.text for name in absent):
            continue
        done += (command.text,)
        printed = runs.output(done, there, must_succeed=command.start == 0)
        if command.start:
            yield command, printed


def masked(text: str) -> str:
    """A text without its numbers, and with one space or piece of a frame where there are many."""
    return NUMBER.sub("#", re.sub(r"([━─\s])\1*", r"\1", VERSION.sub("VERSION", text))).strip()


def cut(printed: list[str], shown: list[str]) -> list[str]:
    """What was printed as a page shows it: whole, or the pieces between the lines `...`."""
    if CUT not in shown:
        return printed
    lines, at = [], 0
    known = [masked(line) for line in printed]
    while shown:
        end = shown.index(CUT) if CUT in shown else len(shown)
        piece, rest = shown[:end], shown[end + 1 :]
        if piece:
            try:
                first = known.index(masked(piece[0]), at)
                last = known.index(masked(piece[-1]), first + (len(piece) > 1))
            except ValueError:
                raise LookupError(f"no longer printed: {piece[0]} … {piece[-1]}") from None
            lines += printed[first : last + 1]
            at = last + 1
        lines += [CUT] * (end < len(shown))
        shown = rest
    return lines


def close(one: str, other: str) -> bool:
    """Whether two numbers are the same but for the rounding of a training on another processor."""
    digits = len(one.partition("e")[0].partition(".")[2])
    a, b = (float(text.replace(",", "")) for text in (one, other))
    return one == other or abs(a - b) <= max(
        TOLERANCE * max(abs(a), abs(b)), LAST_DIGITS * 10.0**-digits * 1.0001
    )


def labels(lines: list[str]) -> Counter[str]:
    """The titles, heads and first columns of tables."""
    found = Counter[str]()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("│"):
            found[masked(line.split("│")[1])] += 1
        elif line.startswith("┃") or below.startswith("┏"):
            found[masked(line)] += 1
    return found


def differences(shown: list[str], printed: list[str], *, labels_alone: bool = False) -> list[str]:
    """Where what is shown is not what is printed: its words, or numbers that are not `close`."""
    one, other = (
        VERSION.sub("VERSION", re.sub(r"[\s━─┏┓┡┩└┘┳╇┴│┃]+", " ", " ".join(lines)))
        for lines in (shown, printed)
    )
    words = [NUMBER.sub("#", text).split() for text in (one, other)]
    if labels_alone:
        before, after = labels(shown), labels(printed)
        return [f"'{word}' is gone" for word in before - after] + [
            f"'{word}' is new" for word in after - before
        ]
    for was, now in zip(*words, strict=False):
        if was != now:
            return [f"'{was}' is now '{now}'"]
    if len(words[0]) != len(words[1]):
        return [f"{len(words[0])} words are now {len(words[1])}"]
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return [f"{was} is now {now}" for was, now in pairs if not close(was, now)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="outputs shown in README.md and docs/ are those of today's code"
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where a page shows others"
    )
    parser.add_argument("pages", type=Path, nargs="*", default=PAGES, help="all of them by default")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        runs = Runs(Path(scratch))
        pages = [read_page(path) for path in given.pages]
        with ThreadPoolExecutor(len(pages)) as side_by_side:
            printed_by_page = list(side_by_side.map(lambda page: list(outputs(page, runs)), pages))
        for page, transcripts in zip(pages, printed_by_page, strict=True):
            lines = list(page.lines)
            trained = any(command.text == TRAIN for command in page.commands)
            otherwise = trained and runs.trained() not in README.read_text(encoding="utf-8")
            for command, printed in reversed(transcripts):
                shown = [line.removeprefix(INDENT) for line in page.lines[command.start : command.end]]
                try:
                    new = cut(printed, shown)
                    found = differences(shown, new, labels_alone=otherwise) if given.check else []
                except LookupError as error:
                    new, found = printed, [str(error)]
                lines[command.start : command.end] = [INDENT + line for line in new]
                wrong += bool(found)
                for line in found:
                    print(f"{page.path.name}:{command.start}: $ {command.text}: {line}")
            if not given.check:
                if otherwise and page.path == README:
                    kept = TRAINED.format("")[:-4]
                    lines = [runs.trained() if line.startswith(kept) else line for line in lines]
                page.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
