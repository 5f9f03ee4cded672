"""A cluster of up to 10,000 sessions, simulated: who is refused, how full servers get, what breaks.

    python -m tests.streaming.cluster.simulation

Prints tables, and as the last line JSON. Placement and scaling are the real ones: each ingress has
its `placement.RoomView`, and `scaling.servers_needed` says how many servers there should be. All
else is a model on a clock of its own; docs/reports/cluster.md has its assumptions and its results.
The same seed gives the same tables.

A run begins with `sessions` sessions, and as many callers come as leave. At `BURST_S` so many more
call within ten seconds, and stay as long as the others. At `LOSS_S` a node is lost with all that is
on it. At `EBB_S` half of the sessions leave within half a minute, and half as many callers come.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from streaming.cluster.application import _INGRESSES, _SCALING, _TELL_S
from streaming.cluster.ingress import _CONNECT_S, _MOST_ASKED
from streaming.cluster.placement import RoomView
from streaming.cluster.scaling import _ASKED, servers_needed

BURST_S, LOSS_S, EBB_S, END_S = 60.0, 240.0, 330.0, 450.0
PHASES = {"steady": (10.0, BURST_S), "burst": (BURST_S, BURST_S + 60), "loss": (LOSS_S, EBB_S)}
PLACES = 64  # sessions that a server takes: docs/reports/load.md
LATE_S = 5.0  # `AdmissionGate`: the longest wait for a turn
RETRY_S = (5.0, 7.0)  # `Admission.retry_after_s`
PATIENCE_S = 60.0  # of a caller who is refused
BACK_S = (2.0, 8.0)  # from the loss of a server until a page calls again
DRAIN_S = 5.0  # a server that goes tells its sessions, which call again within this time


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Measured on 2 cores of a shared AMD EPYC server: docs/reports/cluster.md.

    Of a core, in seconds, unless it says something else.
    """

    proxy_call_s: float = 0.0055  # Ray's HTTP proxy
    ingress_call_s: float = 0.0060  # with one server asked
    ask_s: float = 0.0004  # each further server
    proxy_event_s: float = 0.0006  # one message of an event stream
    ingress_event_s: float = 0.0006
    controller: tuple[float, float, float] = (0.034, 0.00146, 0.000168)
    # cores: alone, each server, each server and ingress
    loop_s: tuple[float, float] = (0.11, 0.0008)
    # wall time until the ingresses know what a server told: alone, each server
    turn_s: float = 0.1  # wall time from one SDP answer of a server to its next, when many wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is simulated."""

    sessions: int
    burst: int = 500
    start_s: float = 5.0  # from Ray's decision until a server answers
    most_servers: int = 1000
    servers_of_node: int = 4
    places: int = PLACES
    stay_s: float = 300.0  # mean of a session, exponential
    seen_s: float = 20.0  # from the loss of a node until Ray knows
    ingresses: int = _INGRESSES
    most_asked: int = _MOST_ASKED
    view: Callable[[random.Random], RoomView] = RoomView
    needed: Callable[..., int] = servers_needed
    costs: Costs = field(default_factory=Costs)
    end_s: float = END_S
    seed: int = 17


@dataclass(slots=True, eq=False)
class Server:
    name: str
    node: int
    ready_s: float
    told_s: float  # when it told the controller last
    told: tuple[int, int] | None = None  # sessions and room, as it told
    taken: int = 0  # sessions, and callers who wait for their turn
    turn_s: float = 0.0  # when the gate lets the next caller through
    draining: bool = False
    dead: bool = False
    refusals: list[float] = field(default_factory=list)  # when
    sessions: dict[Caller, None] = field(default_factory=dict)  # in order


@dataclass(slots=True, eq=False)
class Caller:
    came_s: float
    stay_s: float
    phase: str
    asked: int = 0  # servers, in the present call
    refused: int = 0  # calls


@dataclass(slots=True)
class Counts:
    """Of the callers who first called in one phase."""

    callers: int = 0
    refused: int = 0  # in their first call
    left: int = 0  # after a minute of refusals
    stale: int = 0  # calls whose first server had no room while another had some
    late: int = 0  # calls that had a place and no turn within 5 s
    most_asked: int = 0  # servers in one call
    waited_s: list[float] = field(default_factory=list)


