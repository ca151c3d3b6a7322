"""What can be served, and what is said of what cannot."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving.command import PROGRAMS, calling, command
from support import ROOT, complaints

import protosocket_rpc as ps
from protosocket_rpc.workers import WorkerSettings

pytestmark = pytest.mark.timeout(120)
# The callers' loop does not matter here.
one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])

ANY = ("--host", "127.0.0.1", "--port", "0")


@one_loop
@pytest.mark.parametrize(
    "app",
    [
        "app:server",
        "app:Nested.server",
        "app:make_server",
        "app:make_later",
        "app:servicer",
        "app:Servicer",
        "app:servicers",
        "app:cleans_up",
    ],
)
async def test_apps_of_every_form(app: str) -> None:
    async with command(app, *ANY) as server, calling(await server.serves()) as stub:
        assert await stub.pid() not in (os.getpid(), server.process.pid)


@one_loop
async def test_an_object_that_is_to_be_called() -> None:
    async with (
        command("app:callable_object", "--factory", *ANY) as server,
        calling(await server.serves()) as stub,
    ):
        assert await stub.pid()


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nowhere:server", "there is no module 'nowhere'"),
        ("app.inner:server", "there is no module 'app.inner'"),
        ("app:nothing", "there is no 'nothing' in 'app'"),
        ("app:number", "the app is no server, and no servicer either"),
        ("app:callable_object", "the app is no server, and no servicer either"),
        ("app:with_port", "has ports of its own: leave them to --bind"),
        ("app:fails", "ZeroDivisionError: the factory's own"),
        ("broken:server", "SyntaxError"),
        ("app:dies_unless_there", "it ended (exit code 9) before it was ready"),
    ],
)
def test_apps_that_cannot_be_served(app: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("server = (\n")
    done = run(app, "--app-dir", tmp_path, PYTHONPATH=f"{ROOT}:{PROGRAMS}", ALIVE="/nonexistent")
    assert says in done.stderr
    assert done.returncode == 3


def test_an_app_that_hangs(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    hangs = ("app:hangs_unless_there", "--app-dir", PROGRAMS)
    done = run(*hangs, "--start-timeout", "0.5", ALIVE=missing)
    says = "it was not ready within 0.5 seconds"
    assert re.search(rf"killing worker 0, pid \d+: {says}", done.stderr)
    assert done.stderr.endswith(f"protosocket serve: {says}\n")
    assert done.returncode == 3


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "protoc_plugin.cli", "serve", *ANY, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_address_that_is_taken() -> None:
    """Though it is shared, by somebody else: it would take part of the calls."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("app:server", "--app-dir", PROGRAMS, "--port", str(port))
        assert done.returncode == 1
        assert "Address already in use" in done.stderr
        done = run("app:server", "--app-dir", PROGRAMS, "--metrics-bind", f"127.0.0.1:{port}")
        assert done.returncode == 1
        assert "Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["app"], "'package.module:name'"),
        (["app:server", "--workers", "0"], "at least 1 worker"),
        (["app:server", "--grace", "-1"], "grace"),
        (["app:server", "--start-timeout", "0"], "start_timeout must be above 0"),
        (["app:server", "--busy-poll", "0"], "busy_poll must be above 0"),
        (["app:server", "--tls-cert", "x"], "both a certificate and its key"),
        (["app:server", "--client-ca", "x"], "need TLS"),
        (["app:server", "--bind", "localhost:1"], "instead of --bind"),
        (["app:server", "--log-level", "loud"], "invalid choice"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("bind", ["nowhere", "memory:x", "fd:x", "unix:"])
def test_addresses_that_make_no_sense(bind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "protoc_plugin.cli", "serve", "app:server", "--bind", bind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "protosocket serve: " in done.stderr


def test_tls_files_that_are_none() -> None:
    done = run("app:server", "--app-dir", PROGRAMS, "--tls-cert", "no", "--tls-key", "no")
    assert done.returncode == 3
    assert "the TLS files cannot be used" in done.stderr


@one_loop
async def test_a_socket_from_who_has_started_it() -> None:
    """As systemd does: bound and listening before there is anybody to serve."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        program = (
            "import os, sys; fd = int(sys.argv.pop(1)); os.set_inheritable(fd, True); "
            "os.execv(sys.executable, [sys.executable, '-m', 'protoc_plugin.cli', 'serve', "
            "f'--bind=fd:{fd}', *sys.argv[1:]])"
        )
        async with calling(f"127.0.0.1:{port}") as stub:
            process = subprocess.Popen(  # noqa: ASYNC220  # not for long
                [sys.executable, "-c", program, str(sock.fileno()), "app:server", "--workers=2"],
                cwd=PROGRAMS,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=[sock.fileno()],
                stderr=subprocess.DEVNULL,
            )
            try:
                assert await stub.pid() != process.pid
            finally:
                process.terminate()
                assert process.wait(60) == 0


@one_loop
async def test_the_same_as_a_function() -> None:
    program = (
        "import protosocket_rpc as ps\n"
        "ps.run_workers(ps.WorkerSettings('app:server', bind=('127.0.0.1:0',), workers=2, "
        f"log_level='info', app_dir={str(PROGRAMS)!r}))\n"
        "print('returned', flush=True)"
    )
    async with (
        command(program=("-c", program)) as server,
        calling(await server.serves()) as stub,
    ):
        assert await stub.pid()
    assert "returned" in server.output


@one_loop
async def test_it_says_nothing_if_not_asked_to(socket_dir: Path) -> None:
    path = socket_dir / "socket"
    async with (
        command("app:server", "--uds", path, "--log-level", "error") as server,
        calling(f"unix:{path}") as stub,
    ):
        await stub.unary(b"", timeout=60, wait_for_ready=True)
    assert complaints("\n".join(server.log)) == "(the end)"


def test_the_search_path_is_that_of_the_app_dir(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemError('it is mine')")
    done = run("mine:server", "--app-dir", tmp_path)
    assert "SystemError: it is mine" in done.stderr
    assert done.returncode == 3


def test_settings_survive_their_way_to_a_worker() -> None:
    settings = WorkerSettings("a:b", bind=("x:1", "unix:y"), grace=None, tls_cert="c", tls_key="k")
    assert WorkerSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_names_that_are_public() -> None:
    assert ps.WorkerSettings is WorkerSettings
    assert callable(ps.run_workers)


def test_what_workers_take_is_not_imported_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import protosocket_rpc, sys; print('http.server' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_serving_does_not_need_what_generating_does() -> None:
    program = (
        "import sys\n"
        "for name in ('jinja2', 'grpc_tools', 'grpc'): sys.modules[name] = None\n"
        "sys.argv = ['protosocket', 'serve', '--help']\n"
        "from protoc_plugin.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--workers" in done.stdout
