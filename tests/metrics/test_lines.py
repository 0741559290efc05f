"""What the log has of calls, without a proxy around it."""

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog
from uuid_utils.compat import uuid7

from app import logs
from app.gateway.watching.call_lines import CallLines
from app.ledger.ended import Ended, EndedCalls
from app.ledger.outcome import Outcome

CATALOG: Any = SimpleNamespace(snapshot=SimpleNamespace(targets={}))
IN_A_TASK = """
import asyncio, structlog
from uuid import UUID
from app import logs

logs.configure("info")
log = structlog.get_logger("x")

async def served(number):
    logs.serves(UUID(int=number))
    await asyncio.sleep(0)
    log.info("said in a call")
    log.info("said of another", request_id="its own")

async def main():
    await asyncio.gather(*(asyncio.create_task(served(number)) for number in (1, 2)))
    log.info("said of none")

asyncio.run(main())
"""


def ended(**row: Any) -> Ended:
    return Ended(Outcome(uuid7(), "somebody", msgspec.json.encode({"user_id": "somebody", "model_name": "m", "status": "success"} | row)))


async def told(*calls: Ended) -> None:
    heard = EndedCalls()
    heard.listeners = [CallLines(CATALOG)]
    heard.add(calls)
    heard.tell()


async def test_an_entry_that_cant_be_read_has_a_line_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    await told(Ended(Outcome(uuid7(), "somebody", b"\xff")), ended(cost="0.5"), ended(flags=["reduced"]))

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["user_id"], line["model"], line["charge"], line.get("flags")) for line in lines] == [
        ("somebody", "", "0", None),
        ("somebody", "m", "0.5", None),
        ("somebody", "m", "0", ["reduced"]),
    ]


async def test_a_name_is_no_command_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "is_for_people", lambda: True)
    with structlog.testing.capture_logs() as shown:
        await told(ended(model_name="\x1b[2Jm\n模型", latency_ms=5))

    (line,) = shown
    assert (line["event"], line["model"], line["latency_ms"]) == ("call", "�[2Jm�模型", 5)


def test_each_line_of_a_call_has_its_id() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_TASK], capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    ids = {(line["event"], line.get("request_id")) for line in lines}
    zeros = "00000000-0000-0000-0000-00000000000"
    assert ids == {
        ("said in a call", f"{zeros}1"),
        ("said in a call", f"{zeros}2"),
        ("said of another", "its own"),
        ("said of none", None),
    }
