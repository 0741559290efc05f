"""How long tests wait for what should come at once."""

import inspect

import httpx

PATIENCE = 30.0
"""Seconds. The disks of a busy machine may stall for more than the five after which httpx gives up."""


def wait_longer() -> None:
    """In place of httpx's own default, for whatever asks without a timeout of its own."""
    default = inspect.signature(httpx.get).parameters["timeout"].default
    for wait in ("connect", "read", "write", "pool"):
        setattr(default, wait, PATIENCE)
    assert httpx.Client(trust_env=False).timeout == httpx.Timeout(PATIENCE)
