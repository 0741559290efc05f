"""Clients that send a byte every few seconds, of a head or of a body, and come again when they are cut off:

    python -m tests.fuzz.slow_clients PORT COUNT

until it is killed. A line on standard output says that all are there. A process of its own, so that it takes no time from
those who measure.
"""

import asyncio
import contextlib
import sys

PAUSE = 3.0
"""Seconds."""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer sk-slow\r\nX-A: "
BODY = b"POST /admin/users HTTP/1.1\r\nHost: proxy\r\nContent-Length: 9999\r\n\r\n"


async def dawdle(port: int, number: int, arrived: asyncio.Semaphore) -> None:
    is_there = False
    while True:
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((HEAD, BODY)[number % 2])
            if not is_there:
                arrived.release()
                is_there = True
            while not reader.at_eof():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(65536), PAUSE)
                writer.write(b"a")
                await writer.drain()
            writer.close()


async def main(port: int, count: int) -> None:
    arrived = asyncio.Semaphore(0)
    slow = []
    for number in range(count):
        slow.append(asyncio.ensure_future(dawdle(port, number, arrived)))
        await asyncio.sleep(PAUSE / count)
    for _ in range(count):
        await arrived.acquire()
    print("there", flush=True)
    await asyncio.gather(*slow)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
