"""The benchmark harness: its arithmetic, its plan, and its load generator on a real connection."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux", allow_module_level=True)

from benchmarks import load, peer, report, targets, wide
from benchmarks.alarm import Alarm
from benchmarks.histogram import Histogram, bounds, bucket_of
from benchmarks.load import LOST_SECONDS, Result, Unary, WrongReplyError, due_calls, next_tick
from benchmarks.open_loop import TRIES, highest_rate, step_seconds
from benchmarks.peer import MixedPeer, Ready
from benchmarks.peers import BASELINE, FLOOR, PEERS, active_build
from benchmarks.processes import Driver, cores
from benchmarks.results import (
    Measurement,
    PeerResults,
    Results,
    Round,
    Step,
    ratio,
    ratio_of_rounds,
)
from benchmarks.run import Plan, Runner
from benchmarks.work import Endpoint, Work
from benchmarks.workloads import FULL, QUICK
from protosocket_rpc import build_info


def test_every_value_lies_in_its_bucket() -> None:
    values = [*range(300), *(random.Random(1).randrange(1 << 40) for _ in range(1000))]
    for value in values:
        low, high = bounds(bucket_of(value))
        assert low <= value < high
        assert high - low <= max(1, value / 64)


def test_buckets_are_contiguous() -> None:
    for bucket in range(1000):
        assert bounds(bucket)[1] == bounds(bucket + 1)[0]


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 99.9, 100])
def test_percentiles_are_those_of_the_sorted_values(percent: float) -> None:
    generator = random.Random(2)
    values = sorted(int(generator.lognormvariate(12, 2)) for _ in range(10_000))
    exact = values[max(0, round(len(values) * percent / 100) - 1)]
    assert Histogram(values).percentile(percent) == pytest.approx(exact, rel=1 / 128, abs=0.5)


def test_merged_histograms_equal_the_histogram_of_all_values() -> None:
    left, right = [1, 5, 10**6, 10**9], [5, 70, 10**6 + 1]
    merged = Histogram(left)
    merged.merge(Histogram.from_json(Histogram(right).to_json()))
    assert merged.to_json() == Histogram(left + right).to_json()
    assert merged.total == 7


def test_an_empty_histogram_has_no_percentiles() -> None:
    with pytest.raises(ValueError, match="empty"):
        Histogram().percentile(50)


def test_ratio_needs_both_figures() -> None:
    assert ratio(10.0, 4.0) == 2.5
    assert ratio(None, 4.0) is None
    assert ratio(10.0, None) is None
    assert ratio(10.0, 0.0) is None


def test_open_loop_schedule_is_exact() -> None:
    interval = 1e9 / 3000
    assert due_calls(0, interval) == 1
    assert due_calls(int(interval) - 1, interval) == 1
    assert due_calls(10**9, interval) == 3001


@pytest.mark.parametrize("limit", [0, 125, 400, 600, 12_345, 99_999])
@pytest.mark.parametrize("lost", [0, 1])
def test_highest_rate_is_found_to_within_nine_percent(limit: int, lost: int) -> None:
    asked: list[float] = []

    def offer(rate: float) -> Step:
        asked.append(rate)
        return _step(rate, late=rate > limit, lost=lost)

    found = highest_rate(offer)
    if limit < 125:
        assert found == 0
    else:
        assert found <= limit < found * 1.1
    assert len(set(asked)) < 18
    # What piled up is not tried again, what was late is.
    assert asked.count(max(asked)) == (1 if lost else TRIES)


def test_rates_that_are_answered_late_do_not_end_the_search() -> None:
    slow = (1000, 2000, 8000)
    found = highest_rate(
        lambda rate: _step(rate, rate in slow or rate > 16_000, lost=rate > 16_000)
    )
    assert found == 16_000


def test_a_stall_of_the_machine_does_not_end_the_search() -> None:
    late = itertools.cycle([True, True, False])
    found = highest_rate(lambda rate: _step(rate, late=rate > 6000 or next(late)))
    assert found <= 6000 < found * 1.1


@pytest.mark.parametrize(("rate", "seconds"), [(125, 2), (1000, 2), (1600, 1.25), (50_000, 1)])
def test_a_step_has_some_thousand_calls(rate: float, seconds: float) -> None:
    assert step_seconds(rate) == seconds


def _step(rate: float, late: bool, lost: int = 0) -> Step:
    return Step(rate, 1000, lost if late else 0, 1.0, 1.0, 50.0 if late else 1.0, 0.5)


@pytest.mark.parametrize(("due", "next_one"), [(0, 1_000_005), (1_000_006, 1_000_006)])
def test_the_generator_sleeps_until_a_call_is_due_but_a_millisecond(
    due: int, next_one: int
) -> None:
    assert next_tick(5, due) == next_one


async def test_an_alarm_rings_when_it_is_set_and_not_before() -> None:
    rung = asyncio.Event()
    with Alarm(asyncio.get_running_loop(), rung.set) as alarm:
        for when in (time.monotonic_ns() + 3_000_000, time.monotonic_ns() - 1):
            alarm.set(when)
            await asyncio.wait_for(rung.wait(), 10)
            assert time.monotonic_ns() >= when
            rung.clear()


def test_open_loop_gives_up_when_calls_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DRAIN_SECONDS", 0.05)
    result, _ = _measure(Work("open", seconds=2, warmup=0.0, rate=500.0), deaf=True)
    assert result.calls == 0
    assert result.unanswered == 1000
    assert 500 * LOST_SECONDS <= result.lateness.total < 1000


def test_work_survives_its_line() -> None:
    work = Work("open", 1024, 16, 2, 0.5, 0.1, 1e4, metadata=True, background="burn")
    assert Work.parse(work.line()) == work
    assert Work.parse(Work().line()) == Work()


def test_endpoint_survives_its_arguments() -> None:
    parser = argparse.ArgumentParser()
    Endpoint.add_arguments(parser)
    endpoint = Endpoint("unix:/tmp/x", Path("/tls"), "client", wide=True, busy_poll=True)
    assert Endpoint.of(parser.parse_args(endpoint.arguments())) == endpoint
    assert endpoint.unix_path == "/tmp/x"
    assert (Endpoint("127.0.0.1:80").host, Endpoint("127.0.0.1:80").port) == ("127.0.0.1", 80)


def test_workloads_have_names_of_their_own() -> None:
    names = [workload.name for workload in FULL]
    assert len(set(names)) == len(names)
    assert {workload.name for workload in QUICK} <= set(names)


def test_goals_name_workloads_that_exist() -> None:
    names = {workload.name for workload in FULL} | {"open loop"}
    for target in targets.TARGETS:
        assert target.workload in names
        assert (target.base or target.workload) in names


def test_wide_proto_has_500_methods() -> None:
    assert wide.proto().count("rpc ") == 500


def test_a_ratio_is_the_median_of_the_rounds_that_both_have() -> None:
    ours = Measurement([Round(rate, 1.0, 1.0, number=n) for n, rate in enumerate((10, 40, 30))])
    theirs = Measurement([Round(rate, 1.0, 1.0, number=n) for n, rate in ((0, 5), (2, 10), (3, 1))])
    assert ratio_of_rounds(ours, theirs) == 2.5
    assert ratio_of_rounds(ours, Measurement([Round(1.0, 1.0, 1.0, number=7)])) is None
    assert ratio_of_rounds(None, theirs) is None


def test_rounds_of_older_results_are_numbered(tmp_path: Path) -> None:
    _results().save(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert ',"number":0' in text
    (tmp_path / "r.json").write_text(re.sub(r',"number":\d', "", text))
    measured = Results.load(tmp_path / "r.json").peers["grpc.aio"].workloads["unary 11 B, C=64"]
    assert [each.number for each in measured.rounds] == [0, 1, 2]


@pytest.mark.parametrize("heavy_rounds", [1, 3])
def test_later_rounds_are_of_what_the_goals_are_about(heavy_rounds: int) -> None:
    plan = Plan(
        FULL,
        rounds=5,
        minutes=1,
        open_loop=True,
        costs=False,
        here=True,
        heavy_rounds=heavy_rounds,
    )
    runner = Runner(plan, PEERS, print)
    rounds = [runner._sessions(PEERS, number) for number in range(5)]
    done = [{(s.peer.name, w.name) for s in sessions for w in s.workloads} for sessions in rounds]
    searched = [{s.peer.name for s in sessions if s.open_loop} for sessions in rounds]
    everything = {(p.name, w.name) for p in PEERS for w in FULL if w.needs <= p.supports}
    assert done[0] == everything
    heavy = {w.name for w in FULL if w.heavy}
    assert {name for _, name in done[0] - done[1]} == (heavy if heavy_rounds == 1 else set())
    assert done[1] == done[2]
    assert done[3] == done[4]
    assert done[4] == {pair for pair in everything if pair[1] in targets.needed().get(pair[0], ())}
    of_goals = {"grpc.aio", targets.COMPILED, targets.PURE}
    everybody = {p.name for p in PEERS if "open" in p.supports}
    assert searched == [everybody] * heavy_rounds + [of_goals] * (5 - heavy_rounds)


def _results() -> Results:
    results = Results.begin({"rounds": 3})
    for name, scale in (("grpc.aio", 1.0), (targets.COMPILED, 60.0), (targets.PURE, 20.0)):
        rounds = [
            Round(scale * rate, 1.0, 2.0, number=number)
            for number, rate in enumerate((90.0, 110.0, 100.0))
        ]
        peer = PeerResults({"python": "3"})
        peer.workloads["unary 11 B, C=64"] = Measurement(rounds, Histogram([10**6, 2 * 10**6]))
        results.peers[name] = peer
    results.peers["absent"] = PeerResults(left_out="no compiler")
    return results


def test_results_survive_their_json(tmp_path: Path) -> None:
    results = _results()
    loop = results.peers["grpc.aio"].open_loop
    loop.highest.append(1000.0)
    loop.steps.append(Step(1000.0, 800, 0, 1.0, 2.0, 3.0, 0.5))
    results.save(tmp_path / "deep" / "r.json")
    loaded = Results.load(tmp_path / "deep" / "r.json")
    assert report.render(loaded) == report.render(results)


def test_report_states_medians_ranges_ratios_and_gaps() -> None:
    text = report.render(_results())
    assert "| protosocket | 6k [5.4k-6.6k] 60x |" in text
    assert "Left out: absent: no compiler" in text
    assert (
        "| unary 11 B, C=64 | grpc.aio | >= 50.00x | 60.00x | >= 25.00x | 20.00x (missed) |" in text
    )
    assert "| unary 11 B, C=64 | gRPC C++ | >= 4.00x | not measured |" in text
    assert "unary 11 B, C=1 " not in text


def test_summary_is_one_table() -> None:
    lines = report.summary(_results()).splitlines()
    assert lines[0] == "| peer | 64 in flight | CPU us per call, client / server |"
    assert lines[2] == "| grpc.aio | 100 | 1 / 2 |"
    assert lines[3] == "| protosocket | 6k 60x | 1 / 2 |"
    assert len(lines) == 5


def test_pictures_are_links() -> None:
    assert (
        report.pictures([Path("a/open_loop.png")], "../")
        == "\n![open loop](../a/open_loop.png)\n\n"
    )


def test_report_replaces_what_is_between_its_markers() -> None:
    document = "a\n<!-- benchmarks: begin; x -->\nold\n<!-- benchmarks: end -->\nb\n"
    new = report.replace_in(document, "new \\1\n")
    assert new == "a\n<!-- benchmarks: begin; x -->\nnew \\1\n<!-- benchmarks: end -->\nb\n"
    with pytest.raises(ValueError, match="benchmarks: begin"):
        report.replace_in("nothing", "new")


class _Reply:
    def __init__(self, number: int) -> None:
        self.number = number


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _Client:
    """Numbers as lines over a real connection; `error` is added to what comes back."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        error: int,
        idle: list[asyncio.StreamWriter],
    ) -> None:
        self._reader, self._writer, self._error, self._idle = reader, writer, error, idle
        self._waiting: dict[int, asyncio.Future[_Reply]] = {}
        self._streams = iter(range(1000))
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while line := await self._reader.readline():
            self._waiting.pop(int(line)).set_result(_Reply(int(line) + self._error))

    async def close(self) -> None:
        for writer in [self._writer, *self._idle]:
            writer.close()
        await self._task

    def unary(self, method: str, work: Work) -> Unary:
        return Unary(int, self._invoke)

    def _invoke(self, number: int) -> asyncio.Future[_Reply]:
        self._writer.write(b"%d\n" % number)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        return future

    async def server_stream(self, count: int, size: int) -> int:
        await asyncio.sleep(0)
        return count + self._error

    client_stream = bidi = server_stream

    async def ping_pong(self, size: int, lap: Any) -> None:
        number = next(self._streams)
        while lap():
            number += 1000
            await self._invoke(number)


