"""The files that start clusters are valid for Ray, Kubernetes, KubeRay and Slurm."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILES = Path(__file__).resolve().parents[2] / "cluster" / "files"
REPOSITORY = FILES.parents[1]
LAUNCHED = ["on-prem.yaml", "aws.yaml", "gcp.yaml"]
NEEDED = {
    "local": {"head_ip", "worker_ips"},
    "aws": {"region"},
    "gcp": {"region", "availability_zone", "project_id"},
}
KUBERNETES = "1.31"
KUBERAY = REPOSITORY.parent / "shared" / "data" / "kuberay"
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")

# The operator's schemas are not everywhere; see `KUBERAY`. These are the fields of its API that the
# files use, with their types.
CLUSTER_FIELDS = {
    "rayVersion": str,
    "authOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
}
GROUP_FIELDS = {
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "rayStartParams": dict,
    "template": dict,
}
JOB_FIELDS = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": dict,
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / name).read_text()))


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    """Versions in the lock file, by package."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;\n]+)", lock, re.MULTILINE))


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_launcher_accepts_the_file(name: str) -> None:
    config = prepare_config(documents(name)[0])
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_knows_the_providers_fields(name: str) -> None:
    # Ray's own check accepts unknown fields, and requires a cloud's fields only if it is reachable.
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    provider = documents(name)[0]["provider"]
    assert set(provider) <= set(schema["properties"]["provider"]["properties"])
    assert set(provider) >= NEEDED[provider["type"]]


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_is_started_with_the_token(name: str) -> None:
    config = documents(name)[0]
    by_image = config.get("docker", {}).get("run_options", [])
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in config[commands] if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start or "--env RAY_AUTH_MODE=token" in by_image
    # The token path of the image must be the path where the launcher puts the token.
    for option in by_image:
        if "RAY_AUTH_TOKEN_PATH=" in option:
            folder = option.partition("=")[2].rpartition("/")[0]
            assert folder in config["file_mounts"]
            break
    else:
        assert "~/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_knows_the_options_that_it_is_started_with(name: str) -> None:
    config = documents(name)[0]
    known = _options_of_ray_start()
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        words = shlex.split(command.partition("ray start")[2])
        assert {word.partition("=")[0] for word in words} <= known


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_pods_are_valid_for_kubernetes(name: str) -> None:
    cluster = _cluster(documents(name)[0])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_volume_is_valid_for_kubernetes() -> None:
    (claim,) = documents("kuberay-volume.yaml")
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    for name in ("kuberay-cluster.yaml", "kuberay-job.yaml"):
        cluster = _cluster(documents(name)[0])
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            (volume,) = pod["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
            for container in pod["containers"]:
                assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_the_operator_knows_the_fields(name: str) -> None:
    (resource,) = documents(name)
    assert resource["apiVersion"] == "ray.io/v1"
    if resource["kind"] == "RayJob":
        _check_fields(resource["spec"], JOB_FIELDS)
    else:
        assert resource["kind"] == "RayCluster"
    cluster = _cluster(resource)
    _check_fields(cluster, CLUSTER_FIELDS)
    assert cluster["authOptions"] == {"mode": "token"}
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    _check_fields(head, {name: GROUP_FIELDS[name] for name in ("rayStartParams", "template")})
    known = _options_of_ray_start()
    for group in workers:
        _check_fields(group, GROUP_FIELDS)
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *workers):
        for option, value in group["rayStartParams"].items():
            assert f"--{option}" in known
            # The operator puts these values on a command line.
            assert isinstance(value, str)


SCHEMAS = {"kuberay-cluster.yaml": "rayclusters.json", "kuberay-job.yaml": "rayjobs.json"}


@pytest.mark.skipif(not KUBERAY.exists(), reason="the operator's schemas are not here")
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_operators_own_schema_accepts_the_file(name: str) -> None:
    schema = _closed(json.loads((KUBERAY / SCHEMAS[name]).read_text()))
    (resource,) = documents(name)
    jsonschema.validate(resource, schema)
    # The schema refuses what the operator does not know, and what has another type.
    for field, value in (("headGroupSpecs", {}), ("rayVersion", 2)):
        _cluster(resource)[field] = value
        with pytest.raises(jsonschema.ValidationError, match=field if value == {} else "2 is not"):
            jsonschema.validate(resource, schema)
        del _cluster(resource)[field]


