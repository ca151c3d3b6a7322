"""Channels find, make and keep their connections."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from connectivity.peers import listening
from connectivity.service import Stub, serving
from service.pair import failure
from support import free_port, wait_until

import protosocket_rpc as ps
from protosocket_rpc.raw import parse_addresses
from protosocket_rpc.service import subchannel
from protosocket_rpc.testing import VirtualClock

State = ps.ChannelConnectivity
FAST = ps.ClientConnectivity(first_backoff=0.01, longest_backoff=0.05)


def whoami(name: bytes) -> Callable[..., Any]:
    async def handler(request: bytes, context: Any) -> bytes:
        return name

    return handler


def port_of(target: str) -> int:
    return int(target.rpartition(":")[2])


# -- one address -------------------------------------------------------------------------------


async def test_connects_when_the_first_call_is_made() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        await asyncio.sleep(0)
        assert channel.get_state() is State.IDLE
        assert peers.count == 0
        call = Stub(channel).unary(b"x")
        peer = await peers.accept()
        assert channel.get_state() in (State.CONNECTING, State.READY)
        peer.settings()
        peer.reply((await peer.next()).id, b"y")
        assert await call == b"y"
        assert channel.get_state() is State.READY


async def test_states_on_the_way() -> None:
    async with serving() as server:
        channel = ps.insecure_channel(server.target)
        seen = [channel.get_state(try_to_connect=True)]
        while seen[-1] is not State.READY:
            await channel.wait_for_state_change(seen[-1])
            seen.append(channel.get_state())
        assert seen == [State.IDLE, State.CONNECTING, State.READY]
        await channel.channel_ready()
        await channel.close()
        assert channel.get_state() is State.SHUTDOWN


async def test_channel_ready_waits_for_a_server_to_come() -> None:
    port = free_port()
    async with ps.insecure_channel(f"127.0.0.1:{port}", connectivity=FAST) as channel:
        ready = asyncio.ensure_future(channel.channel_ready())
        await channel.wait_for_state_change(State.IDLE)
        await channel.wait_for_state_change(State.CONNECTING)
        assert channel.get_state() is State.TRANSIENT_FAILURE
        async with serving(f"127.0.0.1:{port}"):
            await ready
            assert channel.get_state() is State.READY


async def test_a_watched_channel_recovers_by_itself() -> None:
    """As with gRPC, who waits for the state to change need not ask for a connection again."""
    port = free_port()
    async with ps.insecure_channel(f"127.0.0.1:{port}", connectivity=FAST) as channel:
        state = channel.get_state(try_to_connect=True)
        while state is not State.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        async with serving(f"127.0.0.1:{port}"):
            while state is not State.READY:
                await channel.wait_for_state_change(state)
                state = channel.get_state()


async def test_wait_for_ready_outlasts_failures() -> None:
    port = free_port()
    async with ps.insecure_channel(f"127.0.0.1:{port}", connectivity=FAST) as channel:
        stub = Stub(channel)
        patient = stub.unary(b"patient", wait_for_ready=True)
        assert (await failure(stub.unary(b""))).code() is ps.StatusCode.UNAVAILABLE
        assert not patient.done()
        async with serving(f"127.0.0.1:{port}"):
            assert await patient == b"patient"


async def test_wait_for_ready_ends_with_the_deadline() -> None:
    async with ps.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        error = await failure(Stub(channel).unary(b"", timeout=0.05, wait_for_ready=True))
        assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
        assert "there was no connection in all that time" in error.debug_error_string()


async def test_no_attempt_during_the_pause_after_a_failure() -> None:
    long = ps.ClientConnectivity(first_backoff=60.0, longest_backoff=60.0)
    port = free_port()
    async with ps.insecure_channel(f"127.0.0.1:{port}", connectivity=long) as channel:
        stub = Stub(channel)
        await failure(stub.unary(b""))
        async with listening(f"127.0.0.1:{port}") as peers:
            await failure(stub.unary(b""))  # at once, with the error of the attempt before
            assert peers.count == 0


async def test_an_attempt_to_connect_has_a_time_limit() -> None:
    with socket.socket() as deaf:  # a full queue: further attempts are not answered at all
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        brief = ps.ClientConnectivity(connect_timeout=0.1)
        target = f"127.0.0.1:{deaf.getsockname()[1]}"
        async with ps.insecure_channel(target, connectivity=brief) as channel:
            error = await failure(Stub(channel).unary(b""))
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert "no connection within 0.1 seconds" in str(error)
        for filler in fillers:
            filler.close()


async def test_reconnects_after_a_loss() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        stub = Stub(channel)
        for number in range(3):
            call = stub.unary(b"%d" % number)
            peer = await peers.accept()
            peer.settings()
            peer.reply((await peer.next()).id, b"%d" % number)
            assert await call == b"%d" % number
            lost = channel.wait_for_state_change(State.READY)
            peer.reset()
            await lost


async def test_a_connection_that_was_in_use_is_made_again_before_it_is_needed() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call = Stub(channel).unary(b"x")
        peer = await peers.accept()
        peer.settings()
        peer.reply((await peer.next()).id, b"x")
        await call
        peer.reset()
        await peers.accept()


async def test_a_unix_socket_that_is_not_there(socket_dir: Path) -> None:
    async with ps.insecure_channel(f"unix:{socket_dir / 'nobody'}") as channel:
        error = await failure(Stub(channel).unary(b""))
        assert isinstance(error.__cause__, FileNotFoundError)


# -- several addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ipv4:127.0.0.1:{},127.0.0.1:{}", "127.0.0.1:{}, 127.0.0.1:{}"])
async def test_calls_take_turns(form: str) -> None:
    async with (
        serving(Unary=whoami(b"a")) as a,
        serving(Unary=whoami(b"b")) as b,
        ps.insecure_channel(form.format(port_of(a.target), port_of(b.target))) as channel,
    ):
        stub = Stub(channel)
        names: Counter[bytes] = Counter()
        while len(names) < 2:  # until both are connected
            names[await stub.unary(b"")] += 1
        names = Counter([await stub.unary(b"") for _ in range(100)])
        assert names == {b"a": 50, b"b": 50}


async def test_an_address_that_fails_is_left_out_until_it_is_back() -> None:
    port = free_port()
    async with (
        serving(Unary=whoami(b"a")) as a,
        ps.insecure_channel(f"{a.target},127.0.0.1:{port}", connectivity=FAST) as channel,
    ):
        stub = Stub(channel)
        assert {await stub.unary(b"") for _ in range(20)} == {b"a"}
        async with serving(f"127.0.0.1:{port}", Unary=whoami(b"b")):
            await until(lambda: stub.unary(b""), b"b")
            assert Counter([await stub.unary(b"") for _ in range(20)]) == {b"a": 10, b"b": 10}
        assert {await stub.unary(b"") for _ in range(20)} == {b"a"}


async def test_fails_when_no_address_is_left() -> None:
    target = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    async with ps.insecure_channel(target) as channel:
        error = await failure(Stub(channel).unary(b""))
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_a_new_connection_gets_no_call_before_its_greeting_while_there_are_others() -> None:
    port = free_port()
    async with serving(Unary=whoami(b"old")) as server:
        target = f"{server.target},127.0.0.1:{port}"
        async with ps.insecure_channel(target, connectivity=FAST) as channel:
            stub = Stub(channel)
            assert await stub.unary(b"") == b"old"
            async with listening(f"127.0.0.1:{port}") as silent:
                peer = await silent.accept()
                for _ in range(10):
                    assert await stub.unary(b"") == b"old"
                peer.settings()
                echoes = asyncio.ensure_future(peer.echo())
                await wait_until(lambda: len(channel.connector().ready) == 2)
                assert Counter([await stub.unary(b"new") for _ in range(10)]) == {
                    b"old": 5,
                    b"new": 5,
                }
                await channel.close()
                await echoes


async def until(call: Callable[[], Any], expected: bytes) -> None:
    """Call until the reply is the expected one."""
    while await call() != expected:  # noqa: ASYNC110  # the loop turns in the call
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", [1, 4])
async def test_connections_per_address(number: int) -> None:
    async with listening() as peers:
        async with ps.insecure_channel(peers.target, connections=number) as channel:
            stub = Stub(channel)
            calls = [stub.unary(b"%d" % index) for index in range(8)]
            accepted = [await peers.accept() for _ in range(number)]
            for peer in accepted:
                peer.settings()
            echoes = [asyncio.ensure_future(peer.echo()) for peer in accepted]
            assert await asyncio.gather(*calls) == [b"%d" % index for index in range(8)]
            await wait_until(lambda: len(channel.connector().ready) == number)
            for _ in range(8):
                await stub.unary(b"")
            used = [session._last_id for session in channel.connector().ready]
            assert all(used)
            assert peers.count == number
        await asyncio.gather(*echoes)


def test_a_channel_has_a_connection() -> None:
    with pytest.raises(ValueError, match="at least 1 connection, not 0"):
        ps.insecure_channel("localhost:1", connections=0)


async def test_pick_first() -> None:
    async with (
        serving(Unary=whoami(b"a")) as a,
        serving(Unary=whoami(b"b")) as b,
        ps.insecure_channel(
            f"{a.target},{b.target}", [("grpc.lb_policy_name", "pick_first")]
        ) as channel,
    ):
        stub = Stub(channel)
        assert {await stub.unary(b"") for _ in range(10)} == {b"a"}


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("a:1", ["a:1"]),
        ("a:1,b:2", ["a:1", "b:2"]),
        ("ipv4:1.2.3.4:1,5.6.7.8:2", ["1.2.3.4:1", "5.6.7.8:2"]),
        ("ipv6:[::1]:1,[::2]:2", ["[::1]:1", "[::2]:2"]),
        ("dns:///a:1,b:2", ["a:1", "b:2"]),
        ("unix:/a,b", ["unix:/a,b"]),
    ],
)
def test_lists_of_addresses(target: str, addresses: list[str]) -> None:
    assert [str(address) for address in parse_addresses(target)] == addresses


class Attempts:
    """Attempts to connect, which end when a test says so, and fail but for those to some ports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ports: set[int]) -> None:
        self.begun = 0
        self.connected: list[Any] = []
        self.succeed = asyncio.Event()
        self.fail = asyncio.Event()
        # Those that are given up end only then.
        self.given_up = asyncio.Event()
        self._ports = ports
        self._open = subchannel.open_transport
        monkeypatch.setattr(subchannel, "_HEAD_START", 0)
        monkeypatch.setattr(subchannel, "open_transport", self._attempt)

    async def _attempt(
        self, loop: Any, protocol: Callable[[], Any], target: str, *options: Any
    ) -> None:
        self.begun += 1
        if port_of(target) in self._ports:
            await self._open(loop, protocol, target, *options)
            self.connected.append(protocol())
            await self.succeed.wait()
            return
        try:
            await self.fail.wait()
        finally:
            if not self.fail.is_set():
                await self.given_up.wait()
        raise ConnectionRefusedError(target)