class Simulation:
    """One run of a scene; what it counted is read afterwards."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.now_s = 0.0
        self.counts = {phase: Counts() for phase in (*PHASES, "other")}
        self.calls: dict[int, int] = defaultdict(int)  # of each second
        self.asks: dict[int, int] = defaultdict(int)  # of each second: servers asked
        self.unevenness: list[float] = []  # p95 of sessions a server, over their mean
        self.servers: list[int] = []
        self.changes: list[int] = []  # of how many servers there should be
        self._chance = random.Random(scene.seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = itertools.count()
        seeds = (f"{scene.seed} {number}" for number in range(scene.ingresses))
        self._views = [scene.view(random.Random(seed)) for seed in seeds]
        self._servers: dict[str, Server] = {}
        self._known: dict[str, Server] = {}  # to the ingresses
        self._made = 0
        self._target = 0
        self._way, self._way_s = 0, 0.0  # where the target should go, and since when

    def run(self) -> Simulation:
        scene = self.scene
        full = [scene.places] * math.ceil(scene.sessions / scene.places)
        room = [float(len(full) * scene.places - scene.sessions), *(0.0 for _ in full[1:])]
        taken = [place - free for place, free in zip(full, room, strict=True)]
        self._target = min(scene.needed(1, taken, room, 0.0), scene.most_servers)
        for _ in range(self._target):
            self._start(0.0)
        cycle = itertools.cycle(self._servers.values())
        for server in itertools.islice(cycle, min(scene.sessions, self._target * scene.places)):
            server.taken += 1
            self._join(Caller(0.0, self._stay_s(), "other"), server)
        self._turn()
        self._arrive()
        for number in range(scene.burst):
            self._at(BURST_S + 10 * number / scene.burst, self._come)
        self._at(LOSS_S, self._lose_node)
        self._at(EBB_S, self._ebb)
        while self._events[0][0] <= scene.end_s:
            self.now_s, _, do, what = heapq.heappop(self._events)
            do(*what)
        return self

    def _at(self, when_s: float, do: Callable[..., None], *what: Any) -> None:
        heapq.heappush(self._events, (when_s, next(self._number), do, what))

    # Callers

    def _stay_s(self) -> float:
        return self._chance.expovariate(1 / self.scene.stay_s)

    def _arrive(self) -> None:
        """Callers who know nothing of each other, as many as leave."""
        rate = self.scene.sessions / self.scene.stay_s * (0.5 if self.now_s >= EBB_S else 1.0)
        if self.now_s:
            self._come()
        self._at(self.now_s + self._chance.expovariate(rate), self._arrive)

    def _come(self) -> None:
        """A new caller, or one who lost the session: what is left of it is as long as a whole one
        (exponential)."""
        spans = PHASES.items()
        phase = next((name for name, (a, z) in spans if a <= self.now_s < z), "other")
        self.counts[phase].callers += 1
        self._call(Caller(self.now_s, self._stay_s(), phase))

    def _call(self, caller: Caller) -> None:
        """POST /whip, through any of the ingresses."""
        caller.asked = 0
        self.calls[int(self.now_s)] += 1
        self._ask(caller, self._chance.choice(self._views), [])

    def _ask(self, caller: Caller, view: RoomView, asked: list[str]) -> None:
        """The ingress asks the next server for a caller."""
        scene = self.scene
        names = view.order(self._known, self.now_s, room=True, but=asked)
        if not names or names[0] in asked or len(asked) == scene.most_asked:
            self._refuse(caller)
            return
        server, asked = self._known[names[0]], [*asked, names[0]]
        view.send(names[0])
        self.asks[int(self.now_s)] += 1
        counts = self.counts[caller.phase]
        counts.most_asked = max(counts.most_asked, len(asked))
        if server.dead:
            self._at(self.now_s + _CONNECT_S, self._ask, caller, view, asked)
        elif server.draining or server.taken >= scene.places:
            server.refusals.append(self.now_s)
            counts.stale += len(asked) == 1 and self._room_somewhere()
            self._at(self.now_s + 0.005, self._ask, caller, view, asked)
        elif (turn_s := max(self.now_s, server.turn_s)) - self.now_s > LATE_S:
            server.taken += 1
            self._at(self.now_s + LATE_S, self._late, caller, server, view, asked)
        else:
            server.taken += 1
            server.turn_s = turn_s + scene.costs.turn_s
            self._at(server.turn_s, self._admit, caller, server)

    def _room_somewhere(self) -> bool:
        usable = (s for s in self._known.values() if not s.dead and not s.draining)
        return any(server.taken < self.scene.places for server in usable)

    def _late(self, caller: Caller, server: Server, view: RoomView, asked: list[str]) -> None:
        server.taken -= 1
        server.refusals.append(self.now_s)
        self.counts[caller.phase].late += 1
        self._ask(caller, view, asked)

    def _admit(self, caller: Caller, server: Server) -> None:
        if server.dead or server.draining:
            server.taken -= 1
            self._come()
            return
        self.counts[caller.phase].waited_s.append(self.now_s - caller.came_s)
        self._call_server()  # PATCH
        self._join(caller, server)

    def _join(self, caller: Caller, server: Server) -> None:
        server.sessions[caller] = None
        self._at(self.now_s + caller.stay_s, self._leave, caller, server)

    def _leave(self, caller: Caller, server: Server) -> None:
        if caller in server.sessions:
            del server.sessions[caller]
            server.taken -= 1
            self._call_server()  # DELETE

    def _call_server(self) -> None:
        """A call that names the session."""
        self.calls[int(self.now_s)] += 1
        self.asks[int(self.now_s)] += 1

    def _refuse(self, caller: Caller) -> None:
        counts = self.counts[caller.phase]
        caller.refused += 1
        counts.refused += caller.refused == 1
        if self.now_s - caller.came_s > PATIENCE_S:
            counts.left += 1
        else:
            self._at(self.now_s + self._chance.uniform(*RETRY_S), self._call, caller)

    # Servers

    def _start(self, start_s: float) -> None:
        ready_s = self.now_s + start_s
        server = Server(
            name=f"server {self._made}",
            node=self._made // self.scene.servers_of_node,
            ready_s=ready_s,
            told_s=ready_s - self._chance.uniform(0, _TELL_S),
        )
        self._made += 1
        self._servers[server.name] = server

    def _lose_node(self) -> None:
        node = self._chance.choice([s for s in self._servers.values() if s.sessions]).node
        for server in [s for s in self._servers.values() if s.node == node]:
            server.dead = True
            self._move(server, BACK_S)
            self._at(self.now_s + self.scene.seen_s, self._forget, server)

    def _move(self, server: Server, within_s: tuple[float, float]) -> None:
        """All sessions of a server call again."""
        for _ in server.sessions:
            self._at(self.now_s + self._chance.uniform(*within_s), self._come)
        server.taken -= len(server.sessions)
        server.sessions.clear()

    def _forget(self, server: Server) -> None:
        self._servers.pop(server.name, None)

    def _ebb(self) -> None:
        for server in self._servers.values():
            for caller in list(server.sessions)[::2]:
                self._at(self.now_s + self._chance.uniform(0, 30), self._leave, caller, server)

    # Ray's controller

    def _turn(self) -> None:
        """One turn of its loop: it asks servers, tells the ingresses, starts and stops servers."""
        alone_s, each_s = self.scene.costs.loop_s
        turn_s = alone_s + each_s * len(self._servers)
        self._at(self.now_s + turn_s, self._turn)
        serving = [
            server
            for server in self._servers.values()
            if server.ready_s <= self.now_s and not server.draining
        ]
        for server in serving:
            if self.now_s - server.told_s >= _TELL_S and not server.dead:
                server.told, server.told_s = (
                    (server.taken, self.scene.places - server.taken),
                    self.now_s,
                )
        reports = [
            (s.name, float(s.told[1]), s.told_s) if s.told else (s.name, 0.0, None) for s in serving
        ]
        self._at(self.now_s + turn_s, self._tell, {s.name: s for s in serving}, reports)
        self._scale(serving)
        if PHASES["steady"][0] <= self.now_s < BURST_S:
            taken = [float(server.taken) for server in serving]
            self.unevenness.append(quantile(taken, 0.95) / (sum(taken) / len(taken)))

    def _tell(self, known: dict[str, Server], reports: list[tuple[str, float, Any]]) -> None:
        self._known = known
        for view in self._views:
            view.update(reports, self.now_s)

    def _scale(self, serving: list[Server]) -> None:
        """The policy of `scaling`, and Ray's delays: `_apply_delay_logic` of its
        `autoscaling_policy`."""
        told = [server.told for server in serving if server.told is not None]
        for server in serving:
            server.refusals = [s for s in server.refusals if self.now_s - s < RETRY_S[1]]
        refused = sum(len(server.refusals) for server in serving)
        needed = self.scene.needed(
            self._target,
            [float(taken) for taken, _ in told],
            [float(room) for _, room in told],
            refused / max(1, min(_ASKED, len(told))),
        )
        needed = min(needed, self.scene.most_servers)
        way = (needed > self._target) - (needed < self._target)
        if way != self._way:
            self._way, self._way_s = way, self.now_s
        delay_s: Any = _SCALING["upscale_delay_s" if way > 0 else "downscale_delay_s"]
        if way and self.now_s - self._way_s >= delay_s:
            self.changes.append(needed - self._target)
            self._target, self._way = needed, 0
        staying = [server for server in self._servers.values() if not server.draining]
        for _ in range(self._target - len(staying)):
            self._start(self.scene.start_s)
        for server in staying[self._target :]:
            server.draining = True
            self._move(server, (0.0, DRAIN_S))
            self._at(self.now_s + DRAIN_S, self._forget, server)
        self.servers.append(len(self._servers))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


# Other rules, to see what ours are good for


class MostRoom(RoomView):
    """Always the server with most room first."""

    def order(
        self,
        names: Iterable[str],
        now_s: float,
        *,
        server: str = "",
        room: bool = False,
        but: Collection[str] = (),
    ) -> list[str]:
        chance = self._chance.random
        return sorted(names, key=lambda name: (name in but, -self._room(name), chance()))


class AnyServer(RoomView):
    """At random."""

    def order(
        self,
        names: Iterable[str],
        now_s: float,
        *,
        server: str = "",
        room: bool = False,
        but: Collection[str] = (),
    ) -> list[str]:
        return super().order(names, now_s, but=but)


def without_waiting(now: int, sessions: list[float], room: list[float], waiting: float) -> int:
    """Only sessions count, not those who were refused."""
    return servers_needed(now, sessions, room)


def quarter_of_a_server(now: int, sessions: list[float], room: list[float], waiting: float) -> int:
    """The same number of spare places for any number of sessions."""
    return servers_needed(now, sessions, room, of_all=(0.0, 0.0))


# Tables


def scenes() -> Iterator[tuple[str, str, Scene]]:
    """Table, row, and scene."""
    for sessions, nodes in ((100, 1), (1000, 4), (10_000, 4)):
        for start_s in (5.0, 120.0):
            scene = Scene(sessions=sessions, servers_of_node=nodes, start_s=start_s)
            yield "Sessions", f"{sessions:,}, a server starts in {start_s:g} s", scene
    many = Scene(sessions=10_000, start_s=120.0, ingresses=8, end_s=BURST_S + 40)
    late = Costs(loop_s=(1.5, 0.0))
    for name, view in (("ours", RoomView), ("most room", MostRoom), ("any server", AnyServer)):
        yield "Placement", name, replace(many, view=view)
        yield "Placement", f"{name}, room 3 s old", replace(many, view=view, costs=late)
    some = Scene(sessions=1000, end_s=EBB_S)
    yield "A lost node", "silent servers last", some
    yield (
        "A lost node",
        "silent servers as others",
        replace(some, view=partial(RoomView, silent_s=math.inf)),
    )
    for sessions in (1000, 10_000):
        scaling = Scene(sessions=sessions, start_s=120.0, end_s=BURST_S + 40)
        for name, needed in (
            ("quarter of a server", quarter_of_a_server),
            ("5 % of all", partial(servers_needed, of_all=(0.05, 0.1))),
            ("10 % (ours)", servers_needed),
            ("20 %", partial(servers_needed, of_all=(0.2, 0.25))),
        ):
            yield "Spare room", f"{sessions:,}: {name}", replace(scaling, needed=needed)
    small = Scene(sessions=100, servers_of_node=1, end_s=LOSS_S)
    yield "A burst at 100 sessions", "those refused count", small
    yield "A burst at 100 sessions", "sessions alone", replace(small, needed=without_waiting)
    full = Scene(sessions=10_000, most_servers=150, end_s=BURST_S)
    for most in (1, 3, 1000):
        yield "All full", f"{most} servers asked", replace(full, most_asked=most)


def row(simulation: Simulation) -> dict[str, Any]:
    """What a run tells."""
    scene, costs = simulation.scene, simulation.scene.costs
    result: dict[str, Any] = {}
    for phase, (first_s, _) in PHASES.items():
        if first_s >= scene.end_s:
            continue
        counts = simulation.counts[phase]
        result[phase] = {
            "callers": counts.callers,
            "refused_percent": round(100 * counts.refused / max(1, counts.callers), 2),
            "left": counts.left,
            "stale": counts.stale,
            "late": counts.late,
            "waited_p95_s": round(quantile(counts.waited_s, 0.95), 2),
        }
    seconds = range(10, int(scene.end_s))
    calls = [simulation.calls[second] for second in seconds]
    extra = [simulation.asks[s] - simulation.calls[s] for s in seconds]
    ingress = [
        costs.ingress_call_s * call + costs.ask_s * max(0, more)
        for call, more in zip(calls, extra, strict=True)
    ]
    return result | {
        "unevenness": round(sum(simulation.unevenness) / len(simulation.unevenness), 3),
        "servers": [min(simulation.servers), max(simulation.servers)],
        "changes": len(simulation.changes),
        "calls_a_second": [round(sum(calls) / len(calls), 1), max(calls)],
        "ingress_cores": [round(sum(ingress) / len(ingress), 3), round(max(ingress), 2)],
    }


EVENTS_S, STREAMS = 7.6, 0.1  # messages a second of one stream; streams a session
CALLS = 3  # of a session: POST, PATCH, DELETE
PAGE_CALLS = 34  # 29 modules, the page itself, its style and icon, /api/model, /api/ice
BUSY = 0.7  # of a core, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What so many sessions cost in front of the servers, in quiet: arithmetic alone."""

    sessions: int
    page: bool = True  # comes through the ingresses
    events: bool = True  # do, too
    costs: Costs = field(default_factory=Costs)

    @property
    def servers(self) -> int:
        count = math.ceil(self.sessions / PLACES)
        each = self.sessions / count
        return servers_needed(count, [each] * count, [PLACES - each] * count)

    @property
    def calls(self) -> float:
        """A second."""
        return (CALLS + PAGE_CALLS * self.page) * self.sessions / Scene(sessions=0).stay_s

    @property
    def messages(self) -> float:
        """A second, of event streams."""
        return self.sessions * STREAMS * EVENTS_S * self.events

    @property
    def ingress(self) -> float:
        """Cores."""
        costs = self.costs
        return self.calls * costs.ingress_call_s + self.messages * costs.ingress_event_s

    @property
    def proxy(self) -> float:
        """Cores."""
        return self.calls * self.costs.proxy_call_s + self.messages * self.costs.proxy_event_s

    @property
    def ingresses(self) -> int:
        return max(_INGRESSES, math.ceil(self.ingress / BUSY))

    @property
    def controller(self) -> float:
        """Cores: it has one at most."""
        alone, each, each_and_ingress = self.costs.controller
        return alone + self.servers * (each + each_and_ingress * self.ingresses)

    def row(self) -> dict[str, float]:
        names = "sessions servers calls messages ingress ingresses proxy controller".split()
        return {name: round(getattr(self, name), 3) for name in names}


