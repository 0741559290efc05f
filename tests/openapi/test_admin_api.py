"""What is sent to the routes of operators may be anything: no answer is a 5xx, or outside of what OpenAPI says of the route.

Schemathesis makes requests from the documentation, such as fit it and such as don't. `API_EXAMPLES`: how many in all; `make
test-api` sends 10,000. Everything happens in a database of its own, whose books prove right in the end.
"""

import os
from collections import Counter
from collections.abc import Iterator
from math import ceil
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.harness.admin import Admin
from tests.harness.proxy import ADMIN_TOKEN, Proxy

EXAMPLES = int(os.environ.get("API_EXAMPLES", "300"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CALLS_OUT = ("/admin/upstreams/{upstream_id}/test", "/admin/upstreams/{upstream_id}/models")
"""They go to whatever address an upstream was given."""
FITTING, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
AUTH = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
Sent = Counter[int]
"""How many answers there were of each status."""


@pytest.fixture(scope="module")
def there(admin: Admin) -> dict[str, Any]:
    """What there is, by the names that paths have for it."""
    user, model = "alice", "openai/gpt:1"
    admin.add_user(user)
    admin.ask("POST", "/admin/groups", json={"name": "vip"})
    admin.set_price(model, {"input": "1"})
    upstream = admin.add_upstream("nowhere", "http://127.0.0.1:9/v1", [model])
    [route] = admin.listed("/admin/routes")
    return {
        "user_id": user,
        "name": "vip",
        "model": model,
        "key_id": admin.add_key(user)["id"],
        "upstream_id": upstream["id"],
        "route_id": route["id"],
        "token_id": admin.ask("POST", "/admin/tokens", json={"name": "finance"})["id"],
    }


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


@pytest.mark.timeout(3600)
def test_no_answer_is_a_fault_or_undocumented(proxy: Proxy, session: requests.Session, there: dict[str, Any]) -> None:
    answers: Sent = Counter()
    found = operations(proxy)
    assert len(found) > 40
    each = ceil(EXAMPLES / len(found) / 3)
    faults = []
    for operation in found:
        known = {parameter.name: there[parameter.name] for parameter in operation.path_parameters if parameter.name in there}
        for mode, fixed in ((FITTING, {}), (WRONG, {}), (FITTING, {"path_parameters": known} if known else {})):
            faults += send_all(operation, mode, each, session, answers, **fixed)
    print(f"{answers.total()} answers: {dict(sorted(answers.items()))}")
    assert not faults, "\n\n".join(faults)
    assert answers[200] + answers[201] + answers[204] > answers.total() / 10, "much is refused before it does anything"


def operations(proxy: Proxy) -> list[Any]:
    schema = schemathesis.openapi.from_dict(httpx.get(f"{proxy.url}/openapi.json", trust_env=False, timeout=60).json())
    schema.config.update(base_url=proxy.url)
    chosen = [found.ok() for found in schema.include(path_regex="^/(admin|logs)").get_all_operations()]
    return [operation for operation in chosen if operation.path not in CALLS_OUT]


def send_all(operation: Any, mode: Any, most: int, session: requests.Session, answers: Sent, **fixed: Any) -> list[str]:
    """The first fault that is found."""
    strategy = operation.as_strategy(mode, **fixed)
    if strategy.is_empty:  # nothing of it can be wrong
        return []
    settings = hypothesis.settings(
        max_examples=most,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @settings
    @hypothesis.given(strategy)
    def send(case: Any) -> None:
        answer = case.call(headers=AUTH, session=session, timeout=20)
        answers[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        return []
    except FailureGroup as faults:
        return [f"{operation.label} ({mode.value}): {faults.exceptions}"]
    return []
