"""Rows of the call log as COPY takes them: skewed as real ones are, in the order of time, always the same ones.

A few users make most calls, with a few models of their own; models come and are retired, and so is an upstream; some values are
rare. Bills are cut as the ledger cuts them. Rows are put together of ready pieces, as PostgreSQL should be what takes the time.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

USERS, MODELS, UPSTREAMS, DAYS = 2000, 200, 12, 400
KEYS = 4
"""Of each user: key `u * KEYS + k`, from 1."""
RETIRED_UPSTREAM = 12
RETIRED_ON = 100
"""The day, of 400."""
COLUMNS = (
    "user_id", "api_key_id",
    "model_id", "model_name", "is_local", "upstream_id", "upstream_model", "api", "price", "attempts",
    "input_tokens", "output_tokens", "cache_read_tokens", "charge", "line_items",
    "status", "error_message", "http_status", "end_reason", "usage_source", "is_stream", "latency_ms", "first_token_ms",
    "bill", "request_ip", "created_at", "settled_at", "request_id", "end_user", "write_off", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip
"""A line for each piece."""
_CHUNK = 2000
_PIECES = 20_000
_UNIT = 10**6
"""Charges are counted in 10^-10, bills in 10^-4."""
_APIS = ("chat.completions", "chat.completions", "chat.completions", "messages", "responses", "embeddings", "gemini.generate")
_ENDS = {"completed": 9600, "client_gone": 100, "upstream_error": 230, "insufficient_credit": 69, "orphaned": 1}
_STATUS = {"completed": 200, "client_gone": 200, "upstream_error": 502, "insufficient_credit": 402, "orphaned": "\\N"}


class _Usage(NamedTuple):
    charge: int
    text: str


class _End(NamedTuple):
    failed: bool
    text: str


def user(number: int) -> str:
    return f"user-{number:04d}"


def model(number: int) -> str:
    return f"vendor/model-{number:03d}"


class Rows:
    """`spent` of each user and `charged` of each key, in 10^-10, are known once all rows are made."""

    def __init__(self, count: int, *, until: datetime) -> None:
        self.count = count
        self.since = until - timedelta(days=DAYS)
        self._since = self.since.replace(tzinfo=None)
        self._started = int(self.since.timestamp())
        self._random = random.Random(6)
        self.spent = [0] * USERS
        self.charged = [0] * (USERS * KEYS)
        self._weights = list(accumulate(1 / (rank + 1) for rank in range(USERS)))
        popularity = [1 / (rank + 1) ** 1.1 for rank in range(MODELS)]
        self._favourites = [self._random.choices(range(MODELS), popularity, k=1 + who % 6) for who in range(USERS)]
        self._alive = [self._life(number) for number in range(MODELS)]
        self._addresses = [[f"10.{who >> 8}.{who & 255}.{last}" for last in range(1, 3 + who % 5)] for who in range(USERS)]
        self._models = [[_model_piece(number, retired=retired) for retired in (False, True)] for number in range(MODELS)]
        self._usages = [self._usage() for _ in range(_PIECES)]
        ends = self._random.choices(list(_ENDS), list(_ENDS.values()), k=_PIECES)
        self._ends = [self._end(end) for end in ends]

    def chunks(self) -> Iterator[bytes]:
        for first in range(0, self.count, _CHUNK):
            many = min(_CHUNK, self.count - first)
            users = self._random.choices(range(USERS), cum_weights=self._weights, k=many)
            usages = self._random.choices(self._usages, k=many)
            ends = self._random.choices(self._ends, k=many)
            rows = map(self._row, range(first, first + many), users, usages, ends)
            yield "".join(rows).encode()

    def _life(self, number: int) -> tuple[int, int]:
        if number < 20 or number % 3 == 0:
            return 0, DAYS
        day = self._random.randrange(20, DAYS - 20)
        return (0, day) if number % 3 == 1 else (day, DAYS)

    def _usage(self) -> _Usage:
        tokens, out = int(50 + 4000 * self._random.random() ** 3), int(5 + 1200 * self._random.random() ** 2)
        cached = self._random.choice((0, 0, 0, tokens // 2))
        return _used(tokens, cached, out)

    def _end(self, end: str) -> _End:
        failed = end not in ("completed", "client_gone")
        latency = int(80 + 30_000 * self._random.random() ** 4)
        stream = not failed and self._random.random() < 0.7
        source = "none" if failed else "estimated" if end == "client_gone" else "provider"
        error = "The upstream gave no usable answer." if failed else "\\N"
        fields = ("failed" if failed else "success", error, _STATUS[end], end, source, "t" if stream else "f", latency)
        return _End(failed, "\t".join(map(str, (*fields, latency // 5 if stream else "\\N"))))

    def _row(self, number: int, who: int, usage: _Usage, end: _End) -> str:
        """Three rows at a time are settled together."""
        dice = self._random.random()
        day = number * DAYS // self.count
        favourites = self._favourites[who]
        what = favourites[int(len(favourites) * dice * dice)]
        born, died = self._alive[what]
        if not born <= day < died:
            what = who % 20
        key = who * KEYS + int(KEYS * dice**3) + 1
        if end.failed:
            usage = _UNUSED
        spent = self.spent[who] + usage.charge
        bill = (spent + _UNIT // 2) // _UNIT - (self.spent[who] + _UNIT // 2) // _UNIT
        self.spent[who] = spent
        self.charged[key - 1] += usage.charge
        addresses = self._addresses[who]
        seconds = DAYS * 86_400 * (number - number % 3) // self.count
        when = (self._since + timedelta(seconds=seconds)).isoformat()
        request_id = f"{(self._started + seconds) * 1000:012x}7{number & 0xFFF:03x}8{number >> 12:015x}"
        end_user = f"customer-{who}-{int(dice * 5000) % 500}" if dice < 0.3 else "\\N"
        called, cut = self._models[what][day >= RETIRED_ON], f"{bill // 10000}.{bill % 10000:04d}"
        return (
            f"user-{who:04d}\t{key}\t{called}\t{usage.text}\t{end.text}\t{cut}\t"
            f"{addresses[int(dice * 100) % len(addresses)]}\t{when}\t{when}+00\t{request_id}\t{end_user}\t0\t0\t0\n"
        )


def start_of_bench() -> datetime:
    """The hour that has begun: all rows are older."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def _used(tokens: int, cached: int, out: int) -> _Usage:
    parts = (("input", tokens - cached, "0.15", 1500), ("cache_read", cached, "0.075", 750), ("output", out, "0.6", 6000))
    items = ", ".join(
        f'{{"meter": "{meter}", "count": {count}, "per_million": "{rate}", "amount": "{count * unit / 1e10:.10f}"}}'
        for meter, count, rate, unit in parts
        if count
    )
    charge = sum(count * unit for _, count, _, unit in parts)
    return _Usage(charge, f"{tokens}\t{out}\t{cached}\t{charge // 10**10}.{charge % 10**10:010d}\t[{items}]")


_UNUSED = _used(0, 0, 0)


def _model_piece(number: int, *, retired: bool) -> str:
    upstream = number % UPSTREAMS + 1
    if upstream == RETIRED_UPSTREAM and retired:
        upstream = 1
    api = "rerank" if number == MODELS - 1 else _APIS[number % len(_APIS)]
    price = f'{{"id": {number + 1}, "model_name": "{model(number)}", "rates": {{"input": "0.15", "output": "0.6", "cache_read": "0.075"}}}}'
    local = "t" if number >= 180 else "f"
    fields = (number + 1, model(number), local, upstream, f"model-{number:03d}-2030-01-01", api, price, f'[{{"upstream_id": {upstream}}}]')
    return "\t".join(map(str, fields))