def breaks(**through: Any) -> dict[str, int]:
    """The first number of sessions, in hundreds, that is too much for each part."""
    full: dict[str, Callable[[Load], bool]] = {
        "one proxy": lambda load: load.proxy > BUSY,
        "two ingresses": lambda load: load.ingresses > 2,
        "the controller": lambda load: load.controller > 1,
    }
    return {
        part: next(
            sessions
            for sessions in range(100, 100_000, 100)
            if too_much(Load(sessions=sessions, **through))
        )
        for part, too_much in full.items()
    }


def main() -> None:
    tables: dict[str, dict[str, Any]] = {}
    for table, name, scene in scenes():
        if table not in tables:
            print(f"\n{table}")
        result = row(Simulation(scene).run())
        tables.setdefault(table, {})[name] = result
        refused = ", ".join(
            f"{phase} {result[phase]['refused_percent']} % ({result[phase]['stale']} stale,"
            f" {result[phase]['left']} left, p95 {result[phase]['waited_p95_s']} s)"
            for phase in PHASES
            if phase in result
        )
        print(
            f"  {name}: refused {refused}; servers {result['servers']},"
            f" unevenness {result['unevenness']}, calls/s {result['calls_a_second']},"
            f" ingress cores {result['ingress_cores']}",
            flush=True,
        )
    print("\nLoad, and the sessions from which on a part is full")
    ways: dict[str, dict[str, Any]] = {
        "all through ingresses": {},
        "the page from elsewhere": {"page": False},
        "neither page nor events": {"page": False, "events": False},
    }
    loads: dict[str, Any] = {}
    for name, through in ways.items():
        rows = [Load(sessions=sessions, **through).row() for sessions in (100, 1000, 10_000)]
        loads[name] = {"rows": rows, "breaks": breaks(**through)}
        print(f"  {name}: {loads[name]['breaks']}")
        for one in rows:
            print("    " + ", ".join(f"{key} {value:g}" for key, value in one.items()))
    print(json.dumps({"tables": tables, "load": loads}))


if __name__ == "__main__":
    main()
