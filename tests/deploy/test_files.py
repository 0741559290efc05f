"""The files of `deploy/`: valid by the schemas of what reads them, and in agreement with the code and each other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.30", "1.37")
"""The oldest and the newest that are checked."""
SETTINGS = {name.upper() for name in Settings.model_fields}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
RESOURCES: dict[str, dict[str, Any]] = {
    f"{resource['kind']} {resource['metadata']['name']}": resource
    for file in KUSTOMIZATION["resources"]
    for resource in yaml.safe_load_all((KUBERNETES / file).read_text())
}
POD: dict[str, Any] = RESOURCES["StatefulSet billing-proxy"]["spec"]["template"]
PROXY: dict[str, Any] = POD["spec"]["containers"][0]
TWICE = 2 * Settings.model_fields["shutdown_wait"].default
"""Seconds: SHUTDOWN_WAIT is what calls have to end, and what is left has to be settled."""


def test_compose_is_valid_by_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", RESOURCES)
def test_kubernetes_resources_are_valid_by_their_schemas(name: str, version: str) -> None:
    kubernetes_validate.validate(RESOURCES[name], version, strict=True)


def test_each_file_is_part_of_the_kustomization() -> None:
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])


def test_what_is_set_are_settings() -> None:
    in_compose = [COMPOSE["services"][name]["environment"] for name in ("proxy-1", "proxy-2")]
    in_kubernetes = dict(line.split("=", 1) for line in (KUBERNETES / "settings.env").read_text().split())
    secret = set(re.findall(r"--from-literal=([A-Z_]+)=", (KUBERNETES / "kustomization.yaml").read_text()))
    in_the_image = set(re.findall(r"(\w+)=", re.search(r"^ENV (HOST.*)$", DOCKERFILE, re.MULTILINE)[1])) - {  # type: ignore[index]
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
    }
    assert secret == {"DATABASE_URL", "ADMIN_TOKEN", "SECRET_KEY"} <= set(in_compose[0])
    assert {*in_compose[0], *in_compose[1], *in_kubernetes, *in_the_image, *secret} <= SETTINGS


def test_a_stop_has_the_time_that_it_may_take() -> None:
    for name in ("proxy-1", "proxy-2", "nginx"):
        assert float(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s")) > TWICE
    before = float(PROXY["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["spec"]["terminationGracePeriodSeconds"] > before + TWICE


def test_replicas_share_no_volume() -> None:
    assert [COMPOSE["services"][name]["volumes"] for name in ("proxy-1", "proxy-2")] == [["proxy-1:/data"], ["proxy-2:/data"]]
    (claim,) = RESOURCES["StatefulSet billing-proxy"]["spec"]["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in PROXY["volumeMounts"]
    assert "DATA_DIR=/data" in DOCKERFILE


def test_services_and_the_budget_find_the_pods() -> None:
    labels = POD["metadata"]["labels"].items()
    specs = [RESOURCES[name]["spec"] for name in RESOURCES if not name.startswith("Job")]
    selectors = [spec["selector"].get("matchLabels", spec["selector"]) for spec in specs]
    assert len(selectors) == 4
    assert all(selector.items() <= labels for selector in selectors)
    assert not selectors[0].items() <= RESOURCES["Job billing-proxy-migrate"]["spec"]["template"]["metadata"]["labels"].items()
    assert RESOURCES["StatefulSet billing-proxy"]["spec"]["serviceName"] in [name.removeprefix("Service ") for name in RESOURCES]


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    uid = int(re.search(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
    for name in ("proxy-1", "proxy-2", "nginx"):
        assert COMPOSE["services"][name]["read_only"] is True
    for name in ("StatefulSet billing-proxy", "Job billing-proxy-migrate"):
        pod = RESOURCES[name]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == uid
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_image_is_made_of_files_that_its_context_has() -> None:
    let_through = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_readme_shows_the_lines_of_nginx() -> None:
    shown = re.search(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]  # type: ignore[index]
    lines = {line.strip() for line in (DEPLOY / "nginx.conf").read_text().splitlines()}
    assert {line.strip() for line in shown.splitlines()} <= lines
