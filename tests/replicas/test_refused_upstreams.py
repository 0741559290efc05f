"""Upstreams at link-local addresses and at clouds' metadata services: refused when they are saved, and when a name or a
foreign statement leads there."""

import pytest

from app.catalog.addresses import parse_base_url
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.scene import Scene

REFUSED = [
    "169.254.169.254", "169.254.170.2", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "[fe80::1%25eth0]", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "168.63.129.16",
    "Metadata.Google.Internal.", "metadata",
]  # fmt: skip
ALLOWED = [
    "127.0.0.1",
    "[::1]",
    "localhost",
    "10.0.0.1",
    "192.168.1.1",
    "[fd00::1]",
    "169.253.1.1",
    "api.openai.com",
    "metadata.example.com",
    "8",
]


@pytest.mark.parametrize("host", REFUSED)
def test_an_address_that_is_refused_in_whatever_form(host: str) -> None:
    with pytest.raises(ValueError, match="ALLOW_LINK_LOCAL_UPSTREAMS"):
        parse_base_url(f"http://{host}:8080/v1")
    assert parse_base_url(f"http://{host}:8080/v1", allow_link_local=True)


@pytest.mark.parametrize("host", ALLOWED)
def test_an_address_that_is_allowed(host: str) -> None:
    assert parse_base_url(f"https://{host}/v1")


def test_saving_one_is_refused_with_what_to_do(admin: Admin, scene: Scene) -> None:
    body = {"name": "metadata", "base_url": "http://169.254.169.254/latest", "models": ["x"]}
    made = admin.http.post("/admin/upstreams", json=body)
    changed = admin.http.patch(f"/admin/upstreams/{scene.upstream_id}", json={"base_url": "http://metadata.google.internal"})

    for refused in (made, changed):
        assert refused.status_code == 422
        assert "base_url: is link-local" in refused.json()["detail"]
        assert "ALLOW_LINK_LOCAL_UPSTREAMS=true" in refused.json()["detail"]


@pytest.mark.parametrize("host", ["169.254.169.254", "0xa9fea9fe"])
def test_one_that_came_in_by_sql_or_by_name_is_not_connected_to(scene: Scene, host: str) -> None:
    """The second is a name to the HTTP client, which the resolver makes an address of."""
    scene.db.execute("UPDATE aigcspace.upstream SET base_url = $2 WHERE id = $1", scene.upstream_id, f"http://{host}/v1")

    def refusal() -> str:
        return str(scene.post(scene.chat()).json().get("error", {}).get("code"))

    wait_until(lambda: refusal() == "upstream_address_refused", what="the new address is known")
    assert "ALLOW_LINK_LOCAL_UPSTREAMS" in scene.rows()[-1]["error_message"]
    probed = scene.admin.ask("POST", f"/admin/upstreams/{scene.upstream_id}/test")
    assert (probed["ok"], probed["status"]) == (False, None)
    assert "ALLOW_LINK_LOCAL_UPSTREAMS" in probed["error"]