def _measure(
    work: Work, error: int = 0, asked: list[int] | None = None, deaf: bool = False
) -> tuple[Result, list[str]]:
    """`asked` is for how many connections each client was to have; a `deaf` server says nothing."""
    events: list[str] = []

    async def main() -> Result:
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol if deaf else _Echo, "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]

        async def connect(connections: int = 1) -> _Client:
            if asked is not None:
                asked.append(connections)
            more = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
            return _Client(*more[0], error, [writer for _, writer in more[1:]])

        async with server:
            return await asyncio.wait_for(load.measure(work, connect, events.append), 5)

    return asyncio.run(main()), events


@pytest.mark.parametrize(
    ("kind", "concurrency", "connections"),
    [("unary", 1, 1), ("unary", 10, 3), ("server_stream", 2, 1), ("ping_pong", 2, 1)],
)
def test_closed_loop_counts_and_times_every_call(
    kind: str, concurrency: int, connections: int
) -> None:
    work = Work(kind, concurrency=concurrency, connections=connections, seconds=0.05, warmup=0.01)
    result, events = _measure(work)
    assert events == ["begin", "end"]
    assert result.calls >= concurrency
    assert result.seconds >= 0.05
    if kind != "server_stream":
        assert result.latency.total == result.calls


@pytest.mark.parametrize("kind", ["unary", "open", "bidi"])
def test_a_wrong_reply_fails_the_measurement(kind: str) -> None:
    with pytest.raises(WrongReplyError):
        _measure(Work(kind, seconds=0.05, warmup=0.0, rate=100.0), error=1)


