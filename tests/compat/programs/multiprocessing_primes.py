"""Several processes serve one port, and several processes call it."""

import asyncio
import contextlib
import math
import multiprocessing
import os
import signal
import socket
import sys

import grpc
import prime_pb2
import prime_pb2_grpc

PROCESSES = 3
CANDIDATES = range(2, 60)


class PrimeChecker(prime_pb2_grpc.PrimeCheckerServicer):
    async def Check(self, request, context):
        number = request.candidate
        prime = all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
        return prime_pb2.Primality(is_prime=prime, process=os.getpid())


async def serve(address, ready):
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    prime_pb2_grpc.add_PrimeCheckerServicer_to_server(PrimeChecker(), server)
    server.add_insecure_port(address)
    await server.start()
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    ready.release()
    await told_to_stop.wait()
    await server.stop(5)


def run_server(address, ready):
    asyncio.run(serve(address, ready))


@contextlib.contextmanager
def reserved_port():
    """A port for all processes to use."""
    with socket.socket(socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", int(sys.argv[2].rpartition(":")[2])))
        yield sock.getsockname()[1]


def server():
    context = multiprocessing.get_context("fork")
    with reserved_port() as port:
        ready = context.Semaphore(0)
        address = f"127.0.0.1:{port}"
        workers = [
            context.Process(target=run_server, args=(address, ready)) for _ in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for _ in workers:
            ready.acquire()
        signal.signal(signal.SIGTERM, lambda *_: [worker.terminate() for worker in workers])
        print(f"listening on {port}", flush=True)
        for worker in workers:
            worker.join()
        print("workers ended with", [worker.exitcode for worker in workers], flush=True)


async def check(target, numbers):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = prime_pb2_grpc.PrimeCheckerStub(channel)
        calls = [stub.Check(prime_pb2.PrimeCandidate(candidate=number)) for number in numbers]
        return dict(zip(numbers, [(await call).is_prime for call in calls], strict=True))


def run_check(numbers):
    return asyncio.run(check(sys.argv[2], numbers))


def client():
    shares = [CANDIDATES[start::PROCESSES] for start in range(PROCESSES)]
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        answers = {}
        for share in pool.map(run_check, shares):
            answers |= share
        pool.close()
        pool.join()
    print(*(number for number in CANDIDATES if answers[number]))


if __name__ == "__main__":
    {"server": server, "client": client}[sys.argv[1]]()
