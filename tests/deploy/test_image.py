"""The image of the embedded reader, built, run and stopped. `make image-test` runs this.

It needs an engine that builds and runs (docker or podman), and packages to build from.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.guide import CURL
from tests.support.load import CLIENTS, stop_under_load
from tests.support.pages import ENGLISH, encode, render
from tests.support.server import ROOT, START_SECONDS, free_port

pytestmark = pytest.mark.image

LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
"""The engine's own are more than some machines grant."""


def works(engine: str) -> bool:
    return (
        shutil.which(engine) is not None
        and subprocess.run([engine, "info"], capture_output=True).returncode == 0
    )


ENGINE = os.environ.get("ENGINE") or next(filter(works, ("docker", "podman")), "")


def engine(*words: str) -> str:
    done = subprocess.run([ENGINE, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Container:
    """Runs the image as an operator would who trusts nobody, until its context is left."""

    def __init__(self, image: str, *command: str) -> None:
        self.port = free_port()
        self._words = (image, *command)

    def __enter__(self) -> "Container":
        server = {"BENTOML_HOST": "127.0.0.1", "BENTOML_PORT": str(self.port)}
        self.id = engine(
            *("run", "--detach", "--network", "host", *LIMITS),
            *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),
            *(word for name, value in server.items() for word in ("--env", f"{name}={value}")),
            *self._words,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").is_success:
                    return self
            time.sleep(0.2)
        log = engine("logs", self.id)
        self.__exit__()
        raise RuntimeError(f"The container did not become ready:\n{log}")

    def __exit__(self, *error: object) -> None:
        engine("rm", "--force", self.id)

    def sh(self, command: str) -> str:
        return engine("exec", self.id, "sh", "-c", command)

    def terminate(self) -> int:
        """Its exit code."""
        engine("kill", "--signal", "TERM", self.id)
        return int(engine("wait", self.id))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its name."""
    if not ENGINE:
        pytest.skip("neither docker nor podman works here")
    home = tmp_path_factory.mktemp("home")
    build = subprocess.run(
        [ROOT / "scripts" / "image"],
        env=os.environ | {"BENTOML_HOME": str(home), "ENGINE": ENGINE, "FOR": "reader"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    name = build.stdout.strip()
    yield name
    engine("image", "rm", name)


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[Container]:
    with Container(image) as container:
        yield container


@pytest.fixture(scope="module")
def described(container: Container) -> dict[str, Any]:
    return json.loads(engine("inspect", container.id))[0]["Config"]


def test_it_is_tagged_with_the_bentos_version(image: str, container: Container) -> None:
    version = container.sh("sed -n 's/^version: //p' ../bento.yaml")
    assert image.endswith(f"chatvlmllm:{version}-reader")


def test_the_guides_curl_is_answered(container: Container, tmp_path: Path) -> None:
    (tmp_path / "document.jpg").write_bytes(encode(render(ENGLISH), "JPEG"))
    (command,) = (code for code in CURL.values() if '/ocr" ' in code and "batch" not in code)
    command = command.replace("localhost:8000", f"127.0.0.1:{container.port}")
    command = command.replace("model=qwen3_vl_2b", "model=reader")
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["text"] == "\n".join(ENGLISH)
    assert answer["model"] == "reader"


def test_a_model_that_it_has_no_pytorch_for_is_refused(container: Container) -> None:
    page = encode(render(ENGLISH))
    answer = httpx.post(f"{container.url}/ocr", files={"file": page}, data={"model": "qwen3_vl_2b"})
    assert answer.status_code == 503
    assert "CHATVLM_MODELS leaves it out" in answer.json()["detail"]


def test_an_ordinary_user_runs_it_and_owns_none_of_its_code(container: Container) -> None:
    assert container.sh("id -u") != "0"
    assert container.sh("find /app /home/bentoml -user $(id -u) -print -quit") == ""


def test_it_holds_no_compiler_no_test_and_no_pytorch(container: Container) -> None:
    assert container.sh("which cc gcc g++ clang make || true") == ""
    assert container.sh("find /app /home -name test -o -name tests") == ""
    assert container.sh("find /app -maxdepth 5 -name torch -o -name 'nvidia_c*'") == ""


def test_its_health_check_succeeds_while_it_is_ready(
    container: Container, described: dict[str, Any]
) -> None:
    kind, command = described["Healthcheck"]["Test"]
    assert kind == "CMD-SHELL"
    container.sh(command)


def test_its_health_check_fails_while_it_is_not(
    container: Container, described: dict[str, Any]
) -> None:
    _, command = described["Healthcheck"]["Test"]
    nobody = free_port()
    with pytest.raises(AssertionError, match="refused"):
        container.sh(f"export BENTOML_PORT={nobody}; {command}")


def test_weights_and_the_hubs_cache_are_volumes(image: str) -> None:
    (described,) = json.loads(engine("image", "inspect", image))
    assert set(described["Config"]["Volumes"]) == {"/weights", "/hub"}


def test_one_runner_of_it_is_served_by_itself(image: str) -> None:
    with Container(image, "service:reader") as runner:
        answer = httpx.post(f"{runner.url}/status", json={})
        assert answer.json()["state"] == "unloaded"


def test_sigterm_under_load_loses_no_request_and_ends_with_0(image: str) -> None:
    with Container(image) as container:
        stopped = stop_under_load(container.url, container.terminate)
    print(stopped)
    assert stopped.late >= CLIENTS / 2
    assert stopped.exit_code == 0
