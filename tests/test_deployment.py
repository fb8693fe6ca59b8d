"""The deployment files: what compose, Docker, honcho, Prometheus and Grafana are told fits the code.

No engine is needed: the files are read as those tools read them, the Dockerfile's steps are done in a folder,
and promtool (Debian's package `prometheus`) checks the rules and tries them.
"""

import configparser
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from honcho.environ import expand_processes, parse_procfile

from genledger.main import app
from streams import metrics, settings
from tests.road.harness import free_port

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "genledger.json"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
KAFKA_INSTALLATION = {"kafka", "topics", "gateway", "ledger", "summaries", "jobs"}
MONITORING = {"prometheus", "grafana"}
INFLUXDB = {"points", "influxdb"}
ROLES = {*KAFKA_INSTALLATION - {"kafka", "topics"}, "points"}
# The part of compose's specification that is used here: a slip of the pen is not a silent default.
SERVICE_KEYS = {
    *("build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "env_file", "environment"),
    *("healthcheck", "hostname", "image", "init", "logging", "mem_limit", "ports", "profiles", "read_only"),
    *("restart", "security_opt", "stop_grace_period", "tmpfs", "user", "volumes"),
}
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
SECONDS = {"s": 1, "m": 60}


class _Loader(yaml.SafeLoader):
    """YAML as compose reads it: a key that stands twice is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key stands twice: {sorted(keys)}"
        return super().construct_mapping(node, deep)


def _yaml(path):
    return yaml.load(path.read_text(), _Loader)


COMPOSE = _yaml(ROOT / "docker-compose.yml")
SERVICES = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if service["image"].startswith("genledger:")}


def _seconds(text):
    return int(text[:-1]) * SECONDS[text[-1]]


def _words(line, **variables):
    """The command of a shell's line: its assignments as a mapping, and the words after them."""
    expanded = re.sub(r"\$\$?(\w+)", lambda found: variables[found[1]], line)
    words = shlex.split(expanded)
    given = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        given[name] = value
    return given, words[1:] if words[0] == "exec" else words


def _command(service):
    """What a container runs: the settings its shell gives, and the words after `genledger`."""
    if "entrypoint" not in service:
        return {}, service["command"]
    shell, flag, line = service["entrypoint"]
    assert (shell, flag) == ("sh", "-c")
    assert " exec " in line, "a signal would end with the shell"
    given, words = _words(line, HOSTNAME="0a1b2c3d4e5f")
    assert words[0] == "genledger"
    return given, words[1:]


def _processes(concurrency):
    """What honcho starts: name, settings that the line gives, words."""
    procfile = parse_procfile((ROOT / "Procfile").read_text())
    for process in expand_processes(procfile.processes, concurrency=concurrency, port=5000):
        given, words = _words(process.cmd, PORT=process.env["PORT"])
        yield process.name, given, words


def _settings_of(service):
    image = {name: value for name, value in _image_environment().items() if name.startswith("GENLEDGER_")}
    return settings.load({**image, **service["environment"], **_command(service)[0]})


def _option(words, name):
    return words[words.index(name) + 1]


def test_compose_has_no_unknown_keys():
    """Each service, health check and dependency says only what compose knows, of things that are there."""
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("healthcheck", {})) <= HEALTH_KEYS, name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        named = [volume.split(":")[0] for volume in service.get("volumes", [])]
        declared = [volume for volume in named if not volume.startswith(".")]
        assert set(declared) <= set(COMPOSE["volumes"]), name
        assert all((ROOT / volume).exists() for volume in named if volume.startswith(".")), name


def test_up_starts_the_kafka_installation_and_embedded_needs_none_of_it():
    """Without a profile Kafka and the roles start; the embedded service needs nothing of theirs."""
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == KAFKA_INSTALLATION
    assert {
        name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]
    } == MONITORING
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["influxdb"]} == INFLUXDB
    embedded = SERVICES["embedded"]
    assert embedded["profiles"] == ["embedded"]
    assert "depends_on" not in embedded
    assert _settings_of(embedded).broker.startswith("sqlite:")
    others = [
        volume
        for name, service in SERVICES.items()
        if name != "embedded"
        for volume in service.get("volumes", [])
    ]
    assert not set(embedded["volumes"]) & set(others)


