"""The files of `deploy/` that watch: valid, and in agreement with what a running proxy exports."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.harness.metrics import DEPLOY, Scraped, names_in, promtool, rules
from tests.harness.proxy import Proxy

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/billing-proxy.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
FAULTS = Path(__file__).parents[1] / "faults"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_alert_rules_pass_their_unit_tests() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yaml", directory=DEPLOY / "prometheus")


def test_prometheus_takes_the_files() -> None:
    promtool("check", "rules", "alerts.yaml", directory=DEPLOY / "prometheus")
    promtool("check", "config", "--syntax-only", "prometheus.yaml", directory=DEPLOY / "prometheus")


def test_each_alert_has_a_unit_test_in_which_it_fires() -> None:
    tests = (DEPLOY / "prometheus/alerts.test.yaml").read_text()
    assert [alert for alert in rules() if f'{{alertname="{alert}",' not in tests] == []


def test_each_alert_has_a_fault_that_makes_it_fire() -> None:
    """On a real proxy: see `assert_fires`."""
    sources = "".join(path.read_text() for path in FAULTS.glob("test_*.py"))
    assert set(re.findall(r'\bassert_fires\(\s*"(\w+)"', sources)) == rules().keys()


def test_all_that_rules_and_the_dashboard_name_is_exported(proxy: Proxy) -> None:
    exported = Scraped.of(proxy.url).names
    named = {name for expression in [*EXPRESSIONS, *(rule["expr"] for rule in rules().values())] for name in names_in(expression)}
    assert len(named) > 20
    assert named - exported == set()


def test_the_dashboard_shows_all_that_is_exported(proxy: Proxy) -> None:
    shown = {name for expression in EXPRESSIONS for name in names_in(expression)}
    families = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in Scraped.of(proxy.url).names}
    assert {family for family in families if not any(name.startswith(family) for name in shown)} == set()


def test_prometheus_understands_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    records = [{"record": f"r{at}", "expr": expression.replace("$__rate_interval", "5m")} for at, expression in enumerate(EXPRESSIONS)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": records}]}))
    promtool("check", "rules", "rules.yaml", directory=tmp_path)


def test_compose_gives_prometheus_and_grafana_their_files() -> None:
    targets = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{name}:8000" for name in COMPOSE if name.startswith("proxy-")]
    for name in ("prometheus", "grafana"):
        assert ":v" in COMPOSE[name]["image"] or COMPOSE[name]["image"].split(":")[1][0].isdigit(), "a version is pinned"
        mounted = [volume.split(":")[0] for volume in COMPOSE[name]["volumes"] if volume.startswith("./")]
        assert mounted
        assert all((DEPLOY / path).is_dir() for path in mounted)
