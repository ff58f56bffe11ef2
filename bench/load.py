"""Clients that send requests at the same time: the load under which models are timed and packages are tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

# What each client saw so far, in ns, one list per client.
Latencies = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Load:
    """``latencies_ns`` in the order of each client's requests; ``elapsed_ns`` until the last answer."""

    latencies_ns: list[list[int]]
    elapsed_ns: int


class Clients:
    """So many threads, each of which sends its next request when the last one is answered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number)

    def __enter__(self) -> Clients:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def drive(self, send: Callable[[int, int], object], is_over: Callable[[int, Latencies], bool]) -> Load:
        """Calls ``send(client, position)`` until ``is_over(elapsed_ns, latencies_ns)``, which each client asks before
        a request. What a request raises ends the load and is raised here."""
        latencies_ns: list[list[int]] = [[] for _ in range(self.number)]
        is_stopped = threading.Event()
        began_ns = [0]

        def begin() -> None:
            began_ns[0] = time.perf_counter_ns()

        barrier = threading.Barrier(self.number, begin)

        def client(number: int) -> int:
            """When its last request was answered."""
            own_ns, position = latencies_ns[number], 0
            # It waits for the others, so each of the threads is one of the clients.
            barrier.wait()
            answered_ns = began_ns[0]
            while not is_stopped.is_set():
                sent_ns = time.perf_counter_ns()
                if is_over(sent_ns - began_ns[0], latencies_ns):
                    break
                try:
                    send(number, position)
                except BaseException:
                    is_stopped.set()
                    raise
                answered_ns = time.perf_counter_ns()
                own_ns.append(answered_ns - sent_ns)
                position += 1
            return answered_ns

        try:
            clients = [self._pool.submit(client, number) for number in range(self.number)]
            ended_ns = max(future.result() for future in clients)
        except BaseException:
            # Nobody waits for a client that could not be started, nor goes on after an interruption.
            is_stopped.set()
            barrier.abort()
            raise
        return Load(latencies_ns, ended_ns - began_ns[0])


def overload(concurrency: int, threads: int, processors: int | None) -> str:
    """Why so many requests at a time cannot be timed on so many processors (None: unknown); empty where they can.

    A request is computed by its client's thread and by the session's others, which all requests share.
    """
    needed = concurrency + threads - 1
    if concurrency == 1 or processors is None or needed <= processors:
        return ""
    return (
        f"{concurrency} requests at a time in a session of {threads} thread(s) keep {needed} processors busy, and "
        f"there are {processors}: what they wait for each other is timed too. Ask for fewer at a time, or fewer "
        f"threads"
    )