def test_each_service_has_a_health_check_that_can_fail_or_is_a_step():
    """A service says whether it is well; a step ends, and others wait for its success."""
    for name, service in SERVICES.items():
        if service["restart"] == "no":
            waiting = [other.get("depends_on", {}).get(name) for other in SERVICES.values()]
            assert {"condition": "service_completed_successfully"} in waiting, name
            continue
        assert service["restart"] == "unless-stopped", name
        test = service["healthcheck"]["test"]
        assert test[0] == "CMD", f"{name}: a shell can turn a failure into success"
        assert _seconds(service["healthcheck"]["timeout"]) < _seconds(service["healthcheck"]["interval"]), (
            name
        )


def test_what_is_waited_for_can_come():
    """A dependency on health has a health check, and nothing waits in a circle."""
    order = {}

    def depth(name, above=()):
        assert name not in above, f"{name} waits for itself"
        needs = SERVICES[name].get("depends_on", {})
        for other, how in needs.items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other], (name, other)
            profiles = SERVICES[other].get("profiles")
            assert profiles in (None, SERVICES[name].get("profiles")), f"{other} may not be there for {name}"
            order[name] = max(order.get(name, 0), 1 + depth(other, (*above, name)))
        return order.get(name, 0)

    assert all(depth(name) >= 2 for name in ROLES)


def test_ports_are_published_on_loopback_and_once():
    """No port is open to the network, none is taken twice, and of the roles only the doors have one."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    plain = [re.sub(r"\$\{\w+:-(\d+)\}", r"\1", port) for port in published]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in plain), plain
    assert len({port.split(":")[1] for port in plain}) == len(plain)
    assert {name for name, service in OWN.items() if "ports" in service} == {"gateway", "embedded"}
    assert f"127.0.0.1:{settings.Settings().port}:8787" in plain


def test_images_are_pinned_to_versions():
    """No image is whatever is newest, and ours has the project's version."""
    images = {service["image"] for service in SERVICES.values()} | {
        words[0] for instruction, words in DOCKERFILE if instruction == "FROM"
    }
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", image) for image in images), images
    assert {service["image"] for service in OWN.values()} == {f"genledger:{VERSION}"}
    labels = next(words for instruction, words in DOCKERFILE if instruction == "LABEL")
    assert f"org.opencontainers.image.version={VERSION}" in labels


def test_containers_have_no_more_rights_than_they_need():
    """No container gains privileges, each has bounds, and ours can't write their own files."""
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
    assert all(service["read_only"] and service["tmpfs"] for service in OWN.values())


