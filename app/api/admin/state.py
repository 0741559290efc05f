"""`/admin/state`: what the ledger has under way, and whose money ends soon."""

from pydantic import Field

from app.api.admin.shapes import admin_router
from app.api.dependencies import ServicesOf
from app.api.fields import Answer, Moment, Money
from app.reports.ledger_state import ledger_state

router = admin_router("/state", tag="Operators")


class LowBalanceAnswer(Answer):
    user_id: str = Field(examples=["alice"])
    available: Money = Field(description="What new calls may cost.", examples=["1.5000000000"])
    daily: Money = Field(description="What a day cost, as the mean of seven.", examples=["0.7500000000"])
    days: float = Field(description="For how many what is available lasts at that.", examples=[2.0])


class SpoolAnswer(Answer):
    """Of the process that answers."""

    unsettled: int = Field(description="Calls that ended, and whose rows the database doesn't have yet.", examples=[0])
    size: int = Field(description="Bytes.", examples=[0])
    trouble: str | None = Field(description="Why no calls are taken.", examples=[None])


class StateAnswer(Answer):
    in_flight: int = Field(examples=[3])
    held: Money = Field(description="The ceilings of calls in flight.", examples=["0.0420000000"])
    oldest: Moment | None = Field(description="When the call began that is in flight for longest.")
    processes: int = Field(description="That serve, at all replicas.", examples=[2])
    spool: SpoolAnswer
    low: list[LowBalanceAnswer] = Field(description="Users whose money lasts for less than three days; twenty at most.")


@router.get("", summary="Show what the ledger has under way")
async def show(services: ServicesOf) -> StateAnswer:
    async with services.database.reading() as session:
        state = await ledger_state(session)
    spool = services.spool
    return StateAnswer(
        in_flight=state.in_flight,
        held=state.held,
        oldest=state.oldest,
        processes=state.processes,
        spool=SpoolAnswer(unsettled=spool.records, size=spool.size, trouble=spool.trouble),
        low=[LowBalanceAnswer.model_validate(low) for low in state.low],
    )