PICK_FIRST = [("grpc.lb_policy_name", "pick_first")]


async def test_of_addresses_that_end_in_one_turn_one_that_connects_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening() as one, listening() as two:
        attempts = Attempts(monkeypatch, {port_of(one.target), port_of(two.target)})
        dead = [f"127.0.0.1:{free_port()}" for _ in range(8)]
        target = ",".join([*dead[:4], one.target, two.target, *dead[4:]])
        async with ps.insecure_channel(target, PICK_FIRST) as channel:
            ready = asyncio.ensure_future(channel.channel_ready())
            await wait_until(lambda: attempts.begun == 10 and len(attempts.connected) == 2)
            attempts.succeed.set()
            attempts.fail.set()
            await ready
            await wait_until(lambda: sum(each.closing for each in attempts.connected) == 1)


async def test_the_address_that_connects_does_not_wait_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening() as peers:
        attempts = Attempts(monkeypatch, {port_of(peers.target)})
        target = f"127.0.0.1:{free_port()},{peers.target}"
        async with ps.insecure_channel(target, PICK_FIRST) as channel:
            ready = asyncio.ensure_future(channel.channel_ready())
            await wait_until(lambda: attempts.begun == 2 and attempts.connected)
            attempts.succeed.set()
            await ready
            assert channel.get_state() is ps.ChannelConnectivity.READY
            attempts.given_up.set()


