"""Whatever calls cost, whoever makes them, and however they are batched: the books are right to the last digit."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.postgres import Database
from tests.ledger.calls import Call, account, make_key, make_payer
from tests.ledger.replica import Replica
from tests.ledger.sums import check, check_at_rest

EXAMPLES = 40

tiny = st.integers(0, 3_000_000).map(lambda units: Decimal(units).scaleb(-10))
halves = st.integers(0, 20).map(lambda units: Decimal(units) * Decimal("0.00005"))
usual = st.decimals(0, 20, places=10)


@dataclass(frozen=True)
class Plan:
    """One call: who makes it, with which of two keys, what it costs, what is held on top, and what its row says."""

    payer: int
    key: int
    cost: Decimal
    spare: Decimal
    model: str
    status: str
    counts: tuple[int, int, int]
    upstream: int | None
    api: str | None


plans = st.builds(
    Plan,
    payer=st.integers(0, 2),
    key=st.integers(0, 1),
    cost=st.one_of(tiny, halves, usual),
    spare=st.one_of(st.just(Decimal(0)), tiny, usual),
    model=st.sampled_from(["model-a", "模型"]),
    status=st.sampled_from(["success", "failed"]),
    counts=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 100)),
    upstream=st.sampled_from([None, 7]),
    api=st.sampled_from([None, "chat_completions"]),
)


@st.composite
def batchings(draw: st.DrawFn) -> list[list[Plan]]:
    """Calls in the order in which they end, cut into batches."""
    left = draw(st.lists(plans, min_size=1, max_size=40))
    batches = []
    while left:
        size = draw(st.integers(1, len(left)))
        batches.append(left[:size])
        left = left[size:]
    return batches


def carried_out(db: Database, batches: Sequence[Sequence[Plan]], credit: str) -> tuple[list[str], list[list[Call]]]:
    """Three users with two keys each, and the planned calls. The ids of calls are not in the order in which they end."""
    payers = [make_payer(db, credit=credit) for _ in range(3)]
    keys = [(payer.key_id, make_key(db, payer.user_id)) for payer in payers]
    calls = [[_call(payers[plan.payer].user_id, keys[plan.payer][plan.key], plan) for plan in batch] for batch in reversed(batches)]
    return [payer.user_id for payer in payers], calls[::-1]


def _call(user_id: str, key_id: int, plan: Plan) -> Call:
    row = {
        "model_name": plan.model,
        "status": plan.status,
        "input_tokens": plan.counts[0],
        "output_tokens": plan.counts[1],
        "cache_read_tokens": plan.counts[2],
        "upstream_id": plan.upstream,
        "api": plan.api,
    }
    return Call(user_id, key_id, plan.cost, ceiling=plan.cost + plan.spare, row=row)


bounded = settings(max_examples=EXAMPLES, deadline=None)


@bounded
@given(batchings())
def test_bills_add_up_to_charges_for_every_user_however_calls_are_batched(ledger: Replica, db: Database, batches: list[list[Plan]]) -> None:
    users, calls = carried_out(db, batches, credit="10000")
    ledger.hold(*(call for batch in calls for call in batch))

    for batch in calls:
        ledger.settle(*batch)

    check_at_rest(db, users)
    for user in users:
        costs = [call.cost for batch in calls for call in batch if call.user_id == user]
        after = account(db, user)
        assert after["spent"] == sum(costs)
        assert abs(after["billed"] - sum(costs)) <= Decimal("0.00005")
        assert after["written_off"] == 0


@bounded
@given(batchings(), st.integers(0, 60))
def test_what_was_granted_is_paid_in_full_and_the_rest_was_never_held(
    ledger: Replica, db: Database, batches: list[list[Plan]], credit: int
) -> None:
    users, calls = carried_out(db, batches, credit=str(credit))

    for batch in calls:
        decisions = ledger.reserve(*batch)
        check(db, users)
        granted = [call for call, decision in zip(batch, decisions, strict=True) if decision.outcome == "granted"]
        for call, decision in zip(batch, decisions, strict=True):
            assert decision.outcome in ("granted", "credit")
            assert decision.outcome == "granted" or call.ceiling > _left(db, call.user_id)
        ledger.settle(*granted)

    check_at_rest(db, users)


def _left(db: Database, user_id: str) -> Decimal:
    """What could still be held, after what the batch was granted."""
    return account(db, user_id)["available"]
