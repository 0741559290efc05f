"""OpenAPI of the data plane: true to the scheme, to the errors that are sent, and to protocols it has never heard of."""

import json
from typing import Any

import pytest
from fastapi import FastAPI

from app.api import include_all
from app.api.data_plane import include_data_plane
from app.api.data_plane_openapi import describe
from app.errors import ProxyError
from app.gateway.protocols import PROTOCOLS, Protocol
from app.gateway.protocols.chat_completions import ChatCompletions


class Foreign(ChatCompletions):
    """A protocol that names the model in its path, and has an envelope of its own."""

    api = "foreign"
    path = "/v9/models/{model}:speak"

    @staticmethod
    def error_body(error: ProxyError) -> bytes:
        return json.dumps({"fault": str(error)}).encode()


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    app = FastAPI()
    include_data_plane(app)
    include_all(app)
    return app.openapi()


@pytest.fixture
def calls(schema: dict[str, Any]) -> list[dict[str, Any]]:
    paths = schema["paths"]
    return [*(paths[protocol.path]["post"] for protocol in PROTOCOLS), paths["/v1/models"]["get"], paths["/v1/models/{model}"]["get"]]


def described(protocol: Protocol) -> dict[str, Any]:
    app = FastAPI()
    describe(app, (protocol,))
    operation: dict[str, Any] = app.openapi()["paths"][protocol.path]["post"]
    return operation


def content(operation: dict[str, Any], status: str) -> dict[str, Any]:
    found: dict[str, Any] = operation["responses"][status]["content"]["application/json"]
    return found


def test_what_calls_ask_for_is_a_scheme_that_is_there(schema: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    asked = {name for operation in calls for scheme in operation["security"] for name in scheme}
    assert asked == {"platformKey"}
    assert asked <= schema["components"]["securitySchemes"].keys()


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ("400", "invalid_request_error", "invalid_json"),
        ("401", "authentication_error", "invalid_api_key"),
        ("402", "insufficient_quota", "insufficient_credit"),
        ("429", "rate_limit_error", "rate_limit_exceeded"),
        ("500", "server_error", "internal_error"),
        ("503", "server_error", "database_unavailable"),
    ],
)
def test_an_example_is_the_error_that_is_sent(status: str, kind: str, code: str) -> None:
    error = content(described(ChatCompletions()), status)["example"]["error"]
    assert (error["type"], error["code"], error["param"]) == (kind, code, None)


def test_what_may_be_null_is_said_as_openapi_3_1_says_it(schema: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    assert schema["openapi"].startswith("3.1")
    assert "nullable" not in json.dumps(schema)
    assert content(described(ChatCompletions()), "400")["schema"]["properties"]["error"]["properties"]["param"]["type"] == [
        "string",
        "null",
    ]


def test_a_protocol_that_is_not_known_here_is_described_by_what_it_says() -> None:
    operation = described(Foreign())
    assert operation["summary"] == "Calls by the protocol `foreign`"
    assert [parameter["name"] for parameter in operation["parameters"]] == ["model"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["required"] == []
    refused = content(operation, "401")
    assert refused["example"]["fault"].startswith("Incorrect API key")
    assert refused["schema"] == {"type": "object"}


def test_operations_have_names_of_their_own(schema: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in schema["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
