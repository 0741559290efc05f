"""Secrets at rest."""

from collections.abc import Callable

import pytest

from app.catalog.vault import Vault
from app.errors import UpstreamFailed

SECRET = "sk-proj-of-an-upstream"


def test_a_secret_comes_back_and_is_not_stored_as_it_is() -> None:
    stored = Vault("a secret key of an operator").encrypt(SECRET)

    assert SECRET.encode() not in stored
    assert Vault("a secret key of an operator").decrypt(stored) == SECRET


def test_the_same_secret_looks_different_each_time() -> None:
    vault = Vault("a secret key of an operator")

    assert vault.encrypt(SECRET) != vault.encrypt(SECRET)


@pytest.mark.parametrize("damage", [lambda stored: stored[:-1], lambda stored: b"", lambda stored: b"x" + stored, bytes.swapcase])
def test_a_damaged_secret_is_said_to_be_unreadable(damage: Callable[[bytes], bytes]) -> None:
    vault = Vault("a secret key of an operator")

    with pytest.raises(UpstreamFailed) as refused:
        vault.decrypt(damage(vault.encrypt(SECRET)))
    assert refused.value.code == "secret_unreadable"


def test_another_key_reads_nothing_and_tells_nothing() -> None:
    stored = Vault("a secret key of an operator").encrypt(SECRET)

    with pytest.raises(UpstreamFailed, match="SECRET_KEY") as refused:
        Vault("another key of an operator").decrypt(stored)
    assert not any(told in str(refused.value) for told in (SECRET, "another key", stored.decode()))
