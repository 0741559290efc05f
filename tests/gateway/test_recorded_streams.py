"""The three shortest recorded streams of each protocol, cut at every byte: the meter passes the same bytes, and reads the
same counts."""

import json
from itertools import groupby
from typing import Any

import pytest

from app.gateway.metering.meter import StreamMeter
from app.gateway.protocols import PROTOCOLS
from tests.acceptance.test_recorded_exchanges import COUNTS, RECORDED
from tests.gateway.sse import cut, passed

Case = dict[str, Any]
PROTOCOL_OF = {protocol.api: protocol for protocol in PROTOCOLS}


def shortest() -> list[Case]:
    if not RECORDED.exists():
        return []
    cases = [case for case in map(json.loads, RECORDED.read_text(encoding="utf-8").splitlines()) if case["stream"] and case["usage"]]
    by_api = groupby(sorted(cases, key=lambda case: (case["api"], len(case["response"]))), key=lambda case: case["api"])
    return [case for _, of_one in by_api for case in list(of_one)[:3]]


CASES = shortest()
if not CASES:
    pytest.skip(f"no recorded exchanges at {RECORDED}", allow_module_level=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_recorded_stream_may_be_cut_at_every_byte(case: Case) -> None:
    whole = case["response"].encode()
    for at in range(1, len(whole)):
        tap = StreamMeter(PROTOCOL_OF[case["api"]], strips=False)

        assert passed(tap, cut(whole, [at])) == whole
        assert tap.terminal
        assert tap.usage is not None
        assert {name: getattr(tap.usage, name) for name in COUNTS} == case["usage"], at
