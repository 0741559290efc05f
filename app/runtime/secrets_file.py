"""`DATA_DIR/secrets.env`: what was generated on the first start and must not change, readable by its owner alone."""

import os
import secrets
from pathlib import Path

from app.errors import StartupError

NAME = "secrets.env"


def read_secrets(data_dir: Path) -> dict[str, str]:
    """NAME -> value; empty where there is no file. Raises `StartupError` where others may read it, or nobody can."""
    path = data_dir / NAME
    if not path.exists():
        return {}
    if path.stat().st_mode & 0o077:
        raise StartupError(f"{path} can be read by others than its owner: run `chmod 600 {path}`")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeError) as unreadable:
        raise StartupError(f"{path} can't be read as UTF-8 text: restore it, since what it holds can't be made again") from unreadable
    lines = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def add_secrets(data_dir: Path, values: dict[str, str]) -> None:
    """Writes values beside those that are there."""
    path = data_dir / NAME
    data_dir.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{name}={value}\n" for name, value in (read_secrets(data_dir) | values).items())
    unfinished = path.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def generate() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)
