"""A real `bentoml serve`, in processes of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import httpx
import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
STOP_SECONDS = 20
OWN_SETTINGS = ("CHATVLM_TESSDATA",)
"""Settings that describe the machine; all others are set by the test."""

SAYS = {
    "got_ocr": "The quick brown fox",
    "qwen_vl_2b": "seven small wizards",
    "qwen_vl_7b": "read old books",
    "qwen3_vl_2b": "fox jumps over a lazy dog",
    "qwen3_vl_8b": "brown dog",
    "dots_ocr": '[{"bbox": [10, 20, 210, 50], "category": "Title", "text": "The lazy dog"}]',
}
"""What the tiny checkpoint of each model answers to everything."""
RAMBLING = "qwen3_vl_4b"
"""Its weights are random: its text depends on the page."""
RAMBLING_SEED = 63
"""Seed of random weights whose answer does not end within 4096 tokens."""


class Server:
    """Serves while its context is open; leaves no process and no file behind."""

    def __init__(
        self,
        *,
        target: str = "service:service",
        cwd: Path = ROOT,
        home: Path | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        containerized: bool = False,
        threads: int = 1,
        **settings: object,
    ) -> None:
        """settings: of the service, `queue_size=1` being CHATVLM_QUEUE_SIZE.

        home: BENTOML_HOME; by default one of its own. containerized: as in the image of a Bento.
        threads: of a model's matrix products.
        """
        self._target = target
        self._cwd = cwd
        self.host = host
        self.port = port or free_port(host=host)
        self.url = f"http://{host}:{self.port}"
        # Short, as the path of a Unix socket has to be.
        self._folder = Path(tempfile.mkdtemp(prefix="e2e-"))
        self.temporary = self._folder / "tmp"
        self._log = self._folder / "log"
        self._read_to = 0
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CHATVLM_")},
            **{k: os.environ[k] for k in OWN_SETTINGS if k in os.environ},
            "BENTOML_HOME": str(home or self._folder / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
            "HF_HOME": str(self._folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
            "TMPDIR": str(self.temporary),
            **({"BENTOML_CONTAINERIZED": "true"} if containerized else {}),
            **{f"CHATVLM_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> "Server":
        self.temporary.mkdir()
        command = [sys.executable, "-m", "bentoml", "serve", self._target]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--host", self.host, "--port", str(self.port)],
                cwd=self._cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.client = httpx.Client(base_url=self.url, timeout=120)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Raises `RuntimeError` where it had to be killed."""
        self.client.close()
        children = self.children()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            children = self.children()
            raise RuntimeError(f"SIGTERM did not end the server:\n{self.new_log()}") from error
        finally:
            self.process.kill()
            self.process.wait()
            for child in children:  # which are in sessions of their own
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """Every process, at once."""
        for process in [psutil.Process(self.process.pid), *self.children()]:
            process.kill()

    def terminate(self) -> None:
        self.process.terminate()

    def children(self) -> list[psutil.Process]:
        """The gateway and the runners."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def runners(self, model: str) -> list[psutil.Process]:
        """The processes that serve one model."""
        return [process for process in self.children() if _named(process, "--service-name", model)]

    def readers(self) -> list[psutil.Process]:
        """The processes in which the embedded reader reads pages."""
        program = "runners.process_pool.program"
        return [process for process in self.children() if _named(process, "-m", program)]

    def rasterisers(self) -> list[psutil.Process]:
        """The processes that draw the pages of documents."""
        return [process for process in self.children() if _runs(process, "rasteriser_program.py")]

    def memory(self) -> int:
        """Bytes that its processes hold together, what they share counted once for all."""
        held = 0
        for process in self.children():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                held += process.memory_full_info().pss
        return held

    def new_log(self) -> str:
        """What was logged since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            text = log.read()
        self._read_to += len(text)
        return text.decode(errors="replace")

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if self.client.get("/readyz").is_success:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"The server did not start:\n{self.new_log()}")


def free_port(wanted: int = 0, host: str = "127.0.0.1") -> int:
    """`wanted` where it is free, else another one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _named(process: psutil.Process, flag: str, value: str) -> bool:
    return (flag, value) in pairwise(_command(process))


def _runs(process: psutil.Process, program: str) -> bool:
    return any(Path(word).name == program for word in _command(process))


def _command(process: psutil.Process) -> list[str]:
    """Empty where the process has ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []
