"""The program of a worker process: `worker.py` runs it, `protocol.py` says what it is sent.

It ignores the signals that stop a server, because a stopping server still answers the requests
that it has accepted. It ends when its parent closes the pipe or is gone, whatever it is doing.
"""

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, BinaryIO

from common.failures import Refusal
from runners.process_pool.protocol import (
    Done,
    Failed,
    Job,
    Outcome,
    Refused,
    Stop,
    Stopped,
    frame,
    read_frame,
)

_PR_SET_PDEATHSIG = 1
"""From Linux's prctl.h."""


class _GivenUp(Exception):
    """Raised in a job if nobody waits for its result any more."""


def main() -> None:
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, signal.SIG_IGN)
    if sys.platform == "linux":
        # Native code that hangs may keep the thread that listens from seeing the pipe close.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    messages: SimpleQueue[Any] = SimpleQueue()
    given_up = threading.Event()
    listener = threading.Thread(
        target=_listen, args=(sys.stdin.buffer, messages, given_up), daemon=True
    )
    listener.start()

    def check() -> None:
        if given_up.is_set():
            raise _GivenUp

    def answer(outcome: Outcome) -> None:
        answers.write(frame(outcome))
        answers.flush()

    loaded = _outcome(messages.get())
    if not isinstance(loaded, Done):
        return answer(loaded)
    answer(Done())
    while True:
        job: Job = messages.get()
        answer(_outcome(partial(loaded.value, job.value, check)))


def _listen(pipe: BinaryIO, messages: "SimpleQueue[Any]", given_up: threading.Event) -> None:
    """Pass on what the parent sends, and end the process when it sends no more."""
    try:
        while True:
            message = read_frame(pipe)
            if isinstance(message, Stop):
                given_up.set()
            else:
                given_up.clear()  # the parent sends a job after the answer to the one before
                messages.put(message)
    except EOFError:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return Done(work())
    except _GivenUp:
        return Stopped()
    except Refusal as refusal:
        return Refused(refusal.failure)
    except Exception:
        return Failed(traceback.format_exc())


if __name__ == "__main__":
    main()
