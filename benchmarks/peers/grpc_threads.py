"""grpcio's synchronous API: a thread for each call or stream in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from functools import partial
from typing import Any

import echo_pb2
import echo_pb2_grpc
import grpc
from grpc.experimental import ChannelOptions

from benchmarks.client import answer, event
from benchmarks.histogram import Histogram
from benchmarks.load import (
    DRAIN_SECONDS,
    HOLD_MILLISECONDS,
    LOST_SECONDS,
    SETTLE_SECONDS,
    TICK_SECONDS,
    Result,
    Unary,
    WrongReplyError,
    clock,
    due_calls,
    least_messages,
    next_tick,
)
from benchmarks.memory import trim
from benchmarks.peers.grpc_common import OPTIONS, channel_credentials, server_credentials
from benchmarks.peers.messages import burn, echo_request, payload
from benchmarks.wide import SERVICES, generated, last_stub
from benchmarks.work import (
    BURN_MICROSECONDS,
    DEADLINE_SECONDS,
    LARGE_BYTES,
    METADATA,
    Endpoint,
    Work,
)

_SERVER_THREADS = 10
_CLIENT_OPTIONS = (*OPTIONS, (ChannelOptions.SingleThreadedUnaryStream, 1))


class Servicer(echo_pb2_grpc.BenchServicer):
    def Unary(self, request: Any, context: Any) -> Any:
        return request

    def Hold(self, request: Any, context: Any) -> Any:
        time.sleep(request.number / 1000)
        return request

    def Burn(self, request: Any, context: Any) -> Any:
        burn(request.number)
        return request

    def ServerStream(self, request: Any, context: Any) -> Iterator[Any]:
        return _messages(request.count, request.size)

    def ClientStream(self, request_iterator: Iterator[Any], context: Any) -> Any:
        return echo_pb2.Echo(number=sum(1 for _ in request_iterator))

    def BidiStream(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        yield from request_iterator


class WideServicer:
    def __getattr__(self, method: str) -> Callable[[Any, Any], Any]:
        return Servicer().Unary


class ClientInterceptor(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(client_call_details, request)


class ServerInterceptor(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


def serve(endpoint: Endpoint) -> None:
    interceptors = [ServerInterceptor()] if endpoint.interceptor == "server" else None
    pool = futures.ThreadPoolExecutor(_SERVER_THREADS)
    server = grpc.server(pool, interceptors=interceptors, options=OPTIONS)
    echo_pb2_grpc.add_BenchServicer_to_server(Servicer(), server)
    for service in SERVICES if endpoint.wide else ():
        getattr(generated("wide_pb2_grpc"), f"add_{service}Servicer_to_server")(
            WideServicer(), server
        )
    if endpoint.tls:
        server.add_secure_port(endpoint.address, server_credentials(endpoint.tls))
    else:
        server.add_insecure_port(endpoint.address)
    server.start()
    server.wait_for_termination()


class Client:
    def __init__(self, endpoint: Endpoint) -> None:
        if endpoint.tls:
            credentials = channel_credentials(endpoint.tls)
            channel = grpc.secure_channel(endpoint.address, credentials, _CLIENT_OPTIONS)
        else:
            channel = grpc.insecure_channel(endpoint.address, _CLIENT_OPTIONS)
        grpc.channel_ready_future(channel).result(timeout=10)
        self.close = channel.close
        if endpoint.interceptor == "client":
            channel = grpc.intercept_channel(channel, ClientInterceptor())
        self.stub = echo_pb2_grpc.BenchStub(channel)
        wide = last_stub("wide_pb2_grpc")(channel) if endpoint.wide else None
        self._unary = wide.M9 if wide else self.stub.Unary

    def unary(self, method: str, work: Work, future: bool = False) -> Unary:
        """With `future` the call does not wait: it returns a grpc.Future."""
        invoke = self._unary if method == "Unary" else getattr(self.stub, method)
        if future:
            invoke = invoke.future
        options: dict[str, Any] = {}
        if work.metadata:
            options["metadata"] = METADATA
        if work.deadline:
            options["timeout"] = DEADLINE_SECONDS
        return Unary(
            echo_request(echo_pb2.Echo, work), partial(invoke, **options) if options else invoke
        )


def drive(endpoint: Endpoint) -> None:
    answer(partial(_measure, endpoint))


def _measure(endpoint: Endpoint, work: Work) -> Result:
    if work.kind in ("idle", "held"):
        return _idle(endpoint, work) if work.kind == "idle" else _held(endpoint, work)
    clients = [Client(endpoint) for _ in range(work.connections)]
    perform = _KINDS[work.kind]
    background = _Background(work.background, clients[0])
    try:
        if work.warmup:
            (_closed_loop if perform is _open_loop else perform)(work, clients, work.warmup)
        before = background.count
        event("begin")
        result = perform(work, clients, work.seconds)
        event("end")
        result.background = background.count - before
    finally:
        background.stop()
        for client in clients:
            client.close()
    return result


class _Background:
    """One call after the other on the side, until it is stopped."""

    def __init__(self, kind: str, client: Client) -> None:
        self.count = 0
        self._stopped = False
        if kind == "burn":
            call, number = client.unary("Burn", Work()), BURN_MICROSECONDS
        else:
            call, number = client.unary("Unary", Work(size=LARGE_BYTES)), 1
        self._thread = threading.Thread(target=self._repeat, args=(call, number))
        if kind:
            self._thread.start()

    def _repeat(self, call: Unary, number: int) -> None:
        while not self._stopped:
            call.invoke(call.request(number))
            self.count += 1

    def stop(self) -> None:
        self._stopped = True
        if self._thread.ident is not None:
            self._thread.join()


def _in_threads(work: Callable[[int], None], count: int) -> None:
    with futures.ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result()


def _closed_loop(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    latencies: list[int] = []
    begin = clock()
    end = begin + int(seconds * 1e9)

    def worker(number: int) -> None:
        request, invoke = clients[number % len(clients)].unary("Unary", work)
        started = clock()
        while True:
            reply: Any = invoke(request(number))
            now = clock()
            latencies.append(now - started)
            if reply.number != number:
                raise WrongReplyError(f"asked with {number}, answered with {reply.number}")
            if now >= end:
                return
            number += work.concurrency
            started = now

    _in_threads(worker, work.concurrency)
    elapsed = clock() - begin
    return Result(len(latencies), elapsed / 1e9, Histogram(latencies))


def _open_loop(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    """Makes the calls that are due whenever it wakes, as futures."""
    latencies: list[int] = []
    lateness: list[int] = []
    failed: list[Any] = []
    request, invoke = clients[0].unary("Unary", work, future=True)
    total = int(work.rate * seconds)
    interval = 1e9 / work.rate
    begin = clock()

    def ended(number: int, due: int, call: Any) -> None:
        latencies.append(clock() - due)
        if call.exception() is not None:
            failed.append(call.exception())
        elif call.result().number != number:
            wrong = f"asked with {number}, answered with {call.result().number}"
            failed.append(WrongReplyError(wrong))

    sent = 0
    while sent < total and sent - len(latencies) < work.rate * LOST_SECONDS:
        now_due = min(total, due_calls(clock() - begin, interval))
        while sent < now_due:
            due = begin + int(sent * interval)
            lateness.append(clock() - due)
            call: Any = invoke(request(sent))
            call.add_done_callback(partial(ended, sent, due))
            sent += 1
        wake = next_tick(clock(), begin + int(sent * interval))
        time.sleep(max(0, wake - clock()) / 1e9)
    elapsed = clock() - begin
    patience = clock() + int(DRAIN_SECONDS * 1e9)
    while len(latencies) < sent and clock() < patience:
        time.sleep(TICK_SECONDS)
    answered = len(latencies)
    if failed:
        raise failed[0]
    return Result(
        answered,
        elapsed / 1e9,
        Histogram(latencies[:answered]),
        Histogram(lateness),
        unanswered=total - answered,
    )


def _streams(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    stream = {"server_stream": _server_stream, "client_stream": _client_stream, "bidi": _bidi}
    messages: list[int] = []

    def run(number: int, count: int) -> None:
        got = stream[work.kind](clients[number % len(clients)], count, work.size)
        if got != count:
            raise WrongReplyError(f"{got} messages instead of {count}")

    least = least_messages(work)
    begin = clock()
    _in_threads(lambda number: run(number, least), work.concurrency)
    now = clock()
    count = max(least, int(seconds * 1e9 / 3 / (now - begin) * least))
    messages.append(least * work.concurrency)  # see load.py
    end = now + int(seconds * 1e9)

    def worker(number: int) -> None:
        while clock() < end:
            run(number, count)
            messages.append(count)

    _in_threads(worker, work.concurrency)
    return Result(sum(messages), (clock() - begin) / 1e9)


def _messages(count: int, size: int) -> Iterator[Any]:
    message = echo_pb2.Echo(payload=payload(size))
    for _ in range(count):
        yield message


def _server_stream(client: Client, count: int, size: int) -> int:
    return sum(1 for _ in client.stub.ServerStream(echo_pb2.Flow(count=count, size=size)))


def _client_stream(client: Client, count: int, size: int) -> int:
    number: int = client.stub.ClientStream(_messages(count, size)).number
    return number


def _bidi(client: Client, count: int, size: int) -> int:
    return sum(1 for _ in client.stub.BidiStream(_messages(count, size)))


def _ping_pong(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    latencies: list[int] = []
    begin = clock()
    end = begin + int(seconds * 1e9)

    def worker(number: int) -> None:
        message = echo_pb2.Echo(payload=payload(work.size))
        echoed = threading.Semaphore()

        def requests() -> Iterator[Any]:
            while clock() < end:
                echoed.acquire()
                yield message

        started = clock()
        for _ in clients[number % len(clients)].stub.BidiStream(requests()):
            now = clock()
            latencies.append(now - started)
            started = now
            echoed.release()

    _in_threads(worker, work.concurrency)
    return Result(len(latencies), (clock() - begin) / 1e9, Histogram(latencies))


def _idle(endpoint: Endpoint, work: Work) -> Result:
    clients: list[Client] = []

    def add() -> None:
        clients.append(Client(endpoint))
        request, invoke = clients[-1].unary("Unary", work)
        invoke(request(1))

    for _ in range(work.connections):
        add()
    trim()
    event("begin")
    for _ in range(work.connections):
        add()
    trim()
    event("end")
    for client in clients:
        client.close()
    return Result(work.connections, SETTLE_SECONDS)


def _held(endpoint: Endpoint, work: Work) -> Result:
    client = Client(endpoint)
    request, invoke = client.unary("Hold", work, future=True)
    calls: list[Any] = []

    def hold() -> None:
        calls.extend(invoke(request(HOLD_MILLISECONDS)) for _ in range(work.concurrency))
        time.sleep(SETTLE_SECONDS)

    hold()
    trim()
    event("begin")
    hold()
    trim()
    event("end")
    early = sum(call.done() for call in calls)
    for call in calls:
        call.cancel()
    client.close()
    return Result(work.concurrency, SETTLE_SECONDS, unanswered=early)


_KINDS: dict[str, Callable[[Work, Sequence[Client], float], Result]] = {
    "unary": _closed_loop,
    "open": _open_loop,
    "server_stream": _streams,
    "client_stream": _streams,
    "bidi": _streams,
    "ping_pong": _ping_pong,
}
