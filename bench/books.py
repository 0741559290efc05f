"""Compares what the clients saw with what the proxy wrote down. Pure; an empty list if all is well.

Three witnesses: the load generator (each call's id and counts), the proxy (rows and accounts), the stand-in (totals).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal

from bench.admin import Account, Row
from bench.report import Call
from bench.wire import Totals

# Four decimals, for a charge that needs all its ten.
RATES = {"input": "0.1375", "output": "0.6025", "cache_read": "0.0675"}
ROUNDING = Decimal("0.00005")
_MILLION = Decimal(1_000_000)
_INPUT, _OUTPUT, _CACHE_READ = (Decimal(RATES[meter]) / _MILLION for meter in ("input", "output", "cache_read"))


def cost_of(call: Call) -> Decimal:
    return (call.input - call.cached) * _INPUT + call.cached * _CACHE_READ + call.output * _OUTPUT


def differences(calls: Sequence[Call], rows: Sequence[Row], accounts: Sequence[Account], answered: Totals) -> list[str]:
    """One line for each thing that is not as it must be."""
    return [
        *_calls_against_rows(calls, rows),
        *_accounts_against_rows(accounts, rows),
        *_upstream_against_rows(answered, rows),
    ]


def _calls_against_rows(calls: Sequence[Call], rows: Sequence[Row]) -> list[str]:
    found = [f"calls failed ({failure}): {count}" for failure, count in Counter(c.failure for c in calls if c.failure).items()]
    found += [f"row twice: {name}" for name, count in Counter(row.request_id for row in rows).items() if count > 1]
    row_of = {row.request_id: row for row in rows}
    finished = {call.request_id: call for call in calls if not call.failure}
    if len(finished) != sum(not call.failure for call in calls):
        found.append("calls share an X-Request-ID, or have none")
    found += [f"call without a row: {name}" for name in finished.keys() - row_of.keys()]
    refused = {call.request_id for call in calls if call.failure}
    found += [f"row without a call: {name}" for name in row_of.keys() - finished.keys() - refused]
    for name, call in finished.items():
        if name in row_of:
            found += _call_against_row(call, row_of[name])
    return found


def _call_against_row(call: Call, row: Row) -> list[str]:
    found = []
    if row.status != "success":
        found.append(f"row {row.request_id}: status {row.status}, but its client has the whole answer")
    if (row.input_tokens, row.output_tokens) != (call.input, call.output):
        counted = f"{row.input_tokens} + {row.output_tokens}"
        found.append(f"row {row.request_id}: {counted} tokens, but its client saw {call.input} + {call.output}")
    if row.charge != cost_of(call):
        found.append(f"row {row.request_id}: charge {row.charge}, must be {cost_of(call)}")
    return found


def _accounts_against_rows(accounts: Sequence[Account], rows: Sequence[Row]) -> list[str]:
    bills: defaultdict[str, Decimal] = defaultdict(Decimal)
    charges: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        bills[row.user_id] += row.bill
        charges[row.user_id] += row.charge
    found = []
    for account in accounts:
        bill, charge = bills[account.id], charges[account.id]
        if abs(bill - charge) > ROUNDING:
            found.append(f"user {account.id}: bills {bill} are too far from charges {charge}")
        if account.billed != bill:
            found.append(f"user {account.id}: account billed {account.billed}, rows {bill}")
        if account.spent != charge:
            found.append(f"user {account.id}: account spent {account.spent}, rows {charge}")
        if account.held:
            found.append(f"user {account.id}: {account.held} still held")
    return found


def _upstream_against_rows(answered: Totals, rows: Sequence[Row]) -> list[str]:
    served = [row for row in rows if row.status == "success"]
    written = Totals(len(served), sum(row.input_tokens for row in served), sum(row.output_tokens for row in served))
    return [] if written == answered else [f"the upstream answered {answered}, the rows say {written}"]
