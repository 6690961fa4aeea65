"""Fixtures of all tests: a collector that judges by the schemas, and a handler that sends to it."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess

import pytest
from hypothesis import HealthCheck, settings

from helpers import ANYTHING, IGLU, tracking
from programs import Programs
from snowplow_logging import LocalCollector, json_data

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A shell starts what runs in its background with this ignored, and each process that the tests
# start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header():
    """Say whether the faster way is tested."""
    return f"snowplow_logging: {'with' if json_data.orjson else 'without'} orjson"


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """Return a registry of Iglu Central's schemas and one for any data; None where it is absent."""
    if not IGLU.is_dir():
        return None
    pytest.importorskip("jsonschema_rs")
    schemas = tmp_path_factory.mktemp("iglu") / "schemas"
    schemas.mkdir()
    for vendor in (IGLU / "schemas").iterdir():
        (schemas / vendor.name).symlink_to(vendor)
    vendor, name, form, version = ANYTHING.removeprefix("iglu:").split("/")
    schema = schemas / vendor / name / form / version
    schema.parent.mkdir(parents=True)
    schema.write_text(json.dumps({}))
    return schemas.parent


@pytest.fixture(scope="session")
def running_collector(registry):
    """Start a collector that checks data against its schema, where the schemas are there."""
    pytest.importorskip("werkzeug", reason="the local collector needs it")
    with LocalCollector(iglu=registry) as running:
        yield running


@pytest.fixture
def collector(running_collector):
    """Give the collector, empty. Starting one for each test would take longer than the tests."""
    running_collector.reset()
    return running_collector


@pytest.fixture
def tracked(collector):
    """Give a logger whose handler sends to the collector."""
    with tracking(collector) as running:
        yield running


@pytest.fixture
def refusing():
    """Give a logger whose handler is to refuse everything: nobody listens where it sends."""
    with tracking() as running:
        yield running


@pytest.fixture
def reports():
    """Keep what is reported on the logger `snowplow_logging`."""
    kept = []

    class Keeping(logging.Handler):
        def emit(self, record):
            kept.append(record.getMessage())

    handler = Keeping()
    logging.getLogger("snowplow_logging").addHandler(handler)
    yield kept
    logging.getLogger("snowplow_logging").removeHandler(handler)


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a program, which has the preamble's functions."""
    with Programs(tmp_path) as programs:
        yield programs.start


@pytest.fixture
def run(tmp_path):
    """Return a function that runs such a program to its end."""
    with Programs(tmp_path) as programs:
        yield programs.run


@pytest.fixture
def command(tmp_path):
    """Return a function that starts the command line; what is left of it is ended."""
    with Programs(tmp_path) as programs:
        yield programs.command


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Return the file of a certificate for this machine, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not there")
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3"]
    command += ["-keyout", str(file), "-out", f"{file}.only", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    with file.open("ab") as both:
        both.write(file.with_name("certificate.pem.only").read_bytes())
    return file
