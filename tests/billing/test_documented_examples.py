"""The page on billing is true: its examples come to the figures that it shows, by the code that admits and prices calls."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.billing.price import Price
from app.billing.usage import Usage
from app.catalog.callers import Caller
from app.catalog.groups import Group
from app.catalog.routing import DatedPrice, ModelLimits, Route, Snapshot, Target
from app.gateway.admission.admit import AdmittedCall, Admitter
from app.gateway.call_record import CallRecord
from app.gateway.metering.estimate import Tokenizer
from app.gateway.protocols import PROTOCOLS
from app.settings import Settings
from tests.harness.documented import Example, examples

MODEL, UPSTREAM = "gpt-x", 1
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
protocols = {protocol.api: protocol for protocol in PROTOCOLS}


class _Catalog:
    """In memory, as a process has it."""

    def __init__(self, example: Example, model: str) -> None:
        target = Target(UPSTREAM, "upstream", "http://upstream", "auto", False, "inject", "cancel", None)
        upstream_price = _price(example.first("upstream"))
        self.snapshot = Snapshot(
            version=1,
            targets={UPSTREAM: target},
            named={model: (Route(target, model, 1, None, 0, 1),)},
            wildcards=(),
            limits={model: ModelLimits(**json.loads(example.first("limits") or "{}"))},
            prices={model: (DatedPrice(LONG_AGO, _price(example.first("price"))),)},
            upstream_prices={(UPSTREAM, model): (DatedPrice(LONG_AGO, upstream_price),)} if upstream_price else {},
        )


def _price(written: str | None) -> Any:
    return written and Price.parse(id=1, model_name=MODEL, **{"tiers": None} | json.loads(written))


def _caller(example: Example) -> Caller:
    group = None
    if terms := json.loads(example.first("group") or "null"):
        of_models = {pattern: Decimal(text) for pattern, text in terms["model_multipliers"].items()}
        group = Group(1, "group", Decimal(terms["multiplier"]), of_models, None, None)
    return Caller("user", 1, "key", None, None, False, "", group)


class _Worked:
    """What the code makes of an example, as lines."""

    def __init__(self, example: Example, directory: Path) -> None:
        self.example = example
        api, body = (example.first("asks") or "").partition(" ")[::2]
        self.asked = bool(api)
        api = api or (example.first("reports") or "").partition(" ")[0]
        self.protocol: Any = protocols[api]
        self.record = CallRecord(api=api)
        self.record.called_by(_caller(example), address=None)
        self.tokenizer = Tokenizer(directory)
        self.admitter: Any = Admitter(
            settings=Settings(_env_file=None),
            catalog=_Catalog(example, json.loads(body)["model"] if body else MODEL),  # type: ignore[arg-type]
            holds=None,  # type: ignore[arg-type]
            spool=None,  # type: ignore[arg-type]
            tokenizer=self.tokenizer,
        )
        self.body = body.encode()

    def lines(self) -> list[str]:
        call = self._admitted()
        lines = []
        if self.example.first("available") or (self.asked and not call.request.measured.units):
            lines += [f"bound {call.bound.input_tokens} in, {call.bound.output_tokens} out", f"holds {call.ceiling:f}"]
        if call.output_limit_applied:
            lines.append(f"applied {call.output_limit_applied}")
        usage = self._usage(call)
        return lines if usage is None else [*lines, *self._billed(usage)]

    def _admitted(self) -> AdmittedCall:
        """Examples that ask for nothing in particular may cost anything."""
        if not self.asked:
            self.body = json.dumps({"model": MODEL, "messages": []}).encode()
            request = protocols["chat.completions"].read(self.body)
        else:
            request = self.protocol.read(self.body)
        self.record.asks_for(request)
        call: AdmittedCall = self.admitter.plan(self.protocol, request, self.record.caller, self.record)
        if available := self.example.first("available"):
            assert asyncio.run(self.admitter.fit(call, Decimal(available)))
        self.record.admitted(ceiling=call.ceiling, open_ended=call.open_ended or not self.asked, max_tokens_applied=None)
        return call

    def _usage(self, call: AdmittedCall) -> Usage | None:
        if answer := (self.example.first("reports") or "").partition(" ")[2]:
            usage: Usage | None = self.protocol.usage_of(answer.encode())
            assert usage is not None
            return usage
        units = call.request.measured.units
        return Usage(units=units) if units else None

    def _billed(self, usage: Usage) -> list[str]:
        outcome = self.record.outcome(status="success", end_reason="completed", http_status=200, usage=usage, usage_source="provider")
        row = json.loads(outcome.entry)
        lines = []
        for item in row["line_items"]:
            per = "" if item["per"] == 1 else f" / {item['per']}"
            lines.append(f"{item['meter']} {item['quantity']} x {item['unit_price']}{per} = {_plain(item['amount'])}")
        multiplier = row["price"].get("multiplier")
        lines.append(f"charge {row['cost']}" + (f", times {multiplier}" if multiplier else ""))
        if "upstream_cost" in row:
            lines.append(f"cost {row['upstream_cost']}")
        if row["flags"]:
            lines.append(f"flags {', '.join(row['flags'])}")
        return lines


def _plain(amount: str) -> str:
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


@pytest.mark.parametrize("example", examples("price"))
def test_an_example_comes_to_what_the_page_shows(example: Example, tmp_path: Path) -> None:
    assert _Worked(example, tmp_path / "tokenizer").lines() == list(example.results)


def test_the_page_has_an_example_of_each_kind_of_meter() -> None:
    shown = " ".join(line for example in examples("price") for line in example.results)
    kinds = (
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "audio_input",
        "output",
        "reasoning",
        "image_output",
        "image:hd:",
        "second",
    )
    assert [kind for kind in (*kinds, "character", "search", "web_search", "request") if f"{kind}" not in shown] == []
