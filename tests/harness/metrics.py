"""What a proxy exports, as Prometheus reads it; and whether Prometheus, with the rules of `deploy/`, would raise an alert on it."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.proxy import ADMIN_TOKEN

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yaml"
CHANGED_AT, LOOKED_AT = 10, 40
"""Minutes."""

UP = "up"
COUNTED = ("_total", "_bucket", "_count", "_sum")
"""How the names of those series end that only grow."""

Labels = tuple[tuple[str, str], ...]
_UP = (UP, (("job", "billing-proxy"),))


@dataclass(frozen=True)
class Scraped:
    """`series`: the value of each, by its name and its labels in order; and Prometheus' own `up`, which isn't among `names`."""

    series: dict[tuple[str, Labels], float]
    names: frozenset[str]

    @classmethod
    def of(cls, url: str, token: str | None = ADMIN_TOKEN) -> Self:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = httpx.get(f"{url}/metrics", headers=headers, trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(answer.text))
        series = {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        names = {family.name + suffix for family in families for suffix in suffixes.get(family.type, ("",))}
        return cls(series | {_UP: 1.0}, frozenset(names))

    @classmethod
    def tried(cls, url: str, token: str | None = ADMIN_TOKEN) -> Self:
        """Of a proxy that may be gone: then there is `up` alone, and it is 0."""
        try:
            return cls.of(url, token)
        except httpx.TransportError:
            return cls({_UP: 0.0}, frozenset())

    def found(self, name: str, **labels: str) -> dict[Labels, float]:
        wanted = set(labels.items())
        return {own: value for (known, own), value in self.series.items() if known == name and wanted <= set(own)}

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.found(name, **labels).values())


def promtool(*arguments: str, directory: Path) -> str:
    """What it prints; the test is skipped where it isn't installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run([program, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:billing_proxy|gen_ai)_\w+(?=[\[{) ]|$)", re.sub(r"by \([^)]*\)", "", expression)))


def assert_fires(alert: str, *, before: Scraped, after: Scraped, during: Scraped | None = None, **labels: str) -> None:
    """Where a proxy was as `before` for ten minutes, and as `after` for half an hour. `labels`: of the alert.

    `during`: scraped between the two, after the fault began. It is what Prometheus sees a minute before `after`, and each counter
    grows on after that by as much a minute as it grew between the two: as it would if the fault went on. Gauges stay as they are."""
    exported = {name for name, _ in after.series}
    assert names_in(rules()[alert]["expr"]) <= exported, f"not all is exported that {alert} looks at"
    scrapes = [before, after] if during is None else [before, during, after]
    tests = [_test(alert, labels, scrapes, fires=True), _test(alert, labels, [before, before], fires=False)]
    with tempfile.TemporaryDirectory(prefix="proxy-alerts-") as place:
        file = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
        (Path(place) / "test.yaml").write_text(yaml.safe_dump(file))
        try:
            promtool("test", "rules", "test.yaml", directory=Path(place))
        except AssertionError as failed:
            for got, what in (("1", "fires before anything has happened"), ("0", "stays silent")):
                if f"got: {{}} {got}E+00" in str(failed):
                    raise AssertionError(f"{alert} {what}") from failed
            raise


def _test(alert: str, labels: dict[str, str], scrapes: list[Scraped], *, fires: bool) -> dict[str, Any]:
    """One of promtool's."""
    names = names_in(rules()[alert]["expr"]) | {UP}
    keys = {key for one in scrapes for key in one.series if key[0] in names}
    wanted = ",".join(f'{name}="{value}"' for name, value in {"alertname": alert, "alertstate": "firing", **labels}.items())
    return {
        "interval": "1m",
        "input_series": [{"series": _written(*key), "values": _values(key[0], [one.series.get(key) for one in scrapes])} for key in keys],
        "promql_expr_test": [
            {
                "expr": f"max_over_time(group(ALERTS{{{wanted}}})[{LOOKED_AT}m:1m]) or vector(0)",
                "eval_time": f"{LOOKED_AT}m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }


def _written(name: str, labels: Labels) -> str:
    return f"{name}{{{','.join(f'{key}={value!r}'.replace(chr(39), chr(34)) for key, value in (*labels, ('instance', 'a')))}}}"


def _values(name: str, values: list[float | None]) -> str:
    """In promtool's notation: `AxN` is A and N more of it, `A+BxN` grows by B each minute."""
    first, *rest = values
    minutes = LOOKED_AT - CHANGED_AT
    last = rest[-1]
    if len(rest) == 1 or last is None or not name.endswith(COUNTED):
        meanwhile = [_number(one) for one in rest[:-1]]
        return " ".join([f"{_number(first)}x{CHANGED_AT - 1}", *meanwhile, f"{_number(last)}x{minutes - len(meanwhile)}"])
    growth = last - (rest[0] or 0)
    return f"{_number(first)}x{CHANGED_AT - 1} {_number(rest[0])} {_number(last)}+{_number(growth)}x{minutes - 1}"


def _number(value: float | None) -> str:
    return "_" if value is None else f"{value:.6f}"
