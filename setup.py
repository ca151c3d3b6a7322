"""Builds the accelerator: the modules that run per message, compiled by mypyc as they are.

An install from source builds it where there is a C compiler; without one, or if that fails, the
same modules run as Python. PROTOSOCKET_ACCELERATE=1 makes a failure an error, and 0 leaves the
accelerator out. Editable installs never have it: compiled modules would hide what is edited.
Everything else about the distribution is in pyproject.toml.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

PACKAGE = "protosocket_rpc"
MODULES = [
    "eager",
    "raw/connection",
    "raw/limits",
    "raw/polled",
    "raw/reactor",
    "raw/unfinished",
    "raw/varint",
    "rpc/early_cancels",
    "rpc/message",
    "rpc/session",
    "service/call",
    "service/channel_connection",
    "service/client_session",
    "service/context",
    "service/counted",
    "service/deadlines",
    "service/decision",
    "service/flow",
    "service/handler",
    "service/intercepting",
    "service/limits",
    "service/method",
    "service/reply_stream",
    "service/rpc",
    "service/server_connection",
    "service/server_session",
    "service/session",
    "service/waiters",
    "wire/codec",
    "wire/fields",
    "wire/frame",
    "wire/large",
    "wire/metadata",
]
MYPYC = "mypy[mypyc]>=1.18"

# The types were checked already, by a build that has the libraries.
ONLY_TRANSLATE = [
    "--config-file=",
    "--follow-imports=silent",
    "--ignore-missing-imports",
    "--python-version={}.{}".format(*sys.version_info),
]

# mypyc gives some classes a list of weak references, and forgets to clear it: rather none.
WEAK_REFERENCES = re.compile(r'^\s*(\.tp_weaklistoffset = |\{"__weakref__", ).*\n', re.MULTILINE)

# mypyc throws into what is awaited as Python did before 3.12, which warns of it since.
RUNTIME = "#include <misc_ops.c>\n"
THROWN = ("_m, type, value, traceback, NULL)", "_m, value, NULL)")


def asked() -> bool | None:
    """What PROTOSOCKET_ACCELERATE says; None if it says nothing."""
    value = os.environ.get("PROTOSOCKET_ACCELERATE", "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"PROTOSOCKET_ACCELERATE must be 0 or 1, not {value!r}")
    return None if value == "" else value == "1"


@functools.cache
def wanted() -> bool:
    """True if the accelerator is to be built: not refused, and insisted on or not hopeless."""
    return asked() is not False and (asked() is True or compiles())


def compiles() -> bool:
    """True if there is a C compiler, and what it needs to compile for this Python."""
    if platform.python_implementation() != "CPython":
        return False
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler, get_python_inc

    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <Python.h>\n")
        try:
            compiler = new_compiler()
            customize_compiler(compiler)
            compiler.compile([str(source)], output_dir=directory, include_dirs=[get_python_inc()])
        except Exception:  # each kind of compiler has its own kinds of failures
            return False
    return True


class Accelerated(Distribution):
    """A distribution with extension modules, if they can be built."""

    def has_ext_modules(self) -> bool:
        return wanted()


class BuildAccelerator(build_ext):
    """Builds all of the modules, or none."""

    def run(self) -> None:
        if self.editable_mode:
            return  # who edits a module wants to see the change
        if not compiles():
            raise SystemExit(
                "PROTOSOCKET_ACCELERATE=1 needs CPython, its headers, and a C compiler"
            )
        self.remove()
        inplace = self.inplace
        try:
            self.distribution.ext_modules = self.translate()
            self.initialize_options()  # it was without them before
            self.inplace = inplace
            self.finalize_options()
            super().run()
        except (Exception, SystemExit) as error:  # SystemExit: how mypyc ends
            if asked():
                raise
            self.warn(f"protosocket is installed without its accelerator: {error!r}")
            self.remove()

    def remove(self) -> None:
        """Half an accelerator would be none, and an old one is wrong."""
        suffix = self.get_ext_filename("")
        for built in [*Path(self.build_lib).rglob(f"*{suffix}"), self.note]:
            built.unlink(missing_ok=True)

    @property
    def note(self) -> Path:
        """What the installed package is told of how it was built."""
        return Path("." if self.inplace else self.build_lib, PACKAGE, "_built.py")

    def translate(self) -> list:
        """The modules as C."""
        from mypy.version import __version__ as version
        from mypyc.build import include_dir, mypycify

        runtime = Path(include_dir(), "misc_ops.c").read_text().replace(*THROWN)

        files = [f"{PACKAGE}/{name}.py" for name in MODULES]
        extensions = mypycify(
            [*ONLY_TRANSLATE, *files], target_dir=self.build_temp, debug_level="0"
        )
        for extension in extensions:
            if "-Werror" in extension.extra_compile_args:  # other compilers, other warnings
                extension.extra_compile_args.remove("-Werror")
            for source in map(Path, extension.sources):
                text = WEAK_REFERENCES.sub("", source.read_text())
                source.write_text(text.replace(RUNTIME, runtime))
        self.note.parent.mkdir(parents=True, exist_ok=True)
        self.note.write_text(f'MYPYC = "{version}"\n')
        return extensions


if __name__ == "__main__":
    # Builds for several Pythons may run at the same time.
    base = Path("build", sys.implementation.cache_tag)
    base.mkdir(parents=True, exist_ok=True)
    setup(
        distclass=Accelerated,
        cmdclass={"build_ext": BuildAccelerator},
        setup_requires=[MYPYC] if wanted() else [],
        options={"build": {"build_base": str(base)}, "egg_info": {"egg_base": str(base)}},
    )
