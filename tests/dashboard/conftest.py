"""These tests share the standing installation."""

from tests.harness.standing import db, proxy  # noqa: F401
