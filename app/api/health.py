"""`/healthz`: the process is alive. `/readyz`: it can take calls."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.dependencies import ServicesOf
from app.api.problems import documented
from app.errors import Unavailable
from app.reports.readiness import database_answers

router = APIRouter(tags=["Health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz", summary="Whether the process is alive")
async def healthz() -> Health:
    return Health()


@router.get("/readyz", summary="Whether the process can take calls", responses=documented(503))
async def readyz(services: ServicesOf) -> Health:
    """503 while the process is stopping, its spool can't be written, or the database doesn't answer within a second."""
    if not services.gateway.accepting:
        raise Unavailable("This process is stopping. Ask another one.", code="stopping")
    if services.spool.trouble:
        raise Unavailable(f"Calls can't be recorded safely: {services.spool.trouble}.", code="spool_unavailable")
    if not await database_answers(services.calls_database):
        raise Unavailable("The database doesn't answer.", code="database_unavailable")
    return Health()
