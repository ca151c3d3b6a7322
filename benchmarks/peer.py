"""What a peer is: how it is installed or built, how it is started, and what it can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wide
from benchmarks.processes import ROOT

WORKSPACE = Path(__file__).parent / ".peers"
"""Virtual environments, generated code and binaries; ignored by git, safe to delete."""
PROTO = Path(__file__).parent / "proto"
_INSTALL_SECONDS = 900


class UnavailableError(Exception):
    """A peer cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Ready:
    """An installed peer. Both commands get the arguments of an Endpoint."""

    server: list[str]
    client: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    installed_bytes: int = 0
    """What the runtime needs on disk: its packages, or its two binaries; 0 where unknown."""
    imports: list[str] = field(default_factory=list)
    """A command that only imports it."""


@dataclass(frozen=True)
class Peer:
    name: str
    supports: frozenset[str]
    """Which works and setups it can do; see workloads.py."""

    def prepare(self, here: bool) -> Ready:
        """Installs or builds what is missing. Raises UnavailableError."""
        raise NotImplementedError


@dataclass(frozen=True)
class PythonPeer(Peer):
    """Run by `benchmarks/peers/MODULE.py`, which has `serve(endpoint)` and `drive(endpoint)`."""

    module: str
    requirements: tuple[str, ...]
    """Of the runtime; `.` is this project, installed anew for every run."""
    imports: str
    tools: tuple[str, ...] = ()
    """Requirements that only generate code."""
    protoc: tuple[str, ...] = ()
    """Arguments; `{out}` is the directory of the stubs, `{bin}` that of the commands of the
    peer's interpreter, `{here}` that of the running one."""
    settings: tuple[tuple[str, str], ...] = ()
    """Environment variables of its installation and its processes."""
    condition: str = "True"
    """What must hold once it is imported, as an expression..."""
    otherwise: str = ""
    """... and what to say if it does not."""
    build: str = ""
    """What tells how it was built, as an expression."""

    def prepare(self, here: bool) -> Ready:
        """With `here` the running interpreter is used, which must have the requirements."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if here:
            python = Path(sys.executable)
            size = 0
        else:
            python = self._directory / "venv" / "bin" / "python"
            size = self._install(python)
        stubs = None
        if self.protoc:
            stubs = self._directory / "stubs"
            generate(stubs, self.protoc, python.parent)
        path = [str(_only_benchmarks()), *([str(stubs)] if stubs else [])]
        environment = {**dict(self.settings), "PYTHONPATH": os.pathsep.join(path)}
        imports = [str(python), "-c", f"import {self.imports}"]
        script = f"{imports[-1]}\nprint({self.condition})\nprint({self.build})"
        holds, build = run([*imports[:-1], script], environment).splitlines()
        if holds != "True":
            raise UnavailableError(self.otherwise)
        versions = self._versions(python)
        if build:
            versions["build"] = build
        command = [str(python), "-m"]
        return Ready(
            server=[*command, "benchmarks.server", self.module],
            client=[*command, "benchmarks.client", self.module],
            environment=environment,
            versions=versions,
            installed_bytes=size,
            imports=imports,
        )

    @property
    def _directory(self) -> Path:
        return WORKSPACE / re.sub(r"\W+", "-", self.name)

    def _install(self, python: Path) -> int:
        directory = python.parent.parent
        stamp = directory / "installed"
        text = "\n".join([sys.version, *self.requirements, *self.tools, *map(str, self.settings)])
        if "." not in self.requirements and stamp.exists() and stamp.read_text().startswith(text):
            return int(stamp.read_text().rpartition("\n")[2])
        shutil.rmtree(directory, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(directory)])
        site = next((directory / "lib").glob("python*/site-packages"))
        empty = size_of(site)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        run([*pip, *self.requirements], dict(self.settings), ROOT)
        size = size_of(site) - empty
        if self.tools:
            run([*pip, *self.tools])
        stamp.write_text(f"{text}\n{size}")
        return size

    def _versions(self, python: Path) -> dict[str, str]:
        """Of the first requirement and the libraries that matter, as installed."""
        names = [name.partition("[")[0] for name in self.requirements]
        script = (
            "import importlib.metadata as m, sys\n"
            "print('python', sys.version.split()[0])\n"
            "for name in sys.argv[1:]:\n"
            "    try: print(name, m.version(name))\n"
            "    except m.PackageNotFoundError: print('missing', name)\n"
        )
        named = ["protosocket-rpc" if name == "." else name for name in names]
        lines = run([str(python), "-c", script, *named]).splitlines()
        versions: dict[str, str] = dict(line.split(" ", 1) for line in lines)
        if "missing" in versions:
            raise UnavailableError(f"{versions['missing']} is not installed")
        return versions


@dataclass(frozen=True)
class NativePeer(Peer):
    """Built by `make` in `benchmarks/peers/DIRECTORY`, with OUT the directory for the binaries
    `server` and `client`, and PROTOC a protoc; `make version` prints `name version` lines."""

    directory: str
    commands: tuple[str, ...]
    """What must be on the path."""
    packages: tuple[str, ...] = ()
    """Debian packages, installed if this is Debian and we are root."""
    program: str = ""
    """What the names of the binaries begin with, where a directory has several peers."""
    libraries: str = ""
    """For `make version`, where a directory has several peers: names, with `|` between them."""

    def prepare(self, here: bool) -> Ready:
        out = WORKSPACE / self.directory
        out.mkdir(parents=True, exist_ok=True)
        _install_debian(self.packages)
        for command in self.commands:
            if not shutil.which(command):
                raise UnavailableError(f"{command} is not on the path")
        source = PROTO.parent / "peers" / self.directory
        protoc = f"{sys.executable} -m grpc_tools.protoc"
        variables = [f"OUT={out}", f"PROTOC={protoc}", f"PROTO={PROTO}"]
        if self.program:
            variables += [f"PROGRAM={self.program}", f"CRATES={self.libraries}"]
        make = ["make", "--no-print-directory", "-s", "-C", str(source), *variables]
        run([*make, "all"])
        binaries = [out / f"{self.program}{side}" for side in ("server", "client")]
        return Ready(
            server=[str(binaries[0])],
            client=[str(binaries[1])],
            versions=dict(line.split(" ", 1) for line in run([*make, "version"]).splitlines()),
            installed_bytes=sum(binary.stat().st_size for binary in binaries),
        )


@dataclass(frozen=True)
class MixedPeer(Peer):
    """The server of one peer with the client of another, which understand each other."""

    server: Peer
    client: Peer

    def combine(self, server: Ready, client: Ready) -> Ready:
        return Ready(
            server=server.server,
            client=client.client,
            environment={**server.environment, **client.environment},
            versions=_both(server.versions, client.versions),
        )


def _both(server: dict[str, str], client: dict[str, str]) -> dict[str, str]:
    """The versions of two sides. Packages and crates may share a name: then both are told."""
    both = {**server, **client}
    for name in server.keys() & client.keys():
        if server[name] != client[name]:
            both[name] = f"{server[name]} (server), {client[name]} (client)"
    return both


def generate(out: Path, protoc: tuple[str, ...], tools: Path) -> None:
    """Runs protoc over the .proto files of the benchmark. `protoc` are the plugins' arguments."""
    out.mkdir(exist_ok=True)
    (out / "wide.proto").write_text(wide.proto())
    here = Path(sys.executable).parent
    arguments = [argument.format(out=out, bin=tools, here=here) for argument in protoc]
    for argument in arguments:
        if "_out=" in argument:
            Path(argument.rpartition("=")[2].rpartition(":")[2]).mkdir(exist_ok=True)
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{out}"]
    run([*command, *arguments, "echo.proto", "wide.proto"])


def _only_benchmarks() -> Path:
    """A directory to import this package from without the rest of the checkout, which would hide
    the build that is installed."""
    directory = WORKSPACE / "path"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "benchmarks"
    if not link.is_symlink():
        link.symlink_to(Path(__file__).parent)
    return directory


def run(
    command: list[str], environment: dict[str, str] | None = None, directory: Path | None = None
) -> str:
    """The standard output of a command, in the workspace unless a directory is given.

    Raises UnavailableError with its last words.
    """
    if directory is None:
        directory = WORKSPACE
        directory.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        errors = [line for line in said if "rror" in line] or said or ["failed silently"]
        raise UnavailableError(f"{Path(command[0]).name}: {errors[-1].strip()[:300]}")
    return done.stdout


def size_of(directory: Path) -> int:
    """Bytes of all files below, without the caches that Python writes."""
    return sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )


def _install_debian(packages: tuple[str, ...]) -> None:
    if not packages or not shutil.which("dpkg-query"):
        return
    states = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Abbrev}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if states == ["ii"] * len(packages):
        return
    if os.geteuid() != 0:
        raise UnavailableError(f"needs `apt-get install {' '.join(packages)}`")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment)
    run(["apt-get", "install", "-y", "-qq", *packages], environment)
