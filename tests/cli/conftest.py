"""Most of these run a command where nothing else is."""

from tests.harness.installed import installation, started_before, started_once  # noqa: F401