def test_open_loop_makes_all_calls_and_reports_its_own_lateness() -> None:
    result, events = _measure(Work("open", seconds=0.1, warmup=0.0, rate=1000.0))
    assert events == ["begin", "end"]
    assert result.calls == result.lateness.total == result.latency.total == 100
    assert result.unanswered == 0
    assert result.seconds >= 0.099
    assert result.latency.percentile(50) >= result.lateness.percentile(50)


@pytest.mark.parametrize(("used", "shown"), [(0.0, None), (511.0, None), (2048.0, 2048.0)])
def test_less_than_a_transport_takes_is_no_figure(used: float, shown: float | None) -> None:
    measured = PeerResults(costs={"idle_server_bytes": used})
    assert measured.idle_bytes("server") == shown
    assert measured.idle_bytes("client") is None


def test_a_connection_of_many_is_what_an_idle_one_takes() -> None:
    measured = PeerResults(costs={"idle_client_bytes": 9000.0, "pool_client_bytes": 2048.0})
    assert measured.idle_bytes("client") == 2048


@pytest.mark.parametrize(("kind", "asked"), [("idle", [1] * 120), ("pool", [60, 60])])
def test_idle_opens_connections_between_the_events(kind: str, asked: list[int]) -> None:
    connections: list[int] = []
    result, events = _measure(Work(kind, connections=60), asked=connections)
    assert events == ["begin", "end"]
    assert result.calls == 60
    assert connections == asked


