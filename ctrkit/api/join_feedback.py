"""`ctrkit join-feedback`: the journal of a server as a log."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ctrkit.api.results import Result
from ctrkit.errors import ConfigError
from ctrkit.experiments.interleaving import Preference
from ctrkit.extras import require
from ctrkit.reports import Report, Table
from ctrkit.reports.cells import Interval, interval

# Count of `ctrkit.serving.feedback.shown.Shown` -> what it is.
COUNTS = {
    "events": "clicks and conversions that count",
    "strangers": "clicks and conversions of nothing that was shown",
    "late": "clicks and conversions outside the window",
    "repeated_events": "events that had come before",
    "repeated": "decisions whose request had one before",
    "unshown": "decisions of which nothing was shown",
    "open": "rows left out as younger than the window",
    "torn": "files with a torn last line",
}


@dataclass(frozen=True, repr=False)
class JoinFeedbackResult(Result):
    """A log that was made of a journal.

    Attributes:
        journal: folder of the journal.
        out: path of the log.
        rows: number of its rows.
        counts: what was counted and what was left out, by its name (see `ctrkit.serving.feedback.shown`).
        preferences: (version that decided, version beside it) -> which of them got more clicks in lists that
            both have filled; empty without such lists.
    """

    journal: str
    out: str
    rows: int
    counts: dict[str, int]
    preferences: dict[tuple[str, str], Preference] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "journal": self.journal,
            "out": self.out,
            "rows": self.rows,
            "counts": self.counts,
            "preferences": [
                {"version": second, "against": first, **one.to_dict()}
                for (first, second), one in self.preferences.items()
            ],
        }

    def report(self) -> Report:
        counts = Table(
            "The journal", ("what", "number"), tuple((COUNTS[one], self.counts[one]) for one in COUNTS)
        )
        lists = tuple(
            (second, first, of.wins, of.losses, of.ties, _share(of), of.p_value)
            for (first, second), of in self.preferences.items()
        )
        header = ("version", "against", "more clicks", "fewer", "as many", "share of more", "p-value")
        found = [Table("Lists of two versions", header, lists)] if lists else []
        rows = f"{self.rows:,} row{'s' * (self.rows != 1)}"
        return Report("Feedback", f"{rows} of {self.journal} written to {self.out}.", (counts, *found))


def _share(of: Preference) -> Interval | None:
    return interval({**of.to_dict(), "value": of.share})


def join_feedback(
    journal: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "feedback.parquet",
    rows: str = "decisions",
    reward: str = "click",
    window: float | None = None,
    id: str | None = None,
) -> JoinFeedbackResult:
    """Write the journal of a server as a log: decisions and what came of them, one parquet file.

    Rows are decisions, for `ctrkit ope`: the context under the names of the features, `candidates`, each
    further column of the candidates as a list `candidate_<feature>`, the action, its propensity, the policy's
    probabilities of all candidates, the labels `click` and `conversion`, the `value` of the conversions, and
    the reward. Or they are impressions, for `ctrkit train`: the features of the candidate that was shown, as
    they were scored, the labels, the times of the events, and the probabilities that were served.

    Memory grows with the number of decisions, and not with their features.

    Args:
        journal: folder of `ctrkit serve --journal`; a server may write there meanwhile.
        out: path of the log.
        rows: "decisions" that a policy of the server has made, or "impressions": these, bids that were won,
            and candidates that an event of the kind `impression` names.
        reward: what a policy should earn: "click" or "conversion", whether there was one, or "value", the sum
            of the values of the conversions.
        window: seconds after a decision in which its events count. Decisions that are younger than that at
            the newest entry are left out, as their events may yet come. None: all count.
        id: column of the candidates' ids; by default the one that the model's spec names.

    Raises:
        ConfigError: an argument is wrong, or a package is not installed.
        DataError: there is no journal, nothing of it was shown, a decision has no ids, or a feature has the
            name of another column of the log.
        RunError: the log cannot be written.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.join_feedback("journal", out="rows.parquet", rows="impressions").rows  # doctest: +SKIP
    """
    require("msgspec", "A journal", "serve")
    from ctrkit.serving.feedback.join import REWARDS, ROWS, join_journal

    for name, value, known in (("rows", rows, ROWS), ("reward", reward, REWARDS)):
        if value not in known:
            raise ConfigError(f"'{value}' is none of {', '.join(known)}", argument=name)
    if window is not None and not window >= 0:
        raise ConfigError(f"a window of {window:g} seconds is none", argument="window")
    found = join_journal(journal, out, rows, reward, window, id)
    counts = {name: getattr(found.shown, name) for name in COUNTS}
    return JoinFeedbackResult(
        os.fspath(journal), os.fspath(out), found.shown.table.height, counts, found.preferences
    )