@pytest.mark.parametrize("connects", [False, True])
async def test_a_channel_that_is_closed_leaves_no_attempt_and_no_connection(
    monkeypatch: pytest.MonkeyPatch, connects: bool
) -> None:
    async with listening() as peers:
        attempts = Attempts(monkeypatch, {port_of(peers.target)})
        before = asyncio.all_tasks()
        channel = ps.insecure_channel(f"127.0.0.1:{free_port()},{peers.target}", PICK_FIRST)
        channel.get_state(try_to_connect=True)
        await wait_until(lambda: attempts.begun == 2 and attempts.connected)
        if connects:  # in the turn in which the channel is closed
            attempts.succeed.set()
            attempts.given_up.set()
        closing = asyncio.ensure_future(channel.close())
        for _ in range(20):
            await asyncio.sleep(0)
        assert connects or not closing.done()
        attempts.given_up.set()
        await closing
        assert asyncio.all_tasks() == before
        await wait_until(lambda: attempts.connected[0].closing)


# -- names ---------------------------------------------------------------------------------------


class Names:
    """What the names of a test stand for, in place of a DNS server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hosts: list[str] = []
        self.lookups = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._getaddrinfo)
        self._real = asyncio.get_running_loop().getaddrinfo

    async def _getaddrinfo(self, host: Any, port: int, **hints: Any) -> list[Any]:
        if host == "service.test":
            self.lookups += 1
            hosts = self.hosts
        else:
            hosts = [host]
        if not hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


async def serve_on(stack: AsyncExitStack, hosts: list[str]) -> int:
    """A server on each of these addresses, all with one port, each answering with its own."""
    port = free_port()
    for host in hosts:
        bracketed = f"[{host}]" if ":" in host else host
        await stack.enter_async_context(serving(f"{bracketed}:{port}", Unary=whoami(host.encode())))
    return port


async def test_a_name_with_several_addresses_is_balanced(names: Names) -> None:
    hosts = names.hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    async with AsyncExitStack() as stack:
        port = await serve_on(stack, hosts)
        async with ps.insecure_channel(f"service.test:{port}") as channel:
            stub = Stub(channel)
            await stub.unary(b"")
            await wait_until(lambda: len(channel.connector().ready) == 3)
            seen = Counter([await stub.unary(b"") for _ in range(30)])
            assert seen == {host.encode(): 10 for host in hosts}


async def test_a_name_is_looked_up_again(names: Names) -> None:
    names.hosts = ["127.0.0.1"]
    often = ps.ClientConnectivity(resolve_interval=0.02)
    async with AsyncExitStack() as stack:
        port = await serve_on(stack, ["127.0.0.1", "127.0.0.2"])
        async with ps.insecure_channel(f"service.test:{port}", connectivity=often) as channel:
            stub = Stub(channel)
            assert await stub.unary(b"") == b"127.0.0.1"
            names.hosts = ["127.0.0.1", "127.0.0.2"]  # one more
            await until(lambda: stub.unary(b""), b"127.0.0.2")
            names.hosts = ["127.0.0.2"]  # one less: its connection goes, its calls do not
            await wait_until(lambda: len(channel.connector().sessions) == 1)
            assert {await stub.unary(b"") for _ in range(10)} == {b"127.0.0.2"}


async def test_a_name_is_looked_up_again_however_long_it_takes_to_connect(
    names: Names, virtual_clock: VirtualClock
) -> None:
    names.hosts = ["127.0.0.1"]
    interval = ps.ClientConnectivity(resolve_interval=10)
    port = free_port()
    async with ps.insecure_channel(f"service.test:{port}", connectivity=interval) as channel:
        stub = Stub(channel)
        await failure(stub.unary(b""))
        await virtual_clock.advance(60)
        async with (
            serving(f"127.0.0.1:{port}", Unary=whoami(b"old")),
            serving(f"127.0.0.2:{port}", Unary=whoami(b"new")),
        ):
            assert await stub.unary(b"") == b"old"
            names.hosts = ["127.0.0.2"]
            await virtual_clock.advance(60)
            assert await stub.unary(b"") == b"new"


async def test_calls_in_flight_outlive_their_address(names: Names) -> None:
    names.hosts = ["127.0.0.1"]
    release = asyncio.Event()

    async def slow(request: bytes, context: Any) -> bytes:
        await release.wait()
        return b"slow"

    often = ps.ClientConnectivity(resolve_interval=0.02)
    port = free_port()
    async with (
        serving(f"127.0.0.1:{port}", Unary=slow),
        serving(f"127.0.0.2:{port}", Unary=whoami(b"new")),
        ps.insecure_channel(f"service.test:{port}", connectivity=often) as channel,
    ):
        stub = Stub(channel)
        call = stub.unary(b"")
        await call.wait_for_connection()
        names.hosts = ["127.0.0.2"]
        await wait_until(lambda: len(channel.connector().sessions) == 2)
        assert await stub.unary(b"") == b"new"
        release.set()
        assert await call == b"slow"
        await wait_until(lambda: len(channel.connector().sessions) == 1)


async def test_a_lost_server_is_looked_up_at_once(names: Names) -> None:
    names.hosts = ["127.0.0.1"]
    never = ps.ClientConnectivity(resolve_interval=None)
    port = free_port()
    async with ps.insecure_channel(f"service.test:{port}", connectivity=never) as channel:
        stub = Stub(channel)
        async with serving(f"127.0.0.1:{port}", Unary=whoami(b"old")):
            assert await stub.unary(b"") == b"old"
            names.hosts = ["127.0.0.2"]
        async with serving(f"127.0.0.2:{port}", Unary=whoami(b"new")):
            assert await stub.unary(b"", wait_for_ready=True) == b"new"


@pytest.mark.parametrize("hosts", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
@pytest.mark.parametrize("listens", ["::1", "127.0.0.1"])
async def test_one_family_of_ip_is_enough(names: Names, hosts: list[str], listens: str) -> None:
    names.hosts = hosts
    async with AsyncExitStack() as stack:
        port = await serve_on(stack, [listens])
        async with ps.insecure_channel(f"service.test:{port}") as channel:
            assert await Stub(channel).unary(b"") == listens.encode()
            assert len(channel.connector().sessions) == 1


async def test_a_host_with_both_families_has_one_connection(names: Names) -> None:
    names.hosts = ["127.0.0.1", "::1"]
    async with AsyncExitStack() as stack:
        port = await serve_on(stack, ["::1", "127.0.0.1"])
        async with ps.insecure_channel(f"service.test:{port}") as channel:
            assert {await Stub(channel).unary(b"") for _ in range(10)} == {b"127.0.0.1"}


async def test_an_address_that_does_not_answer_is_overtaken(names: Names) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.2", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        port = deaf.getsockname()[1]
        async with serving(f"127.0.0.1:{port}"):
            first = ps.ClientConnectivity(balance=False)
            target = f"127.0.0.2:{port},127.0.0.1:{port}"
            async with ps.insecure_channel(target, connectivity=first) as channel:
                assert await Stub(channel).unary(b"x", timeout=10) == b"x"
        for filler in fillers:
            filler.close()


async def test_a_name_that_does_not_resolve(names: Names) -> None:
    async with ps.insecure_channel("service.test:1") as channel:
        error = await failure(Stub(channel).unary(b""))
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert isinstance(error.__cause__, socket.gaierror)
        assert "does not resolve" in error.debug_error_string()
        assert channel.get_state() is State.TRANSIENT_FAILURE


async def test_a_name_that_resolves_later(names: Names) -> None:
    async with AsyncExitStack() as stack:
        port = await serve_on(stack, ["127.0.0.1"])
        async with ps.insecure_channel(f"service.test:{port}", connectivity=FAST) as channel:
            call = Stub(channel).unary(b"", wait_for_ready=True)
            await wait_until(lambda: names.lookups > 1)
            names.hosts = ["127.0.0.1"]
            assert await call == b"127.0.0.1"
