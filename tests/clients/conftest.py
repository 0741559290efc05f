from tests.harness.standing import db, proxy  # noqa: F401
