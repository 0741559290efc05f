"""`/metrics`, for Prometheus: of all workers, whichever answers.

`METRICS_TOKEN` and `ADMIN_TOKEN` are good while the database is away, which is when the numbers matter most; other operators'
tokens are looked up in it.
"""

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from app.api.dependencies import Services, ServicesOf, require_operator
from app.api.problems import documented
from app.metrics.exposition import CONTENT_TYPE, exposed
from app.reports.open_calls import Open

router = APIRouter(tags=["Health"])


async def _may_read(request: Request, services: ServicesOf) -> None:
    settings = services.settings
    if settings.metrics_access == "open":
        return
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    known = settings.metrics_token
    if known and scheme.lower() == "bearer" and hmac.compare_digest(presented.strip().encode(), known.get_secret_value().encode()):
        return
    await require_operator(request, services, None)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text format 0.0.4."},
        **documented(401),
    },
)
async def metrics(services: ServicesOf, _: Annotated[None, Depends(_may_read)]) -> Response:
    """Needs `METRICS_TOKEN`, or an operator's token of any role, unless `METRICS_ACCESS` is `open`."""
    services.readings.take()
    _set_open_calls(services, await services.open_calls.ask())
    return Response(exposed(services.readings.metrics.families(), services.shared_counts.others()), media_type=CONTENT_TYPE)


def _set_open_calls(services: Services, found: Open | None) -> None:
    metrics = services.readings.metrics
    metrics.database_up.set(found is not None)
    gauges = (metrics.holds, metrics.hold_age, metrics.background, metrics.background_age)
    for gauge in gauges:
        gauge.clear()
    if found is not None:
        values = (found.calls, found.oldest, found.background_calls, found.oldest_background)
        for gauge, value in zip(gauges, values, strict=True):
            gauge.set(value)
