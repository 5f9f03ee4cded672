"""The simulation of docs/reports/cluster.md, at its smallest."""

from __future__ import annotations

from tests.streaming.cluster.simulation import Scene, Simulation, row


def test_it_is_the_same_twice_and_loses_nobody() -> None:
    scene = Scene(sessions=100, servers_of_node=1)
    simulation = Simulation(scene).run()
    assert row(simulation) == row(Simulation(scene).run())
    assert row(simulation)["steady"]["refused_percent"] == 0
    assert row(simulation)["servers"][1] > 8  # 100 sessions, and 500 who come in ten seconds
    counts = simulation.counts["burst"]
    assert counts.callers > 500 and counts.left == 0
    assert len(counts.waited_s) == counts.callers
    for server in simulation._servers.values():
        assert server.taken >= len(server.sessions)
        assert server.taken <= scene.places
