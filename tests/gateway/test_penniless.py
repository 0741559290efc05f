"""Whose account has nothing makes nobody count the tokens of a call that can't be paid."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.billing.price import Price
from app.catalog.callers import Caller
from app.catalog.routing import DatedPrice, Snapshot
from app.errors import InsufficientCredit
from app.gateway.admission.admit import Admitter
from app.gateway.call_record import CallRecord
from app.gateway.protocols.chat_completions import ChatCompletions
from app.ledger.hold import Decision, Hold
from app.settings import Settings
from tests.billing.test_documented_examples import LONG_AGO
from tests.gateway.test_order import route

CENT = Decimal("0.01")


class Empty:
    """An account of which `available` is left, which is never enough; and the tokenizer, which is asked of `counted` calls."""

    def __init__(self, available: Decimal | None) -> None:
        self.available = available
        self.counted = 0

    async def reserve(self, hold: Hold) -> Decision:
        return Decision("credit", self.available, None)

    async def count(self, model: str, texts: list[str]) -> int:
        self.counted += 1
        return 1


@pytest.mark.parametrize(("available", "counted"), [(None, 0), (Decimal(0), 0), (-CENT, 0), (CENT, 1)])
async def test_only_who_has_something_has_tokens_counted(available: Decimal | None, counted: int) -> None:
    account, protocol, record = Empty(available), ChatCompletions(), CallRecord(api="chat.completions")
    price = Price(id=1, model_name="m", rates={"input": Decimal(1000), "output": Decimal(1000)})
    snapshot = Snapshot(1, {}, {"m": (route(1),)}, (), {}, {"m": (DatedPrice(LONG_AGO, price),)})
    admitter: Any = Admitter(
        settings=Settings(_env_file=None),
        catalog=cast(Any, SimpleNamespace(snapshot=snapshot)),
        holds=cast(Any, account),
        spool=cast(Any, SimpleNamespace(accepting=True)),
        tokenizer=cast(Any, account),
    )
    caller = Caller("u", 1, "key", None, None, False, "")
    record.called_by(caller, address=None)
    request = protocol.read(b'{"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}]}')
    record.asks_for(request)

    with pytest.raises(InsufficientCredit, match="is available"):
        await admitter.admit(protocol, request, caller, record)

    assert account.counted == counted
