"""The end of a real `bentoml serve`."""

import time

from tests.support.load import CLIENTS, PATIENCE, stop_under_load
from tests.support.server import Server


def test_sigterm_under_load_loses_nothing_that_was_let_in_and_lets_no_one_else_in() -> None:
    with Server(models="reader", reader_processes=2) as server:

        def stop() -> int:
            server.process.terminate()
            return server.process.wait(PATIENCE)

        stopped = stop_under_load(f"http://127.0.0.1:{server.port}", stop)
        assert stopped.late >= CLIENTS / 2
        assert stopped.exit_code == 0


def test_the_sockets_and_the_metrics_are_removed_when_the_server_ends() -> None:
    with Server(models="reader", reader_processes=1) as server:
        files = [
            file
            for folder in ("bentoml-uds-*", "chatvlm-*")
            for file in server.temporary.glob(f"{folder}/*")
        ]
        assert {file.suffix for file in files} == {".sock", ".db"}
        server.process.terminate()
        server.process.wait(PATIENCE)
        assert not any(file.parent.exists() for file in files)


def test_an_idle_server_ends_at_once() -> None:
    with Server(models="reader", reader_processes=1) as server:
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 10
