"""Groups and limits, as operators set them and callers meet them: through REST and the official client."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import openai
import pytest
from sqlalchemy import make_url

from tests.acceptance.conftest import Connect, done
from tests.harness.admin import Admin
from tests.harness.background import Background
from tests.harness.books import bills, charge, wait_until
from tests.harness.postgres import connect
from tests.harness.scene import Scene

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def put_into(scene: Scene, **fields: object) -> str:
    """A group of the scene's user alone."""
    name = f"group-{scene.user}"
    scene.admin.ask("POST", "/admin/groups", json={"name": name, **fields})
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": name})
    return name


@pytest.mark.parametrize("path", ["/admin/users/{user}", "/admin/keys/{key_id}"])
def test_a_group_that_is_deleted_while_somebody_is_put_into_it(scene: Scene, path: str) -> None:
    """One of the two comes first, and the other hears of it."""
    path, admin = path.format(user=scene.user, key_id=scene.key_id), scene.admin.http
    with ThreadPoolExecutor(2) as operators:
        for number in range(20):
            name = f"group-{scene.user}-{number}"
            scene.admin.ask("POST", "/admin/groups", json={"name": name})
            deleted = operators.submit(admin.delete, f"/admin/groups/{name}")
            put = operators.submit(admin.patch, path, json={"group": name})
            ended = (deleted.result(30).is_success, deleted.result().status_code, put.result(30).status_code)
            assert ended in ((True, deleted.result().status_code, 422), (False, 409, 200))


def test_a_group_is_deleted_once(scene: Scene, background: Background) -> None:
    """Whoever comes later hears that there is none, and the audit tells of one."""
    name = f"group-{scene.user}"
    group = scene.admin.ask("POST", "/admin/groups", json={"name": name})
    holding = background.run(connect(make_url(scene.db.url)))
    try:
        background.run(holding.execute("BEGIN"))
        background.run(holding.execute("SELECT FROM aigcspace.spend_group WHERE id = $1 FOR UPDATE", group["id"]))
        with ThreadPoolExecutor(4) as operators:
            deleted = [operators.submit(scene.admin.http.delete, f"/admin/groups/{name}") for _ in range(4)]
            wait_until(lambda: scene.db.value(WAITING) == 4, what="all are at it")
            background.run(holding.execute("COMMIT"))
            assert sorted(answer.result(30).status_code for answer in deleted) == [204, 404, 404, 404]
    finally:
        background.run(holding.close())
    entries = scene.admin.listed("/admin/audit", object_kind="group", object_id=str(group["id"]))
    assert [entry["action"] for entry in entries].count("group.delete") == 1


@pytest.mark.parametrize(
    ("fields", "multiplier"),
    [
        ({"multiplier": "0.8"}, "0.8"),
        ({"multiplier": "0.8", "model_multipliers": {"model-*": "1.25", "mod*": "3"}}, "1.25"),
        ({"multiplier": "0"}, "0"),
    ],
)
def test_a_groups_multiplier_is_on_the_bill(scene: Scene, fields: dict[str, object], multiplier: str) -> None:
    name = put_into(scene, **fields)

    assert scene.post(scene.chat("one two three")).status_code == 200

    row = scene.row()
    assert row["charge"] == charge(scene.rates, row) * Decimal(multiplier)
    assert row["bill"] == bills([row["charge"]])[0]
    shown = scene.http.get(f"/logs/{row['request_id']}").json()
    assert (shown["price"]["group"], Decimal(shown["price"]["multiplier"])) == (name, Decimal(multiplier))
    assert sum(Decimal(item["amount"]) for item in shown["line_items"]) * Decimal(multiplier) == row["charge"]


def test_the_ceiling_is_held_with_the_multiplier(new_scene: Callable[..., Scene]) -> None:
    """An account that could pay the plain price can't pay ten times that."""
    scene = new_scene(credit="0.05")
    body = scene.chat("hello", max_tokens=1000)
    assert scene.post(body).status_code == 200
    put_into(scene, multiplier="10")

    refused = scene.post(body)

    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_credit")
    assert scene.post(scene.chat("hello")).headers["x-max-tokens-applied"]


def test_models_of_a_group_and_of_a_key_must_both_allow(scene: Scene) -> None:
    put_into(scene, models=[f"{scene.user}-*"])

    refused = scene.post(scene.chat())

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert scene.http.get("/v1/models").json()["data"] == []