def test_grafana_has_no_weak_password():
    """There is no account to guess: no administrator is made, nobody logs in, viewers only look."""
    told = SERVICES["grafana"]["environment"]
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert told["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in told if "PASSWORD" in name]


@pytest.mark.parametrize("name", OWN)
def test_a_container_has_settings_that_are_taken(name):
    """The service accepts the settings of its container, and has time to drain before it is killed."""
    service = OWN[name]
    taken = _settings_of(service)
    assert taken.data == "/data"
    assert _seconds(service["stop_grace_period"]) > taken.drain_timeout_s
    if name != "embedded":
        assert taken.broker == "kafka://kafka:9092"
        assert taken.metrics_host == "0.0.0.0"
        advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert advertised == f"PLAINTEXT://{taken.broker.removeprefix('kafka://')}"


@pytest.mark.parametrize("name", OWN)
def test_a_container_runs_a_command_that_there_is(name):
    """The command line is one that genledger takes, and the health check asks the port that it opens."""
    given, words = _command(OWN[name])
    assert set(given) <= {setting.env for setting in settings.TABLE}
    app.parse_args(words, exit_on_error=False, print_error=False)
    if "healthcheck" in OWN[name]:
        port = _option(words, "--metrics-port" if "--metrics-port" in words else "--port")
        assert OWN[name]["healthcheck"]["test"] == ["CMD", "python", "/opt/genledger/ready.py", port]


def test_each_ledger_worker_has_an_address_of_its_own():
    """Of several containers of one service each tells the doors its own name, not the one they share."""
    ledger = OWN["ledger"]
    assert ledger["deploy"]["replicas"] == 2
    given, words = _command(ledger)
    assert given["GENLEDGER_ADVERTISED_URL"] == f"http://0a1b2c3d4e5f:{_option(words, '--metrics-port')}"


def test_only_workers_with_a_state_have_a_volume():
    """The views and the ledger's tables have one each; the door keeps nothing, and asks for the views."""
    assert OWN["summaries"]["volumes"] == ["views:/data"]
    assert OWN["ledger"]["volumes"] == ["ledger:/data"]
    assert "volumes" not in OWN["gateway"]
    for name, variable in (("summaries", "GENLEDGER_VIEWS_URL"), ("points", "GENLEDGER_POINTS_URL")):
        port = _option(_command(OWN[name])[1], "--metrics-port")
        assert OWN["gateway"]["environment"][variable] == f"http://{name}:{port}"


def test_influxdb_is_set_up_as_every_role_is_told():
    """The page's lines for genledger.env are settings that are taken, for the bucket that is made."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    lines = re.findall(r"^    ((?:DOCKER_)?INFLUXDB_\w+)=(.*)$", page, re.MULTILINE)
    given = dict(lines)
    made = {**SERVICES["influxdb"]["environment"], **given}
    taken = settings.load({name: text for name, text in given.items() if name.startswith("INFLUXDB_")})
    assert settings.points_kept(taken) == "influxdb"
    assert (taken.influxdb_org, taken.influxdb_bucket, taken.influxdb_token) == (
        made["DOCKER_INFLUXDB_INIT_ORG"],
        made["DOCKER_INFLUXDB_INIT_BUCKET"],
        made["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN"],
    )
    assert taken.influxdb_url == "http://influxdb:8086"
    assert "DOCKER_INFLUXDB_INIT_PASSWORD" in given
    told = SERVICES["influxdb"]["environment"]
    assert not [name for name in told if "TOKEN" in name or "PASSWORD" in name]
    assert OWN["points"]["env_file"] == SERVICES["influxdb"]["env_file"] == OWN["summaries"]["env_file"]


def test_kafka_keeps_what_it_is_given():
    """The broker's log is on the volume, and the ledger's place in it is not forgotten in a week."""
    told = SERVICES["kafka"]["environment"]
    [volume] = SERVICES["kafka"]["volumes"]
    assert volume.split(":")[1] == told["KAFKA_LOG_DIRS"]
    assert int(told["KAFKA_OFFSETS_RETENTION_MINUTES"]) >= 365 * 24 * 60
    assert told["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    replication = {
        name: value for name, value in told.items() if name.endswith(("REPLICATION_FACTOR", "MIN_ISR"))
    }
    assert len(replication) == 6
    assert set(replication.values()) == {"1"}


# --- the image


def _dockerfile():
    """The instructions, each with its words; lists as they are."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        plain, _, listed = rest.partition("[")  # exec form: `CMD ["a", "b"]`
        if instruction:
            found.append((instruction, shlex.split(plain) + (json.loads(f"[{listed}") if listed else [])))
    return found


DOCKERFILE = _dockerfile()
FINAL = DOCKERFILE[max(n for n, (instruction, _) in enumerate(DOCKERFILE) if instruction == "FROM") :]


def _image_environment():
    words = [word for instruction, given in FINAL if instruction == "ENV" for word in given]
    return dict(word.split("=", 1) for word in words)


def _copied():
    """The files that the image is built from."""
    copies = [words for instruction, words in DOCKERFILE if instruction == "COPY"]
    return [source for words in copies if not words[0].startswith("--") for source in words[:-1]]


def _only(instruction):
    [words] = [words for name, words in FINAL if name == instruction]
    return words


def test_the_image_runs_as_nobody_and_keeps_its_data():
    """The image has a fixed user that is not root, who owns the volume that the data goes to."""
    [user] = _only("USER")
    uid, gid = user.split(":")
    assert int(uid) >= 10_000
    [made] = [words for instruction, words in FINAL if instruction == "RUN"]
    assert {f"--owner={uid}", f"--group={gid}", "/data"} <= set(made)
    assert _only("VOLUME") == ["/data"]
    assert _image_environment()["GENLEDGER_DATA"] == "/data"
    assert settings.load({n: v for n, v in _image_environment().items() if n.startswith("GENLEDGER_")})


def test_the_image_says_whether_it_is_well():
    """The health check asks the port that the default command opens, and its failure stays one."""
    health, command = _only("HEALTHCHECK"), _only("CMD")
    assert health[-4:] == ["CMD", "python", "/opt/genledger/ready.py", str(settings.Settings().port)]
    assert _only("ENTRYPOINT") == ["genledger"]
    app.parse_args(command, exit_on_error=False, print_error=False)
    assert "--port" not in command


def test_the_image_has_no_tools_that_build():
    """What compiles and packs stays in the first stage; every package comes from the lock, by its hash."""
    assert not [words for instruction, words in FINAL if {"pip", "apt-get", "gcc"} & set(words)]
    installs = [
        step
        for instruction, words in DOCKERFILE
        if instruction == "RUN"
        for step in " ".join(words).split(" && ")
        if re.search(r"pip install", step)
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in step or "--no-deps" in step for step in installs)
    assert sum("requirements.lock" in step for step in installs) == 2


def test_the_builder_is_sent_what_is_copied_and_no_more():
    """.dockerignore lets through what the Dockerfile copies, all packages among it, and nothing else."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(_copied())
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.rstrip("*") for package in packages} <= set(_copied())
    assert all((ROOT / name).exists() for name in _copied())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The package as the image has it: a wheel of the copied files only, unpacked."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "source"
    for name in _copied():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, target)
    pack = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pack, "--wheel-dir", folder, source], check=True)
    [wheel] = folder.glob("genledger-*.whl")
    with ZipFile(wheel) as packed:
        packed.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_every_file_of_the_packages_is_in_the_image(unpacked):
    """Nothing that the code reads beside itself, such as a migration, is left out of the package."""
    expected = {
        str(path.relative_to(ROOT))
        for name in _copied()
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(expected) > 100
    assert expected - {str(path.relative_to(unpacked)) for path in unpacked.rglob("*")} == set()


def test_the_package_serves_and_its_health_check_sees_it(unpacked, tmp_path):
    """What the image installs starts on an empty volume; its health check fails before and after."""
    port = free_port()
    check = [sys.executable, DEPLOY / "ready.py", str(port)]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(unpacked),
        "GENLEDGER_DATA": str(tmp_path / "data"),
    }
    start = "import genledger.main as m, sys; assert sys.argv[1] in m.__file__; del sys.argv[1]; m.main()"
    command = [sys.executable, "-c", start, str(unpacked), "serve", "--port", str(port)]
    assert subprocess.run(check, check=False).returncode == 1
    service = subprocess.Popen(command, cwd=tmp_path, env=environment)
    try:
        until = time.monotonic() + 30
        while subprocess.run(check, capture_output=True, check=False).returncode != 0:
            assert service.poll() is None
            assert time.monotonic() < until
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    finally:
        service.kill()
        service.wait()
    assert subprocess.run(check, check=False).returncode == 1


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False), (None, False)])
def test_the_health_check_fails_when_it_should(status, well):
    """Ready is well; not ready is not, nor is a service that takes the question and never answers."""
    spec = importlib.util.spec_from_file_location("ready", DEPLOY / "ready.py")
    ready = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ready)
    ready.TIMEOUT_S = 0.3
    gone = threading.Event()

    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            if status is None:
                gone.wait(5)
                return
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *told):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        assert (ready.problem(server.server_port) == "") is well
        gone.set()
        server.shutdown()


# --- honcho


def test_the_procfile_starts_every_role():
    """Honcho starts each role with a command that genledger takes, and settings that it knows."""
    names = []
    for name, given, words in _processes({}):
        names.append(name)
        assert words[0] == "genledger"
        assert settings.load({**given, "GENLEDGER_BROKER": "kafka://127.0.0.1:9092"}).drain_timeout_s < 5
        app.parse_args(words[1:], exit_on_error=False, print_error=False)
    assert sorted(names) == sorted(f"{name}.1" for name in KAFKA_INSTALLATION - {"kafka", "topics"})


def test_two_ledger_workers_of_honcho_have_two_ports():
    """`honcho start -c ledger=2` gives no port to two processes."""
    ports = {name: _option(words, "--metrics-port") for name, _, words in _processes({"ledger": 2})}
    assert len(ports) == 5
    assert len(set(ports.values())) == 5


# --- Prometheus and Grafana


@pytest.fixture(scope="module")
def promtool():
    """Runs promtool in the rules' folder."""
    found = shutil.which("promtool")
    if not found:
        pytest.skip("promtool is missing: on Debian, apt-get install prometheus")

    def run(*words):
        done = subprocess.run([found, *words], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_prometheus_takes_its_configuration(promtool):
    """Promtool finds no fault in the configuration and the rules it names."""
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "alerts.yml")


def test_the_alerts_ring_when_they_should(promtool):
    """Each alert rings for its fault, and none for a busy or a quiet installation that is well."""
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_is_tried():
    """No alert is without a test of its own, and each says what is wrong and what to do."""
    tried = (RULES.parent / "alerts_test.yml").read_text()
    for rule in _alerts():
        assert re.search(rf"\b{rule['alert']}\b", tried), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def _alerts():
    [group] = _yaml(RULES)["groups"]
    return group["rules"]


def _panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def _expressions():
    asked = [(panel["title"], target["expr"]) for panel in _panels() for target in panel["targets"]]
    return [*asked, *((rule["alert"], rule["expr"]) for rule in _alerts())]


def test_prometheus_takes_what_the_dashboard_asks(promtool, tmp_path):
    """Each expression of the dashboard is one that Prometheus understands."""
    rules = [
        {"record": f"asked:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(_expressions())
    ]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "asked.yml"))


def _families():
    """Each metric of a process by the names of its samples, with its labels; Prometheus' own `up` too."""
    found = {"up": set()}
    for family in metrics.REGISTRY.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
        for end in ends.get(family.type, ("",)):
            found[family.name + end] = {"le"} if end == "_bucket" else set()
    for metric in vars(metrics).values():
        for name in found:
            if getattr(metric, "_name", None) and re.fullmatch(rf"{metric._name}(_[a-z]+)?", name):
                found[name] |= set(metric._labelnames)
    return found


@pytest.mark.parametrize(("where", "expression"), _expressions(), ids=[where for where, _ in _expressions()])
def test_metrics_that_are_asked_for_exist(where, expression):
    """Each metric of a rule or a panel is one that the code shows, with the labels that are asked of it."""
    families = _families()
    named = re.findall(
        r"\b((?:genledger|process)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?(?=[^\"a-z-]|$)", expression
    )
    assert named, expression
    for name, matchers in named:
        assert name in families, f"{where}: {name}"
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
        assert labels <= families[name] | {"job", "instance"}, f"{where}: {name} {labels}"


def test_the_alarm_on_the_write_ahead_log_is_the_setting_s_default():
    """The rule's threshold is that of GENLEDGER_WAL_ALARM_BYTES."""
    [rule] = [rule for rule in _alerts() if rule["alert"] == "GenledgerViewsWal"]
    assert rule["expr"].endswith(f" > {settings.Settings().wal_alarm_bytes}")


def test_prometheus_looks_where_the_roles_answer():
    """Each role of the installation is scraped, under its own name, at its metrics port."""
    scraped = {}
    for job in _yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            [name] = found["names"]
            assert job["job_name"] == f"genledger-{name}"
            scraped[name] = str(found["port"])
    assert scraped == {name: _option(_command(OWN[name])[1], "--metrics-port") for name in ROLES}


def test_the_dashboard_is_found_and_finds_its_data():
    """Grafana is given the dashboard's folder and the data source that every panel names."""
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    [provider] = _yaml(DEPLOY / "grafana/provisioning/dashboards/genledger.yml")["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    [source] = _yaml(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert len(_panels()) >= 12
    assert len({panel["id"] for panel in _panels()}) == len(_panels())
    for panel in _panels():
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}


def test_the_dashboard_has_no_panel_over_another():
    """Each place of the dashboard has one panel at most."""
    taken = set()
    for panel in _panels():
        at = panel["gridPos"]
        places = {
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in places) < 24
        assert not places & taken, panel["title"]
        taken |= places


# --- the page


def test_the_page_names_what_there_is():
    """docs/deployment.md has no setting, service or command that is not there."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    known = {setting.env for setting in settings.TABLE} | {
        f"{s.env}_FILE" for s in settings.TABLE if s.secret
    }
    assert set(re.findall(r"\bGENLEDGER_\w+", page)) <= known
    for command in re.findall(r"^    (?:docker compose exec .* )?genledger (.+)$", page, re.MULTILINE):
        app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)
    unit = configparser.ConfigParser(strict=False)
    unit.read_string(re.search(r"```ini\n(.*?)```", page, re.DOTALL)[1])
    assert "genledger serve" in unit["Service"]["ExecStart"]
