"""What a running proxy tells its operators: each once, by all ways, until it has arrived."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.database import Database as Pool
from app.errors import Unavailable
from app.notify.channels import NotSent
from app.notify.notices import Notices
from app.reports.outbox import Notice, Outbox
from tests.harness import preloaded
from tests.harness.books import wait_until
from tests.harness.mail import MailServer
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy, bare_environment
from tests.harness.scene import UPSTREAM_SECRET, Scene
from tests.ledger.calls import make_payer
from tests.ledger.replica import Replica
from tests.standin import StandIn

PATH = "/hooks/token-in-the-address-5d21"
SECRET = "webhook-secret-91b7"
MAIL = {"NOTIFY_FROM": "proxy@example.com", "NOTIFY_TO": "one@example.com, two@example.com"}


@pytest.fixture(scope="module")
def hook() -> Iterator[StandIn]:
    with StandIn() as receiver:
        receiver.answer(body=b"ok", always=True)
        yield receiver


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def poor(db: Database) -> str:
    """A user who has called before the proxy starts: it looks for low balances at once, and then every half a minute."""
    payer, replica = make_payer(db, credit="0.4"), Replica(db.url)
    replica.settle(payer.call("0.0001"))
    replica.close()
    return payer.user_id


@pytest.fixture(scope="module")
def proxy(db: Database, poor: str, hook: StandIn, mail: MailServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    settings = {"NOTIFY_WEBHOOK": hook.url + PATH, "NOTIFY_WEBHOOK_SECRET": SECRET, "NOTIFY_SMTP": mail.url, "NOTIFY_LOW_BALANCE": "0.5"}
    started = Proxy(database_url=db.url, directory=tmp_path_factory.mktemp("notify"), **settings, **MAIL).wait_ready()
    yield started
    output = started.output()
    assert started.stop() == 0, output
    assert [secret for secret in (PATH, SECRET) if secret in output] == []


def posted(hook: StandIn, kind: str, subject: str) -> list[dict[str, Any]]:
    bodies = [request.json for request in hook.requests if request.path == PATH]
    return [body for body in bodies if (body["kind"], body["subject"]) == (kind, subject)]


def rows(db: Database, kind: str, subject: str) -> list[dict[str, Any]]:
    return db.fetch("SELECT * FROM aigcspace.notification WHERE kind = $1 AND subject = $2 ORDER BY id", kind, subject)


def low_balances(db: Database, *, again: float) -> dict[str, Decimal]:
    async def ask() -> dict[str, Decimal]:
        pool = Pool(db.url, pool_size=2)
        try:
            return dict(await Outbox(pool, again=again).low_balances(Decimal("0.5")))
        finally:
            await pool.close()

    return db.run(ask())


def upstream_name(scene: Scene) -> str:
    return str(next(one["name"] for one in scene.admin.listed("/admin/upstreams") if one["id"] == scene.upstream_id))


def test_each_that_happens_is_told_once_by_all_ways(scene: Scene, poor: str, hook: StandIn, mail: MailServer) -> None:
    name, unpriced = upstream_name(scene), f"{scene.model}-free"
    scene.admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"models": [scene.model, unpriced]})
    happened = [("unpriced_model", unpriced), ("upstream_secret_refused", name), ("upstream_down", name), ("low_balance", poor)]
    for _ in range(2):
        assert scene.post(scene.chat() | {"model": unpriced}).status_code == 404
        assert scene.post(scene.chat()).status_code == 200
    for _ in range(5):
        scene.upstream.answer(json={"error": {}}, status=401)
        assert scene.post(scene.chat()).status_code == 502

    for kind, subject in happened:
        wait_until(lambda kind=kind, subject=subject: posted(hook, kind, subject), what=f"{kind} is posted")
        told = rows(scene.db, kind, subject)
        assert [row["channel"] for row in told] == ["webhook", "email"]
        wait_until(lambda kind=kind, subject=subject: all(row["sent_at"] for row in rows(scene.db, kind, subject)), what=f"{kind} is sent")
        assert len(posted(hook, kind, subject)) == 1
        assert [str(message["To"]) for message in mail.messages if message["Subject"] == f"[billing-proxy] {kind}: {subject}"] == [
            "one@example.com, two@example.com"
        ]
    (low,) = posted(hook, "low_balance", poor)
    assert poor in low["text"]
    assert "0.3999 USD" in low["text"]
    assert poor in low_balances(scene.db, again=0.001)
    assert poor not in low_balances(scene.db, again=3600), "others have their turn"
    received = next(request for request in hook.requests if request.json["kind"] == "low_balance")
    assert received.header("webhook-id") == low["id"]
    assert (received.header("webhook-signature") or "").startswith("v1,")


def test_no_secret_is_told(scene: Scene, hook: StandIn, mail: MailServer) -> None:
    """Neither a key that a client calls a model, nor what an upstream says of ours."""
    scene.admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"models": [scene.model, f"{scene.key[:14]}*"]})
    scene.upstream.answer(json={"error": {"message": f"{UPSTREAM_SECRET} is refused"}}, status=401)
    assert scene.post(scene.chat()).status_code == 502
    assert scene.post(scene.chat() | {"model": scene.key}).json()["error"]["code"] == "model_not_priced"
    masked = "*" * len(scene.key)
    wait_until(lambda: posted(hook, "unpriced_model", masked), what="the model is told, without its name")
    wait_until(lambda: posted(hook, "upstream_secret_refused", upstream_name(scene)), what="the refusal is told")
    wait_until(lambda: all(row["sent_at"] for row in rows(scene.db, "unpriced_model", masked)), what="by mail, too")
    told = [request.body.decode() for request in hook.requests] + [str(message) for message in mail.messages]
    assert [text for text in told if scene.key in text or UPSTREAM_SECRET in text] == []


def test_what_was_not_taken_is_sent_again_under_the_same_id(proxy: Proxy, db: Database, hook: StandIn, mail: MailServer) -> None:
    hook.answer(body=b"no", status=500)
    mail.refuses = 550
    values = ", ".join(f"('{channel}', 'test', 'again', 't')" for channel in ("webhook", "email"))
    db.execute(f"INSERT INTO aigcspace.notification (channel, kind, subject, text) VALUES {values}")
    failed = "SELECT error FROM aigcspace.notification WHERE subject = 'again' AND sent_at IS NULL AND error IS NOT NULL ORDER BY channel"
    wait_until(lambda: len(db.fetch(failed)) == 2, what="both have failed")
    assert [row["error"] for row in db.fetch(failed)] == ["the mail server takes nothing for NOTIFY_TO (550)", "the webhook answered 500"]

    mail.refuses = None
    db.execute("UPDATE aigcspace.notification SET next_try = now() WHERE subject = 'again'")
    wait_until(lambda: all(row["sent_at"] and row["error"] is None for row in rows(db, "test", "again")), what="both are sent")

    assert len({body["id"] for body in posted(hook, "test", "again")}) == 1
    assert len(posted(hook, "test", "again")) == 2
    assert [row["tries"] for row in rows(db, "test", "again")] == [2, 2]


async def test_the_same_is_told_once_by_all_processes_and_no_kind_without_end(db: Database) -> None:
    pool = Pool(db.url, pool_size=4)
    outbox = Outbox(pool, again=3600)
    try:
        same = await asyncio.gather(*(outbox.put(Notice("kind", "same", "t"), ["none"]) for _ in range(8)))
        many = [await outbox.put(Notice("kind", str(number), "t"), ["none"]) for number in range(25)]
        later = await Outbox(pool, again=0.001).put(Notice("other", "same", "t"), ["none"])
        again = await Outbox(pool, again=0.001).put(Notice("other", "same", "t"), ["none"])
    finally:
        await pool.close()
    assert (sum(same), sum(many), later, again) == (1, 19, True, True)


class _Away:
    """An outbox whose database is away."""

    async def put(self, *_: object) -> bool:
        raise Unavailable("away")


class _Kept:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.fails = 1

    async def send(self, notice: Notice, *, id: str, at: datetime) -> None:
        assert id
        assert at.tzinfo is UTC
        if self.fails:
            self.fails -= 1
            raise NotSent("not yet")
        self.sent.append(notice.kind)


async def test_a_spool_that_grows_is_told_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.notify.notices.EVERY", 0.01)
    channel = _Kept()
    notices = Notices(_Away(), {"webhook": channel}, again=3600)  # type: ignore[arg-type]
    notices.add(Notice("low_balance", "somebody", "t"))
    notices.add(Notice("spool_growing", "host", "t"))
    running = asyncio.create_task(notices.run())
    while not channel.sent:
        await asyncio.sleep(0.01)
    notices.add(Notice("spool_growing", "host", "t"))
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert channel.sent == ["spool_growing"]


def test_the_command_tries_each_way_and_says_how_it_went(hook: StandIn, mail: MailServer, tmp_path: Path) -> None:
    def run(**settings: str) -> Any:
        return preloaded.run(["notify", "test"], environment=bare_environment() | settings, directory=tmp_path)

    both = {"NOTIFY_WEBHOOK": f"{hook.url}/test/secret-path", "NOTIFY_WEBHOOK_FORMAT": "wecom", "NOTIFY_SMTP": mail.url, **MAIL}
    done = run(**both)
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["webhook: sent", "email: sent"]), done.stderr
    assert json.loads(hook.requests[-1].body)["msgtype"] == "text"
    assert mail.messages[-1]["From"] == "proxy@example.com"

    hook.answer(json={"errcode": 93000, "errmsg": "invalid webhook url"})
    refused = run(**both)
    assert refused.returncode == 1
    assert "webhook: the webhook refused it, code 93000: invalid webhook url" in refused.stderr
    assert "secret-path" not in refused.stderr + refused.stdout
    assert "email: sent" in refused.stdout

    unset = run()
    assert (unset.returncode, "set NOTIFY_WEBHOOK or NOTIFY_SMTP" in unset.stderr) == (1, True)
    wrong = run(NOTIFY_WEBHOOK="ftp://example.com/secret-path")
    assert (wrong.returncode, "NOTIFY_WEBHOOK: must be an address" in wrong.stderr, "secret-path" in wrong.stderr) == (1, True, False)
