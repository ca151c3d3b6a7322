"""What the plugin takes of a processor and of memory for many files in one request.

``python -m codegen.measure``, run in ``tests/``, prints the figures of docs/generated-code.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from codegen.regenerate import ROOT
from google.protobuf.compiler import plugin_pb2

MESSAGES = 10
METHODS = 5
# Answers each request that a file holds, as the program does; then prints the seconds of the
# processor since the process was started, and its peak of memory in KB (resource's starts with that
# of whoever started it).
ANSWER = """
import gc, sys, time
gc.disable()
from protoc_plugin.main import respond
for name in sys.argv[1:]:
    with open(name, "rb") as request:
        respond(request.read())
    with open("/proc/self/status") as status:
        (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM")]
    print(time.process_time(), peak)
"""


def request(count: int) -> bytes:
    """A request for so many files, each of ten messages and five methods, with comments."""
    request = plugin_pb2.CodeGeneratorRequest()
    for number in range(count):
        file = request.proto_file.add(
            name=f"folder{number % 10}/file{number}.proto", package=f"p{number}", syntax="proto3"
        )
        request.file_to_generate.append(file.name)
        for index in range(MESSAGES):
            message = file.message_type.add(name=f"Message{index}")
            message.field.add(name="text", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
        service = file.service.add(name="Service")
        for index in range(METHODS):
            service.method.add(
                name=f"Method{index}",
                input_type=f".{file.package}.Message{2 * index}",
                output_type=f".{file.package}.Message{2 * index + 1}",
                server_streaming=index % 2 == 1,
            )
            file.source_code_info.location.add(
                path=(6, 0, 2, index), span=(index, 0, 1), leading_comments=" Does what it says.\n"
            )
    return request.SerializeToString()


def answers(counts: Sequence[int]) -> list[tuple[float, float]]:
    """The seconds and KB that one process has taken after requests for so many files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(count) for count in counts]
        for path, count in zip(paths, counts, strict=True):
            path.write_bytes(request(count))
        done = subprocess.run(
            [sys.executable, "-c", ANSWER, *paths], stdout=subprocess.PIPE, cwd=ROOT, check=True
        )
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    return [(float(seconds), float(peak)) for seconds, peak in lines]


if __name__ == "__main__":
    COUNT = 3000
    (first, before), (seconds, peak) = answers([1, COUNT])
    print(f"start, and one file: {first * 1e3:.0f} ms, {before / 1e3:.0f} MB")
    print(f"each of {COUNT}: {(seconds - first) / COUNT * 1e3:.1f} ms,", end=" ")
    print(f"{(peak - before) / COUNT:.0f} KB; in all {seconds:.1f} s, {peak / 1e3:.0f} MB")
