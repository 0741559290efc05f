"""`make check`: the migrations make exactly the tables that the models describe. On a throw-away embedded PostgreSQL."""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.util import CommandError

from app.runtime.migrations import config, upgrade
from app.runtime.postgres import EmbeddedPostgres


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres.start(Path(directory))
        try:
            upgrade(server.url)
            command.check(config(server.url))
        except CommandError as difference:
            print(f"alembic check: {difference}", file=sys.stderr)
            return 1
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
