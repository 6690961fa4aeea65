"""Has Maven bring the servers that tests run on a JVM: `python tests/java_artifacts.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["ELASTICMQ", "KAFKA", "classpath"]

KAFKA: Final = "org.apache.kafka:kafka_2.13:3.9.1"
ELASTICMQ: Final = "org.elasticmq:elasticmq-server_2.13:1.6.9"
"""Speaks the protocol of SQS."""

_POM: Final = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>
  </dependencies>
</project>
"""
_CACHES: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _file(name: str) -> Path:
    return _CACHES / "snowplow-logging-tests" / f"{name.replace(':', '-')}.classpath"


def classpath(name: str) -> str | None:
    """Return where what a server consists of is; None where Maven has not brought it, or no Java.

    Args:
        name: One of those above.
    """
    if shutil.which("java") is None or not _file(name).exists():
        return None
    path = _file(name).read_text()
    return path if all(Path(one).exists() for one in path.split(os.pathsep)) else None


def bring(name: str) -> bool:
    """Have Maven bring a server; return whether it is there."""
    if classpath(name) is not None:
        return True
    if shutil.which("java") is None or shutil.which("mvn") is None:
        return False
    file = _file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        pom, path = Path(folder) / "pom.xml", Path(folder) / "classpath"
        pom.write_text(_POM.format(*name.split(":")))
        command = ["mvn", "-q", "-B", "-f", pom, "dependency:build-classpath"]
        command += [f"-Dmdep.outputFile={path}"]
        for some in (["-o"], []):  # first with what is there already
            done = subprocess.run([*command, *some], check=False, capture_output=True)
            if done.returncode == 0:
                path.replace(file)
                return True
    return False


if __name__ == "__main__":
    missing = [name for name in (KAFKA, ELASTICMQ) if not bring(name)]
    sys.exit(f"Java or Maven are not there, or cannot bring {missing}" if missing else 0)
