"""What becomes of the process when one of its background tasks ends."""

import asyncio
import contextlib
import subprocess
import sys
import textwrap

import pytest

from app.runtime import tasks
from app.runtime.tasks import OwnedTasks
from tests.harness.proxy import bare_environment

OWNER = """
    import asyncio, signal, sys
    from app.runtime.tasks import OwnedTasks

    async def fail():
        raise ValueError("it broke")

    async def main():
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        async with OwnedTasks() as tasks:
            tasks.spawn(asyncio.sleep(60), name="another")
            tasks.spawn({work}, name="the one", essential={essential})
            try:
                await asyncio.wait_for(told.wait(), 0.5)
                print("told to end")
            except TimeoutError:
                print("goes on")

    asyncio.run(main())
"""


@pytest.mark.parametrize("work", ["fail()", "asyncio.sleep(0)"])
@pytest.mark.parametrize("essential", [True, False])
def test_the_process_ends_when_an_essential_task_does(work: str, essential: bool) -> None:
    script = textwrap.dedent(OWNER.format(work=work, essential=essential))
    done = subprocess.run([sys.executable, "-c", script], env=bare_environment(), capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 0, done.stderr
    assert ("told to end" in done.stdout, "goes on" in done.stdout) == (essential, not essential)
    assert ("it broke" in done.stdout + done.stderr) == (work == "fail()")


async def test_a_task_whose_clean_up_waits_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_WAIT", 0.05)
    for_ever: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work(stubborn: int) -> None:
        for _ in range(stubborn):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(for_ever)

    async with asyncio.timeout(5):
        async with OwnedTasks() as owned:
            ending, staying = owned.spawn(work(2), name="two cancels"), owned.spawn(work(100), name="a hundred")
            await asyncio.sleep(0)
    assert (ending.done(), staying.done()) == (True, False)
    for_ever.set_result(None)
    await staying
