"""README is true: its table has every setting, with its default, and no other."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from app.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_setting_is_in_the_table_with_its_default() -> None:
    documented: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([^|]*)\|", README, re.MULTILINE):
        listed = re.findall(r"`([A-Z_]+)`", names)
        documented |= dict(zip(listed, re.findall(r"`([^`]*)`", defaults) or [""] * len(listed), strict=True))
    settings = {name.upper() for name in Settings.model_fields}
    assert set(documented) == settings, f"README's table lacks {settings - set(documented)}, and has {set(documented) - settings} in excess"
    for name, field in Settings.model_fields.items():
        if field.default is not PydanticUndefined and field.default is not None:
            assert documented[name.upper()].lower() == str(field.default).lower().removesuffix(".0"), name


def test_every_command_of_make_exists() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