def test_a_keys_own_group_stands_in_its_users_place(scene: Scene) -> None:
    put_into(scene, multiplier="5")
    own = f"own-{scene.user}"
    scene.admin.ask("POST", "/admin/groups", json={"name": own, "multiplier": "2"})
    key = scene.admin.add_key(scene.user, group=own)
    assert key["group"] == own

    assert httpx.post(f"{scene.proxy.url}/v1/chat/completions", json=scene.chat(), headers={"x-api-key": key["key"]}).status_code == 200

    row = scene.row()
    assert row["charge"] == 2 * charge(scene.rates, row)


def test_tags_choose_the_upstream(scene: Scene) -> None:
    put_into(scene, upstream_tags=["premium"])
    refused = scene.post(scene.chat())
    assert (refused.status_code, "group" in refused.json()["error"]["message"]) == (403, True)

    scene.admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"tags": ["cheap", "premium"]})

    assert scene.post(scene.chat()).status_code == 200


async def test_the_official_client_reads_limits(scene: Scene, connect: Connect) -> None:
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"rpm": 60, "tpm": 10**6})
    client = connect(scene)

    answer = await done(client.chat.completions.with_raw_response.create(**scene.chat()))
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert answer.headers["x-ratelimit-remaining-requests"] == "59"
    assert answer.headers["x-ratelimit-reset-requests"] == "1.000s"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 10**6

    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"rpm": 1})
    with pytest.raises(openai.RateLimitError) as refused:
        await done(client.chat.completions.create(**scene.chat()))
    assert int(refused.value.response.headers["retry-after"]) > 1
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"rpm": 60})
    wait_until(lambda: scene.post(scene.chat()).status_code == 200, what="the limit that was raised")


def test_a_flood_over_a_limit_stays_off_the_database(scene: Scene) -> None:
    scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"rpm": 1})
    assert scene.post(scene.chat()).status_code == 200
    query = "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'reserve'"
    scene.db.execute("ALTER DATABASE " + scene.db.value("SELECT current_database()") + " SET track_functions = 'pl'")

    statuses = [scene.post(scene.chat()).status_code for _ in range(20)]

    assert statuses == [429] * 20
    assert len(scene.upstream.requests) == 1
    assert (scene.db.fetch(query) or [{"calls": 0}])[0]["calls"] <= 3


def test_what_may_be_spent_in_a_day_is_said(scene: Scene) -> None:
    scene.admin.ask("PATCH", f"/admin/keys/{scene.key_id}", json={"daily_limit": "0.000001"})

    refused = scene.post(scene.chat(max_tokens=100))

    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "spend_limit_reached")


class TestRest:
    def test_a_group_is_made_changed_and_deleted(self, admin: Admin, scene: Scene) -> None:
        name = put_into(scene, multiplier="0.5", rpm=10)
        assert admin.ask("GET", f"/admin/groups/{name}")["multiplier"] == "0.500000"
        assert admin.user(scene.user)["group"] == name
        assert name in [group["name"] for group in admin.listed("/admin/groups")]
        changed = admin.ask("PATCH", f"/admin/groups/{name}", json={"rpm": None, "models": ["a*"]})
        assert (changed["rpm"], changed["models"]) == (None, ["a*"])

        in_use = admin.http.delete(f"/admin/groups/{name}")
        assert (in_use.status_code, in_use.json()["code"]) == (409, "group_in_use")
        admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": None})
        assert admin.http.delete(f"/admin/groups/{name}").status_code == 204
        assert admin.http.get(f"/admin/groups/{name}").status_code == 404

    @pytest.mark.parametrize(
        "fields",
        [
            {"multiplier": "-1"},
            {"multiplier": "1001"},
            {"model_multipliers": {"a*b": "1"}},
            {"rpm": 0},
            {"models": []},
            {"upstream_tags": [""]},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, admin: Admin, fields: dict[str, object]) -> None:
        assert admin.http.post("/admin/groups", json={"name": "odd", **fields}).status_code == 422

    def test_a_group_that_is_not_there(self, admin: Admin, scene: Scene) -> None:
        refused = admin.http.patch(f"/admin/users/{scene.user}", json={"group": "nowhere"})
        assert (refused.status_code, "POST /admin/groups" in refused.text) == (422, True)