def _closed(schema: Any) -> Any:
    """The schema without unknown fields, which Kubernetes would drop with a warning at most."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    return closed


def test_a_job_starts_the_same_cluster_as_the_cluster_file() -> None:
    (job,), (cluster,) = documents("kuberay-job.yaml"), documents("kuberay-cluster.yaml")
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_the_jobs_command_is_valid() -> None:
    (job,) = documents("kuberay-job.yaml")
    _check_run(shlex.split(job["spec"]["entrypoint"]))


def test_the_slurm_script_is_valid_and_begins_with_its_directives() -> None:
    path = FILES / "slurm.sbatch"
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    directives = [line for line in lines if line.startswith("#SBATCH")]
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    # Slurm ignores directives after the first command.
    assert [line for line in lines[:first_command] if line.startswith("#SBATCH")] == directives
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in directives)
    assert options["ntasks-per-node"] == "1"
    assert {"nodes", "cpus-per-task", "time", "exclusive", "requeue"} <= options.keys()


def test_the_slurm_script_uses_known_options_of_ray() -> None:
    script = (FILES / "slurm.sbatch").read_text().replace("\\\n", " ")
    (line,) = [line for line in script.splitlines() if line.startswith("srun")]
    words = shlex.split(line)
    start, run = words[: words.index("--")], words[words.index("--") + 1 :]
    own = start[start.index("symmetric-run") + 1 :]
    known = {"--address", "--min-nodes", *_options_of_ray_start()}
    assert {word for word in own if word.startswith("--")} <= known
    # symmetric-run does not pass the address of its Ray to the command.
    assert run[:2] == ["env", "RAY_ADDRESS=$head:6379"]
    _check_run(run[2:])


def test_the_slurm_script_gives_ray_an_address_where_a_node_does_not_know_its_own_name(
    tmp_path: Path,
) -> None:
    # Debian writes `127.0.1.1 HOSTNAME` into the hosts file; that is no address of the node.
    (tmp_path / "bin").mkdir()
    for name, text in {
        "activate": "",
        "scontrol": "echo 127.0.1.1",
        "srun": 'echo "$RAY_TMPDIR" "$@"',
        "prune-sweep": "",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    job = {
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "VENV": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "SLURM_JOB_NODELIST": "first",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
    }
    ended = subprocess.run(
        ["bash", FILES / "slurm.sbatch"], env=job, capture_output=True, text=True, check=True
    )
    folder, *words = ended.stdout.split()
    assert folder == f"/tmp/ray-{os.getuid()}"
    assert words[words.index("--address") + 1] == "127.0.0.1:6379"
    assert "RAY_ADDRESS=127.0.0.1:6379" in words


def test_versions_agree_with_the_lock_file(locked: dict[str, str]) -> None:
    for name in ("kuberay-cluster.yaml", "kuberay-job.yaml"):
        assert _cluster(documents(name)[0])["rayVersion"] == locked["ray"]
    container = (FILES / "Containerfile").read_text()
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", container, re.MULTILINE)
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert f'requires-python = ">={python}"' in project
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    for path in FILES.iterdir():
        for image in re.findall(r"YOUR_REGISTRY/\S+", path.read_text()):
            assert image == f"YOUR_REGISTRY/prune-sweep:{version}", path


def test_the_image_contains_all_that_the_installation_needs() -> None:
    lines = (FILES / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == {"FROM", "RUN", "WORKDIR", "COPY", "USER"}
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert all((REPOSITORY / name).exists() for name in copied)
    packages = {"prune_core", "results", "sweep", "cluster"}
    assert copied == {*packages, "requirements.lock", "pyproject.toml", "README.md"}
    for command in [line for line in lines if line.startswith("RUN")]:
        subprocess.run(["bash", "-nc", command.removeprefix("RUN")], check=True)


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.name)
def test_placeholders_are_easy_to_find(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"[<{](?:your|change|todo)", text, re.IGNORECASE)
    assert re.findall(r"\bYOUR_[A-Z_]+", text) or "Fill in" in text


def _cluster(resource: dict[str, Any]) -> dict[str, Any]:
    spec = resource["spec"]
    return spec["rayClusterSpec"] if resource["kind"] == "RayJob" else spec


def _check_fields(found: dict[str, Any], allowed: dict[str, type]) -> None:
    assert set(found) == set(allowed)
    assert all(type(found[name]) is kind for name, kind in allowed.items())


def _check_run(words: list[str]) -> None:
    from cluster.cli import app

    assert words[:2] == ["prune-sweep", "run"]
    (run,) = [c.callback for c in app.registered_commands if c.callback.__name__ == "run"]
    options = {word.removeprefix("--") for word in words if word.startswith("--")}
    assert options <= set(run.__wrapped__.__annotations__)
    assert "out" in options


def _options_of_ray_start() -> set[str]:
    from ray.scripts.scripts import start

    return {option for parameter in start.params for option in parameter.opts}
