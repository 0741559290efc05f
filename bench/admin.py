"""The bench as an operator of the proxy, over REST alone: sets it up, and reads the books that it keeps.

An answer other than 2xx, or one of another shape than the contract's, is a `Failure` that quotes it.
"""

import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple, TypeVar

import httpx
import msgspec

from bench.processes import Failure
from bench.wire import MODEL

CREDIT = "1000"
PAGE = 500
_SETTING_IN = 5.0

_Shape = TypeVar("_Shape")


class Account(msgspec.Struct):
    """As `GET /admin/users/{id}` tells it."""

    id: str
    billed: Decimal
    spent: Decimal
    held: Decimal


class Row(msgspec.Struct):
    """A row of `api_call_log`, as `GET /logs` tells it."""

    request_id: str
    user_id: str
    status: str
    input_tokens: int
    output_tokens: int
    bill: Decimal
    charge: Decimal


class Customer(NamedTuple):
    user_id: str
    key: str


class _Page(msgspec.Struct):
    data: list[Row]
    next_cursor: str | None


class _Key(msgspec.Struct):
    key: str


class _Upstream(msgspec.Struct):
    id: int | str


class Operator:
    """`name` marks everything that this benchmark makes, in a database that may have seen others."""

    def __init__(self, url: str, admin_token: str, name: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {admin_token}"}, timeout=30.0, trust_env=False)
        self._name = name
        self._upstream: int | str | None = None

    def ready(self) -> bool:
        try:
            return self._http.get("/readyz", timeout=2.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def set_up(self, upstream_url: str, rates: dict[str, str]) -> None:
        """One upstream for every model, and a price for the model that is called."""
        upstream = {"name": self._name, "base_url": upstream_url, "api_key": "sk-bench-upstream"}
        answer = self._send("POST", "/admin/upstreams", upstream | {"models": ["*"], "stream_usage": "inject"})
        self._upstream = _read(answer, _Upstream).id
        self._send("PUT", f"/admin/prices/{MODEL}", {"rates": rates})
        self._try_a_call(self.enrol("probe").key)

    def _try_a_call(self, key: str) -> None:
        """So that a set-up that doesn't work says why, once; other workers may hear of it a moment later."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Is " + "anybody " * 50 + "there?"}]}
        deadline = time.monotonic() + _SETTING_IN
        while True:
            try:
                self._send("POST", "/v1/chat/completions", body, key=key)
                return
            except Failure:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def tear_down(self) -> None:
        """Takes the upstream away, which in a database that stays would lead nowhere."""
        if self._upstream is not None:
            self._send("DELETE", f"/admin/upstreams/{self._upstream}")
            self._upstream = None

    def enrol(self, number: int | str) -> Customer:
        """A new user with credit and a key."""
        user_id = f"{self._name}-{number}"
        self._send("POST", "/admin/users", {"id": user_id, "name": "Benchmark"})
        self._send("POST", f"/admin/users/{user_id}/credits", {"amount": CREDIT, "note": "benchmark"})
        return Customer(user_id, _read(self._send("POST", "/admin/keys", {"user_id": user_id}), _Key).key)

    def account(self, user_id: str) -> Account:
        return _read(self._send("GET", f"/admin/users/{user_id}"), Account)

    def rows(self, user_id: str, at_most: int) -> Iterator[Row]:
        """All rows of a user, page by page; a cursor that doesn't end is a `Failure` once `at_most` rows are passed."""
        query = {"user_id": user_id, "limit": str(PAGE)}
        seen = 0
        while True:
            page = _read(self._send("GET", "/logs", query=query), _Page)
            yield from page.data
            seen += len(page.data)
            if page.next_cursor is None:
                return
            if seen > at_most:
                raise Failure(f"GET /logs: more than {at_most} rows of {user_id}, and no end")
            query["cursor"] = page.next_cursor

    def close(self) -> None:
        self._http.close()

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """With the admin token, or with a platform `key`."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        try:
            answer = self._http.request(method, path, json=body, params=query, headers=headers)
        except httpx.TransportError as broken:
            raise Failure(f"{method} {path}: {broken!r}") from broken
        if not answer.is_success:
            raise Failure(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer


def _read(answer: httpx.Response, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(answer.content, type=shape)
    except msgspec.MsgspecError as other:
        raise Failure(f"{answer.request.method} {answer.request.url.path}: {other}: {answer.text[:500]}") from other
