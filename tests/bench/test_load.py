from __future__ import annotations

import threading
import time

import pytest

from ortnas.bench.load import Clients, Latencies, overload


def test_every_client_sends_its_own_requests_one_after_the_other() -> None:
    sent: list[tuple[int, int]] = []

    def is_over(_: int, latencies_ns: Latencies) -> bool:
        return all(len(row) >= 3 for row in latencies_ns)

    with Clients(4) as clients:
        load = clients.drive(lambda client, position: sent.append((client, position)), is_over)
    assert len(load.latencies_ns) == 4
    for client in range(4):
        positions = [position for number, position in sent if number == client]
        assert positions == list(range(len(positions)))
        assert len(load.latencies_ns[client]) == len(positions) >= 3
    assert load.elapsed_ns >= max(map(sum, load.latencies_ns))


def test_requests_of_all_clients_are_under_way_together() -> None:
    together = threading.Barrier(3)
    with Clients(3) as clients:
        for _ in range(2):
            # The first of each is not answered before those of the others are sent.
            load = clients.drive(
                lambda _, position: position or together.wait(timeout=60), lambda _, rows: min(map(len, rows)) >= 1
            )
            assert min(map(len, load.latencies_ns)) >= 1


def test_a_load_ends_when_its_time_is_over() -> None:
    with Clients(2) as clients:
        load = clients.drive(lambda *_: time.sleep(0.001), lambda elapsed_ns, _: elapsed_ns >= 20e6)
        assert load.elapsed_ns >= 20e6
        assert all(sum(row) <= load.elapsed_ns for row in load.latencies_ns)
        nothing = clients.drive(lambda *_: None, lambda *_: True)
    assert nothing.latencies_ns == [[], []]
    assert nothing.elapsed_ns == 0


def test_a_request_that_fails_ends_the_load_of_all() -> None:
    def send(client: int, position: int) -> None:
        if (client, position) == (1, 2):
            raise ValueError("no such token")

    with Clients(3) as clients:
        with pytest.raises(ValueError, match="no such token"):
            clients.drive(send, lambda *_: False)
        assert len(clients.drive(send, lambda *_: True).latencies_ns) == 3


def test_more_threads_than_processors_are_refused_with_a_sentence() -> None:
    assert overload(1, 8, 2) == ""
    assert overload(2, 1, 2) == overload(4, 2, None) == overload(7, 2, 8) == ""
    assert overload(8, 2, 8).startswith(
        "8 requests at a time in a session of 2 thread(s) keep 9 processors busy, and there are 8: "
    )
