"""Proxies that die: by their own hand at a named point of a call, or by the test's.

    proxy = dying("after_settle_committed", after=3, database_url=db.url, directory=tmp_path).wait_ready()
    ... calls ...
    assert wait_dead(proxy) == -signal.SIGKILL

A proxy that has died is no longer among `tests.harness.proxy.running`. One that follows it finds its spool if it is given
the same `DATA_DIR`.
"""

from pathlib import Path

from tests.harness.proxy import Proxy, running

POINTS = (
    "before_reserve_sent",  # nothing is held
    "after_reserve_committed",  # held; the call doesn't know yet
    "before_forward",
    "after_upstream_headers",
    "after_first_chunk_to_client",
    "mid_stream",  # some was delivered, and more has come
    "before_submit",  # the usage is known
    "after_submit",
    "before_settle_sent",
    "after_settle_committed",  # the row is there; the call doesn't know yet
    "before_last_byte",  # the call knows
    "after_last_byte",  # the client has all of it
)
"""Of a call's way, in order. A stream and a body pass all of them. How often a point is reached before: reserve and settle
once a batch, all others once a call; all that is settled or answered counts, also refusals."""

SPOOL_POINTS = ("before_spooled", "after_spooled", "before_segment_removed", "after_segment_removed")
"""Reached only where the database is away at the end of a call, or was away when an earlier process ended."""

_ROOT = Path(__file__).parents[2]


def dying(point: str, *, after: int = 1, database_url: str, directory: Path, **settings: str) -> Proxy:
    """Starts a proxy that kills itself the `after`th time that it comes to `point`. Not ready yet: `wait_ready()`."""
    assert point in POINTS + SPOOL_POINTS
    armed = {"DIE_AT": point, "DIE_AFTER": str(after), "PYTHONPATH": str(_ROOT)}
    return Proxy(database_url=database_url, directory=directory, module="tests.harness.dying_proxy", **armed, **settings)


def wait_dead(proxy: Proxy, within: float = 20.0) -> int:
    """Its exit code: -9 after SIGKILL."""
    code = proxy.process.wait(within)
    running.remove(proxy)
    return code


def kill(proxy: Proxy) -> int:
    """SIGKILL, now; `wait_dead` without waiting. With workers, they notice within half a second that they are alone."""
    proxy.process.kill()
    return wait_dead(proxy)
