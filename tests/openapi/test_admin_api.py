"""What is sent to the routes of operators may be anything: no answer is a 5xx, or outside of what OpenAPI says of the route.

Schemathesis makes requests from the documentation, such as fit it and such as don't. `API_EXAMPLES`: how many in all; `make
test-api` sends 10,000. Everything happens in a database of its own, whose books prove right in the end.
"""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.harness.proxy import ADMIN_TOKEN, Proxy

EXAMPLES = int(os.environ.get("API_EXAMPLES", "200"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CALLS_OUT = ("/admin/upstreams/{upstream_id}/test", "/admin/upstreams/{upstream_id}/models")
"""They go to whatever address an upstream was given."""
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
AUTH = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def operations(proxy: Proxy) -> list[Any]:
    schema = schemathesis.openapi.from_dict(httpx.get(f"{proxy.url}/openapi.json", trust_env=False, timeout=60).json())
    schema.config.update(base_url=proxy.url)
    chosen = [found.ok() for found in schema.include(path_regex="^/(admin|logs)").get_all_operations()]
    return [operation for operation in chosen if operation.path not in CALLS_OUT]


@pytest.mark.timeout(3600)
def test_no_answer_is_a_fault_or_undocumented(proxy: Proxy, session: requests.Session) -> None:
    found = operations(proxy)
    assert len(found) > 40
    each = max(1, EXAMPLES // len(found) // len(MODES))
    faults = [fault for operation in found for mode in MODES for fault in sent(operation, mode, each, session)]
    assert not faults, "\n\n".join(faults)


def sent(operation: Any, mode: Any, most: int, session: requests.Session) -> list[str]:
    """The first fault that is found of an operation."""
    strategy = operation.as_strategy(mode)
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
        case.call_and_validate(checks=CHECKS, headers=AUTH, session=session, timeout=20)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        return []
    except Exception as fault:  # noqa: BLE001 (whatever it is, it is what the test found)
        return [f"{operation.label} ({mode.value}):\n{fault}"]
    return []
