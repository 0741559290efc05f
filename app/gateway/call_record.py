"""What is known of one call, from its arrival to its row."""

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from app.billing.price import LARGEST_CHARGE, Price
from app.billing.usage import NO_USAGE, Usage
from app.catalog.callers import Caller
from app.catalog.groups import Group
from app.catalog.routing import Route
from app.gateway.masking import clean, masked
from app.gateway.protocols import CallRequest, Kept
from app.ledger.outcome import Carried, Outcome

LONGEST_NAME = 255
LONGEST_ERROR = 2000
LONGEST_FLAG = 100


class CallRecord:
    """Grows step by step; `outcome`, `orphan_entry` and `deferral` write it down as the ledger wants it. `cost`: what the call
    comes to, once it has; above its ceiling, it is for the ledger to say how much of it is charged."""

    __slots__ = (
        "_flags", "_is_resumed", "_key", "_row", "caller", "ceiling", "cost", "first_token_at", "forwarded_at", "group", "multiplier",
        "open_ended", "price", "price_of", "request_id", "started", "upstream_price_of",
    )  # fmt: skip

    def __init__(self, *, api: str) -> None:
        self.request_id: UUID = uuid7()
        self.started = time.monotonic()
        self.caller: Caller | None = None
        self._key: str | None = None
        self.price: Price | None = None
        self.price_of: Callable[[str], Price | None] = _no_price
        self.upstream_price_of: Callable[[int, str], Price | None] | None = None
        self.group: Group | None = None
        self.multiplier = Decimal(1)
        self.ceiling = Decimal(0)
        self.cost: Decimal | None = None
        self.open_ended = False
        self.first_token_at: float | None = None
        self.forwarded_at: float | None = None
        self._is_resumed = False
        self._flags: list[str] = []
        self._row: dict[str, Any] = {
            "request_id": str(self.request_id),
            "model_name": "",
            "is_local": False,
            "api": api,
        }

    @classmethod
    def resumed(cls, entry: Mapping[str, Any], terms: Mapping[str, Any]) -> Self:
        """The record of a call that was deferred, maybe by another process."""
        record = cls(api=entry["api"])
        record.request_id = UUID(entry["request_id"])
        record.started = time.monotonic() - max(time.time() - terms["started"], 0)
        record.price = Price.read(terms["price"]) if terms["price"] else None
        record.ceiling = Decimal(terms["ceiling"])
        record.open_ended = terms["open_ended"]
        record.multiplier = Decimal(terms["multiplier"])
        record._flags = list(entry.get("flags") or ())
        record._is_resumed = True
        record._row = dict(entry) | {"was_deferred": True}
        return record

    def called_by(self, caller: Caller, *, address: str | None, key: str | None = None) -> None:
        """`key`: as the caller sent it; wherever else it put that, it is in no row."""
        self.caller = caller
        self._key = key
        self._row["request_ip"] = clean(address, 50)
        self._row["user_id"] = caller.user_id
        self._row["api_key_id"] = caller.key_id

    def names(self, model: str | None) -> None:
        self._row["model_name"] = clean(model and masked(model, self._key), LONGEST_NAME) or ""

    def asks_for(self, request: CallRequest) -> None:
        self.names(request.model)
        if self.caller is not None and (group := self.caller.group) is not None:
            self.group, self.multiplier = group, group.multiplier_of(request.model)
        self._row["is_stream"] = request.is_stream

    def made_for(self, end_user: str | None, tags: dict[str, Any] | None) -> None:
        self._row["end_user"] = clean(end_user, LONGEST_NAME)
        self._row["tags"] = tags

    @property
    def model(self) -> str:
        """As the client named it."""
        return str(self._row["model_name"])

    @property
    def session(self) -> str | None:
        """The session that the call belongs to, as its client tells."""
        tags = self._row.get("tags")
        return tags.get("session") if tags else None

    def routed(self, route: Route) -> None:
        self._row["model_id"] = route.model_id
        self._row["is_local"] = route.target.is_local
        self._row["upstream_id"] = route.target.id
        self._row["upstream_model"] = clean(route.upstream_model, LONGEST_NAME)

    def admitted(self, *, ceiling: Decimal, open_ended: bool, max_tokens_applied: int | None) -> None:
        self.ceiling = ceiling
        self.open_ended = open_ended
        self._row["max_tokens_applied"] = max_tokens_applied

    def keeps(self, kept: Kept, *, secret: str | None = None) -> None:
        """What the upstream keeps of the call is its user's. `secret`: the upstream's, which goes into no row."""
        self._row["objects"] = [masked(object_id, secret) for object_id in kept.ids]
        if kept.is_lasting:
            self._row["are_lasting"] = True

    def flag(self, name: str) -> None:
        if name not in self._flags:
            self._flags.append(name)

    def saw_first_token(self) -> None:
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()

    def orphan_entry(self) -> str:
        """The row that stands if this process never settles the call. It keeps the price that was promised."""
        row = (
            self._row
            | _counts(NO_USAGE, "none")
            | {
                "cost": "0",
                "status": "failed",
                "end_reason": "orphaned",
                "error_message": "The proxy stopped before this call ended.",
                "price": {**self.price.as_json(), **self._terms_of_group()} if self.price else None,
                "flags": self._flags or None,
            }
        )
        return msgspec.json.encode(row).decode()

    def deferral(self, object_id: str, *, counted: Usage, most: int, attempts: list[dict[str, object]]) -> Outcome:
        """No end yet: the call goes on in the background, as `object_id` at its upstream. `counted`: its input, and what of its
        output was delivered, for a response that reports no usage. `most`: tokens beyond which a report isn't believed."""
        terms = {
            "started": time.time() - (time.monotonic() - self.started),
            "ceiling": f"{self.ceiling:f}",
            "open_ended": self.open_ended,
            "multiplier": f"{self.multiplier:f}",
            "input_tokens": counted.input_tokens,
            "output_tokens": counted.output_tokens,
            "service_tier": counted.service_tier,
            "most": most,
            "price": self.price and {"id": self.price.id, "model_name": self.price.model_name, **self.price.as_written()},
        }
        deferred = {"upstream_id": self._row["upstream_id"], "object_id": object_id, "terms": terms}
        row = msgspec.json.decode(self.orphan_entry()) | {"attempts": attempts, "deferred": deferred}
        return Outcome(self.request_id, self._row["user_id"], msgspec.json.encode(row))

    def outcome(
        self,
        *,
        status: str,
        end_reason: str,
        http_status: int | None,
        usage: Usage | None,
        usage_source: str,
        error: str | None = None,
        attempts: list[dict[str, object]] | None = None,
    ) -> Outcome:
        """Prices the usage. A cost above the hold is cut to it, unless the call was admitted as open-ended. `http_status`
        None: the upstream gave no answer, and the client took none."""
        usage = usage or NO_USAGE
        if not usage.is_consistent:
            self.flag("usage_inconsistent")
        row = self._row | _counts(usage, usage_source)
        cost = Decimal(0)
        if self.price is not None and usage_source != "none":
            cost, row["line_items"] = self._charge(self.price, usage)
            row["price"] = {**self.price.as_json(usage.service_tier), **self._terms_of_group()}
        if self.upstream_price_of is not None and usage_source != "none":
            row["upstream_cost"] = self._upstream_cost(self.upstream_price_of, usage)
        if cost > self.ceiling and not self.open_ended:
            cost = self.ceiling
            self.flag("cut_at_hold")
        self.cost = cost
        ended_at = time.monotonic()
        row |= {
            "cost": f"{cost:f}",
            "status": status,
            "end_reason": end_reason,
            "http_status": http_status,
            "error_message": clean(error and masked(error, self._key), LONGEST_ERROR),
            "latency_ms": _milliseconds(self.started, ended_at),
            "first_token_ms": _milliseconds(self.started, self.first_token_at) if self.first_token_at else None,
            "flags": self._flags or None,
            "attempts": attempts or None,
        }
        carried = Carried(
            self.forwarded_at and self.forwarded_at - self.started, ended_at, is_plain=cost <= self.ceiling and not self._is_resumed
        )
        return Outcome(self.request_id, row["user_id"], msgspec.json.encode(row), carried)

    def _charge(self, price: Price, usage: Usage) -> tuple[Decimal, list[dict[str, Any]]]:
        """What it costs, and its line items. What other models have used is priced by their own prices, and names them."""
        charge = price.charge(
            usage.meters(),
            input_tokens=usage.input_tokens,
            units=usage.units,
            service_tier=usage.service_tier,
            multiplier=self.multiplier,
        )
        cost, items, unpriced = charge.amount, [item.as_json() for item in charge.items], [*charge.unpriced]
        for model, used in usage.others.items():
            if model in (self._row["model_name"], self._row.get("upstream_model")):
                continue  # its own counts hold it
            if (theirs := self.price_of(model)) is None:
                unpriced.append(clean(model, LONGEST_FLAG) or "")
                continue
            multiplier = self.group.multiplier_of(model) if self.group else self.multiplier
            charge = theirs.charge(used.meters(), input_tokens=used.input_tokens, service_tier=used.service_tier, multiplier=multiplier)
            cost += charge.amount
            items += [item.as_json() | {"model": model} for item in charge.items]
            unpriced += charge.unpriced
        for what in unpriced:
            self.flag(f"unpriced:{what}")
        return min(cost, LARGEST_CHARGE), items

    def _upstream_cost(self, price_of: Callable[[int, str], Price | None], usage: Usage) -> str | None:
        """What the upstream charges the operator; None: not known for all that was used."""
        total, own = Decimal(0), (self._row["model_name"], self._row.get("upstream_model"))
        for model, used in ((own[0], usage), *((model, used) for model, used in usage.others.items() if model not in own)):
            if (price := price_of(self._row["upstream_id"], model)) is None:
                return None
            charge = price.charge(used.meters(), input_tokens=used.input_tokens, units=used.units, service_tier=used.service_tier)
            if charge.unpriced:
                return None
            total += charge.amount
        return f"{min(total, LARGEST_CHARGE):f}"

    def _terms_of_group(self) -> dict[str, str]:
        """What the line items were multiplied by, and why."""
        return {"group": self.group.name, "multiplier": f"{self.multiplier:f}"} if self.group else {}

    def given_up(self, *, attempts: list[dict[str, object]]) -> Outcome:
        """The outcome of a call whose client left before an answer began: it bills nothing, and nothing has failed."""
        return self.outcome(
            status="success",
            end_reason="client_gone",
            http_status=None,
            usage=None,
            usage_source="none",
            error="The client left before the answer began.",
            attempts=attempts,
        )

    def failure(self, *, reason: str, http_status: int, error: str, attempts: list[dict[str, object]] | None = None) -> Outcome:
        """The outcome of a call of which nothing was delivered: it bills nothing."""
        return self.outcome(
            status="failed", end_reason=reason, http_status=http_status, usage=None, usage_source="none", error=error, attempts=attempts
        )


def _no_price(_: str) -> None:
    return None


def _counts(usage: Usage, source: str) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "usage_source": source,
    }


def _milliseconds(start: float, end: float) -> int:
    return round((end - start) * 1000)
