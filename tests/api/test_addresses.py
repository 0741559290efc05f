"""Where calls go, for base URLs as people paste them, and the header that carries the secret."""

import pytest

from app.catalog.addresses import auth_headers, join_url, parse_base_url


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("https://host", "https://host/v1/chat/completions"),
        ("https://host/", "https://host/v1/chat/completions"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1/chat/completions"),
        ("https://api.deepseek.com", "https://api.deepseek.com/v1/chat/completions"),
        ("https://host/together", "https://host/together/v1/chat/completions"),
        ("https://host/openai/v1", "https://host/openai/v1/chat/completions"),
        ("https://host/v3", "https://host/v3/chat/completions"),
        ("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas/v4/chat/completions"),
        ("https://host/v1beta", "https://host/v1beta/chat/completions"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        ("https://host/api/v2/cortex/v1", "https://host/api/v2/cortex/v1/chat/completions"),
        ("https://host/novita/v3/openai", "https://host/novita/v3/openai/chat/completions"),
        ("https://v1.example.com", "https://v1.example.com/v1/chat/completions"),
        ("https://host/video", "https://host/video/v1/chat/completions"),
    ],
)
def test_a_calls_path_is_joined_as_the_base_url_means_it(base_url: str, expected: str) -> None:
    assert join_url(base_url, "/v1/chat/completions") == expected


def test_only_the_paths_own_version_is_dropped() -> None:
    assert join_url("https://host/v1", "/v1/models/v1/x") == "https://host/v1/models/v1/x"
    assert (
        join_url("https://host/v1beta", "/v1beta/models/g:generateContent?alt=sse")
        == "https://host/v1beta/models/g:generateContent?alt=sse"
    )


@pytest.mark.parametrize(
    ("auth", "protocol_auth", "expected"),
    [
        ("auto", "bearer", {"Authorization": "Bearer s"}),
        ("auto", "x-api-key", {"x-api-key": "s"}),
        ("auto", "x-goog-api-key", {"x-goog-api-key": "s"}),
        ("bearer", "x-api-key", {"Authorization": "Bearer s"}),
        ("api-key", "bearer", {"api-key": "s"}),
        ("none", "bearer", {}),
    ],
)
def test_the_header_that_carries_the_secret(auth: str, protocol_auth: str, expected: dict[str, str]) -> None:
    assert auth_headers(auth, protocol_auth, "s") == expected


def test_without_a_secret_there_is_no_header() -> None:
    assert auth_headers("bearer", "bearer", "") == {}


def test_an_unknown_way_to_authenticate_is_refused() -> None:
    with pytest.raises(ValueError, match="no way to authenticate"):
        auth_headers("digest", "bearer", "s")


@pytest.mark.parametrize("text", ["https://host/v1", "https://host/v1/", " https://host/v1// "])
def test_a_base_url_is_kept_without_trailing_slashes(text: str) -> None:
    assert parse_base_url(text) == "https://host/v1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "ftp://host",
        "https://",
        "https://user:password@host",
        "https://@host",
        "https://host/v1?x=1",
        "https://host/v1?",
        "https://host/v1#x",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "https://ho st",
        "https://host/\nv1",
        "https://host/v1/chat/completions",
    ],
)
def test_a_base_url_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|no URL"):
        parse_base_url(text)
