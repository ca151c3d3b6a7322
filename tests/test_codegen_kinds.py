"""A method overridden with the wrong kind of function is an error when the service is added."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import pytest
from codegen.regenerate import HERE

import protosocket_rpc
from protoc_plugin import generate

METHODS = {
    "SayHello": (False, False),
    "SayHelloInEveryLanguage": (False, True),
    "GreetAll": (True, False),
    "Greet": (True, True),
}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kinds")
    arguments = [str(HERE / "helloworld"), "--out", str(folder / "gen_kinds"), "--codec", "bytes"]
    assert generate.main(arguments) == 0
    sys.path.insert(0, str(folder))
    try:
        return import_module("gen_kinds.helloworld_protosocket")
    finally:
        sys.path.remove(str(folder))


async def coroutine(self: object, request: Any, context: Any) -> bytes:
    return b""


async def generator(self: object, request: Any, context: Any) -> AsyncIterator[bytes]:
    yield b""


def added(services: Any, name: str, function: Callable[..., Any]) -> None:
    function.__qualname__ = f"Greeter.{name}"
    greeter = type("Greeter", (services.GreeterServicer,), {name: function})
    protosocket_rpc.server().add(greeter())


@pytest.mark.parametrize("name", METHODS)
def test_the_right_kind_is_taken(name: str, services: Any) -> None:
    _, streams_replies = METHODS[name]
    added(services, name, generator if streams_replies else coroutine)


@pytest.mark.parametrize("name", METHODS)
def test_the_wrong_kind_is_refused_with_its_name_and_what_it_has_to_be(
    name: str, services: Any
) -> None:
    _, streams_replies = METHODS[name]
    wrong, is_a, expected = (
        (coroutine, "is a coroutine function", "make it an async generator")
        if streams_replies
        else (generator, "is a generator", "make it a function with `return`")
    )
    with pytest.raises(TypeError) as caught:
        added(services, name, wrong)
    error = str(caught.value)
    assert error.startswith(f"Greeter.{name} {is_a}, but /helloworld.Greeter/{name} ")
    assert expected in error


def test_a_coroutine_function_that_returns_nothing_may_write(services: Any) -> None:
    """As grpc.aio's may; one that does return a reply is an error of that call."""

    async def writes(self: object, request: Any, context: Any) -> None:
        await context.write(b"")

    added(services, "SayHelloInEveryLanguage", writes)


def test_a_base_without_overrides_is_taken(services: Any) -> None:
    protosocket_rpc.server().add(services.GreeterServicer())


def test_what_is_no_servicer_is_refused() -> None:
    with pytest.raises(TypeError, match="derived from no generated servicer"):
        protosocket_rpc.server().add(object())


def test_one_that_says_nothing_has_to_write(services: Any) -> None:
    async def writes(self, request, context):  # type: ignore[no-untyped-def]  # the case
        await context.write(b"")

    async def returns(self, request, context):  # type: ignore[no-untyped-def]  # the case
        return [b""]

    added(services, "SayHelloInEveryLanguage", writes)
    with pytest.raises(TypeError, match="make it an async generator"):
        added(services, "SayHelloInEveryLanguage", returns)
