"""A statement as CSV (RFC 4180): a line for each movement, whose `amount` leads from the opening to the closing balance.

Text that a spreadsheet would take for a formula gets an apostrophe before it (`app/spreadsheet.py`). Numbers are left as they are.
"""

import csv
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

from app.models import CreditEntry
from app.reports.statement import TOKENS, Statement, UsageLine
from app.spreadsheet import as_text

COLUMNS = (
    "kind", "time", "model_name", "api_key_id", "api_key_name", "calls", *TOKENS, "charge", "write_off", "amount", "request_id", "note",
)  # fmt: skip

Cell = str | int | Decimal | None


def as_csv(statement: Statement) -> str:
    text = StringIO()
    lines = csv.DictWriter(text, COLUMNS, restval="")
    lines.writeheader()
    lines.writerow({"kind": "opening_balance", "time": _moment(statement.start), "amount": f"{statement.opening_balance:f}"})
    lines.writerows(_of_entry("credit", entry) for entry in statement.credits)
    lines.writerows(_of_entry("refund", entry) for entry in statement.refunds)
    lines.writerows(_of_usage(line) for line in statement.usage)
    lines.writerow({"kind": "closing_balance", "time": _moment(statement.end), "amount": f"{statement.closing_balance:f}"})
    return text.getvalue()


def _of_entry(kind: str, entry: CreditEntry) -> dict[str, Cell]:
    return {
        "kind": kind,
        "time": _moment(entry.created_at),
        "amount": f"{entry.amount:f}",
        "request_id": str(entry.request_id) if entry.request_id else "",
        "note": as_text(entry.note or ""),
    }


def _of_usage(line: UsageLine) -> dict[str, Cell]:
    return {
        "kind": "usage",
        "model_name": as_text(line.model_name),
        "api_key_id": line.api_key_id,
        "api_key_name": as_text(line.api_key_name or ""),
        "calls": line.calls,
        **{name: getattr(line, name) for name in TOKENS},
        "charge": f"{line.charge:f}",
        "write_off": f"{line.write_off:f}",
        "amount": f"{-line.bill:f}",
    }


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
