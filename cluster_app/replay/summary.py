"""What a replay comes to: the figures at its end, as one JSON object or as a table.

It decides their names, and whether the run counts as a success. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.table import Table

__all__ = ["Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one replay.

    :ivar rows: rows read, rejected ones included.
    :ivar rejected: rows that could not be used.
    :ivar messages: messages sent for rows; what asks for states at the end is not among them.
    :ivar replies: messages whose reply came, be it a value or an error.
    :ivar errors: replies that were errors, by reason.
    :ivar entities: live entities by type, at the end.
    :ivar activations: entities that came to life during the run, by type.
    :ivar deactivations: entities that were let go during the run, by type.
    :ivar elapsed_s: from the first message to the last reply.
    :ivar latency_s: quantiles of a message's time from sending to its reply, by name.
    :ivar verified: whether the totals agree with the file's; None when there is nothing to hold them against.
    :ivar differences: what does not agree, one line each.
    """

    rows: int
    rejected: int
    messages: int
    replies: int
    errors: Mapping[str, int]
    entities: Mapping[str, int]
    activations: Mapping[str, int]
    deactivations: Mapping[str, int]
    elapsed_s: float
    latency_s: Mapping[str, float | None]
    verified: bool | None = None
    differences: list[str] = field(default_factory=list)

    @property
    def messages_per_s(self) -> float:
        """Messages with their replies, per second."""
        return self.messages / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def succeeded(self) -> bool:
        """False when totals disagree, or when there were rows and not one message did what it should.

        Some rejected rows and some errors are results, and are reported: the rest went on.
        """
        nothing_worked = self.rows > 0 and sum(self.errors.values()) == self.messages
        return self.verified is not False and not nothing_worked

    def as_dict(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "messages": self.messages,
            "replies": self.replies,
            "errors": dict(self.errors),
            "entities": dict(self.entities),
            "activations": dict(self.activations),
            "messages_per_s": round(self.messages_per_s, 1),
            "latency_ms": {name: _ms(value) for name, value in self.latency_s.items()},
            "verified": self.verified,
        }

    def table(self) -> Table:
        """The same for people."""
        table = Table(show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_row("rows", f"{self.rows:,}")
        table.add_row("rejected rows", f"{self.rejected:,}")
        table.add_row("messages", f"{self.messages:,}")
        table.add_row("messages/s", f"{self.messages_per_s:,.0f}")
        table.add_row("seconds", f"{self.elapsed_s:,.1f}")
        for name, value in self.latency_s.items():
            table.add_row(f"latency {name}", "-" if value is None else f"{value * 1000:,.1f} ms")
        table.add_section()
        for title, figures in (
            ("live", self.entities),
            ("activations", self.activations),
            ("deactivations", self.deactivations),
        ):
            for kind, count in figures.items():
                table.add_row(f"{title} {kind}", f"{count:,}")
        table.add_section()
        for reason, count in sorted(self.errors.items()):
            table.add_row(f"errors {reason}", f"[red]{count:,}")
        if not self.errors:
            table.add_row("errors", "0")
        if self.verified is not None:
            table.add_row("totals agree with the file", "[green]yes" if self.verified else "[red]NO")
        return table


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