def test_memory_is_what_a_process_has_for_itself() -> None:
    script = "kept = b'1' * (50 << 20); print(1, flush=True); input()"
    driver = Driver([sys.executable, "-c", script], Endpoint("unused:0"), cores()[1], {})
    try:
        assert driver._answer(time.monotonic() + 30) == 1
        assert 50 << 20 <= driver.private_bytes() < 150 << 20
    finally:
        driver.stop()


def test_a_run_measures_real_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "WORKSPACE", tmp_path)
    names = [active_build(), BASELINE, FLOOR]
    workloads = [w for w in FULL if w.name in ("unary 11 B, C=16", "server stream 16 B, 1 at once")]
    plan = Plan(workloads, rounds=1, minutes=0.01, open_loop=False, costs=False, here=True)
    said: list[str] = []
    results = Runner(plan, [p for p in PEERS if p.name in names], said.append).run()
    assert [name for name, _ in results.measured()] == names, said
    assert results.peers[names[0]].versions["build"] == str(build_info())
    for name, measured in results.measured():
        streams = name != FLOOR
        assert list(measured.workloads) == [w.name for w in workloads[: 1 + streams]]
        for workload in measured.workloads.values():
            assert workload.errors == []
            assert len(workload.rounds) == 1
            assert workload.rounds[0].rate > 0
        latency = measured.workloads["unary 11 B, C=16"].latency
        assert 0 < latency.percentile(50) <= latency.percentile(99)


def test_a_mixed_peer_tells_the_versions_of_both_sides() -> None:
    rust = Ready([], [], versions={"protosocket-rpc": "2.0.3", "tokio": "1.0"})
    python = Ready([], [], versions={"protosocket-rpc": "0.1.0", "python": "3.12.1"})
    peer = next(peer for peer in PEERS if isinstance(peer, MixedPeer))
    assert peer.combine(rust, python).versions == {
        "protosocket-rpc": "2.0.3 (server), 0.1.0 (client)",
        "tokio": "1.0",
        "python": "3.12.1",
    }
    assert peer.combine(rust, rust).versions == rust.versions
