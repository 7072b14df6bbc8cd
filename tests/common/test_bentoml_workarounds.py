import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bentoml.serving
import circus.arbiter
import circus.sockets
import click
import pytest
import uvicorn
from bentoml._internal.utils.circus import Arbiter

from common.bentoml_workarounds import apply_workarounds

PATCHED = {
    (Arbiter, "stop"),
    (Arbiter, "_stop_watchers"),
    (uvicorn.Server, "shutdown"),
    (bentoml.serving, "running_inside_container"),
    (bentoml.serving, "ensure_prometheus_dir"),
    (circus.sockets.CircusSocket, "bind"),
}


@pytest.fixture(autouse=True)
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test patches is as it was once the test is over."""
    for owner, name in PATCHED:
        monkeypatch.setattr(owner, name, getattr(owner, name))


def patched() -> set[tuple[object, str]]:
    """Those of PATCHED that `apply_workarounds` replaces now."""
    before = {(owner, name): getattr(owner, name) for owner, name in PATCHED}
    apply_workarounds(patience=1)
    return {key for key, function in before.items() if getattr(*key) is not function}


def test_every_workaround_fits_what_is_installed() -> None:
    assert apply_workarounds(patience=1) == []
    assert patched() == PATCHED


def test_they_fit_in_a_process_that_has_applied_them_already() -> None:
    apply_workarounds(patience=1)
    assert apply_workarounds(patience=1) == []


@pytest.mark.parametrize(
    ("owner", "name", "left_out", "cost"),
    [
        (
            uvicorn.Server,
            "shutdown",
            {(uvicorn.Server, "shutdown"), (Arbiter, "stop"), (Arbiter, "_stop_watchers")},
            "a stop of the server may fail requests in flight",
        ),
        (
            circus.arbiter.Arbiter,
            "iter_watchers",
            {(uvicorn.Server, "shutdown"), (Arbiter, "stop"), (Arbiter, "_stop_watchers")},
            "a stop of the server may fail requests in flight",
        ),
        (
            bentoml.serving,
            "running_inside_container",
            {(bentoml.serving, "running_inside_container")},
            "a runner that dies in a container is not started again",
        ),
        (
            bentoml.serving,
            "ensure_prometheus_dir",
            {(bentoml.serving, "ensure_prometheus_dir")},
            "a second server on this machine breaks the first one",
        ),
        (
            circus.sockets.CircusSocket,
            "bind_and_listen",
            {(circus.sockets.CircusSocket, "bind")},
            "a port in use ends the start with a traceback",
        ),
    ],
)
@pytest.mark.parametrize("gone", [False, True], ids=["another signature", "gone"])
def test_one_that_no_longer_fits_is_left_out_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    left_out: set[tuple[object, str]],
    cost: str,
    gone: bool,
) -> None:
    if gone:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, lambda self, anything_else: None)
    (warning,) = apply_workarounds(patience=1)
    assert f".{name} is not what it was with BentoML 1.4.40" in warning
    assert cost in warning
    assert warning.endswith(".")
    if not gone:
        assert patched() == PATCHED - left_out


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("import uvicorn; uvicorn.Server.shutdown = lambda self: None", "uvicorn.Server.shutdown"),
        (
            "import sys; sys.modules['circus.sockets'] = None",
            "circus.sockets.CircusSocket.bind_and_listen",
        ),
    ],
)
def test_a_changed_library_is_named_when_the_service_starts(change: str, changed: str) -> None:
    program = f"{change}; import service; print(service.service.name)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout == "chatvlmllm\n"
    assert run.stderr.count(f"{changed} is not what it was") == 1
    assert "Traceback" not in run.stderr


def test_a_process_that_dies_in_a_container_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENTOML_CONTAINERIZED", "true")
    apply_workarounds(patience=1)
    assert bentoml.serving.create_watcher("runner", []).respawn


def test_each_server_has_a_folder_of_its_own_for_its_metrics() -> None:
    apply_workarounds(patience=1)
    folders = [Path(bentoml.serving.ensure_prometheus_dir()) for _ in range(2)]
    assert folders[0] != folders[1]
    assert all(folder.is_dir() for folder in folders)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_one_sentence(taken: int) -> None:
    apply_workarounds(patience=1)
    listener = circus.sockets.CircusSocket("gateway", host="127.0.0.1", port=taken)
    with pytest.raises(click.ClickException) as refused:
        listener.bind_and_listen()
    listener.close()
    assert refused.value.message == (
        f"Port {taken} of 127.0.0.1 is in use by another program: stop it, "
        "or choose another port with --port."
    )


def test_what_else_keeps_a_server_from_listening_stays_what_it_is() -> None:
    apply_workarounds(patience=1)
    listener = circus.sockets.CircusSocket("gateway", host="192.0.2.1", port=0)
    with pytest.raises(OSError, match="assign requested address"):
        listener.bind_and_listen()
    listener.close()
