"""Has Maven bring the artifacts of Kafka that its tests run: `python tests/kafka_artifacts.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["CLASSPATH"]

_VERSION: Final = "3.9.1"
_POM: Final = f"""
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_CACHES: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CLASSPATH: Final = _CACHES / "snowplow-logging-tests" / f"kafka-{_VERSION}.classpath"
"""The file that says where they are; it is there once they are."""


def bring() -> bool:
    """Have Maven bring them; return whether they are there."""
    if CLASSPATH.exists():
        if all(Path(one).exists() for one in CLASSPATH.read_text().split(os.pathsep)):
            return True
        CLASSPATH.unlink()
    if shutil.which("java") is None or shutil.which("mvn") is None:
        return False
    CLASSPATH.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CLASSPATH.parent) as folder:
        pom, path = Path(folder) / "pom.xml", Path(folder) / "classpath"
        pom.write_text(_POM)
        command = ["mvn", "-q", "-B", "-f", pom, "dependency:build-classpath"]
        command += [f"-Dmdep.outputFile={path}"]
        for some in (["-o"], []):  # first with what is there already
            done = subprocess.run([*command, *some], check=False, capture_output=True)
            if done.returncode == 0:
                path.replace(CLASSPATH)
                return True
    return False


if __name__ == "__main__":
    sys.exit(0 if bring() else "Java and Maven, which bring Kafka, are not there or cannot")
