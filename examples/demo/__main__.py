"""The demo: from a .proto file to two processes that talk to each other.

python -m examples.demo
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
CLIENT_SECONDS = 60
STOP_SECONDS = 30


def generate() -> None:
    """Run protoc, the one in grpcio-tools, with its own Python output and with our plugin."""
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "__init__.py").touch()
    plugin = Path(sysconfig.get_path("scripts")) / "protoc-gen-protosocket"
    arguments = [
        f"--proto_path={HERE}",
        f"--plugin={plugin}",
        f"--python_out={GENERATED}",
        f"--pyi_out={GENERATED}",
        f"--protosocket_out={GENERATED}",
        "observatory.proto",
    ]
    print("protoc --python_out --pyi_out --protosocket_out observatory.proto")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
    print("  wrote " + ", ".join(sorted(path.name for path in GENERATED.glob("observatory*"))))


def serve_and_call() -> int:
    """Start the server as a process, then the client as another; the exit code of both."""
    server = subprocess.Popen(
        [sys.executable, "-m", "examples.demo.server"], stdout=subprocess.PIPE, text=True
    )
    with server:
        try:
            assert server.stdout is not None
            ready = server.stdout.readline()  # empty if the server ended instead
            print(f"server, process {server.pid}: {ready.strip() or 'did not start'}", flush=True)
            if not ready:
                return 1
            port = ready.split()[3]
            client = [sys.executable, "-m", "examples.demo.client", f"127.0.0.1:{port}"]
            code = subprocess.run(client, timeout=CLIENT_SECONDS).returncode
            server.terminate()
            if server.wait(STOP_SECONDS):
                print(f"the server stopped with exit code {server.returncode}")
                return 1
        finally:
            server.kill()
    if code == 0:
        print("The server was told to stop, and did. Everything was as it should be.")
    return code


if __name__ == "__main__":
    try:
        generate()
        sys.exit(serve_and_call())
    except subprocess.CalledProcessError as error:
        sys.exit(f"protoc failed with exit code {error.returncode}")
    except subprocess.TimeoutExpired as error:
        sys.exit(f"{error.cmd[2]} did not end within {error.timeout:g} seconds")
