"""The HTTP edge: routes that parse, call one function and shape the reply. Here all but those of the data plane come together."""

from fastapi import FastAPI

from app.api import account, dashboard_billing, estimate, health, log_reports, logs, metrics, models, statement
from app.api.admin import (
    audit,
    codes,
    credits,
    groups,
    keys,
    price_tools,
    prices,
    refunds,
    routes,
    state,
    tokens,
    upstream_prices,
    upstreams,
    users,
)
from app.api.admin import models as model_limits
from app.api.body_limit import DeclaredBodyLimit

LARGEST_BODY = 1024 * 1024
"""Bytes. FastAPI reads a body before it asks who sends it. Calls of models have `MAX_BODY_BYTES` instead."""

_TAGS = [
    {"name": "Models", "description": "What clients call models by."},
    {"name": "Users and credit", "description": "Who may call, and the money they call with."},
    {"name": "Redemption codes", "description": "Money that whoever has a code may put on their account."},
    {"name": "Groups", "description": "What users have in common: multipliers, models, limits."},
    {"name": "Keys", "description": "What callers prove themselves with, and its limits."},
    {"name": "Upstreams", "description": "Where calls go."},
    {"name": "Model limits", "description": "What bounds a call where its client doesn't."},
    {"name": "Prices", "description": "What calls cost."},
    {"name": "Operators", "description": "Who manages this service, and what they have changed."},
    {"name": "Logs", "description": "One row for each call."},
    {"name": "Own key", "description": "For the holders of platform keys."},
    {"name": "Health", "description": "For load balancers."},
]


def include_all(app: FastAPI) -> None:
    app.openapi_tags = _TAGS
    app.add_middleware(DeclaredBodyLimit, largest=LARGEST_BODY)
    # routes are tried in order: `/logs/{id}` would take `/logs/stats` for one
    # a user's id may hold slashes, so that `/admin/users/{id}` would take `…/credits` for a part of it; as may a model's name
    app.include_router(price_tools.reading_router, max_body_size=LARGEST_BODY)
    people = (credits, statement, codes, users, groups, keys, tokens, audit, state)
    places = (upstreams, upstream_prices, routes, model_limits, price_tools, prices)
    modules = (*people, *places, refunds, log_reports, logs, account, estimate, dashboard_billing, models, health, metrics)
    for module in modules:
        app.include_router(module.router, max_body_size=LARGEST_BODY)
