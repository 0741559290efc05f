"""These tests share one installation."""

from tests.harness.standing import db, proxy  # noqa: F401
