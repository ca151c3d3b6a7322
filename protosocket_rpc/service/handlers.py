"""From a servicer's methods to their handlers."""

from __future__ import annotations

from concurrent.futures import Executor

from protosocket_rpc.service.descriptor import ServiceDescriptor
from protosocket_rpc.service.handler import Handler


def service_handlers(
    servicer: object,
    service: ServiceDescriptor | None = None,
    pool: Executor | None = None,
) -> dict[str, Handler]:
    """The handlers of a servicer's methods, by path.

    Args:
        servicer: an object with a method for each method of the service.
        service: what it serves; None to take it from the generated bases of its class.
        pool: where plain functions are run.

    Raises:
        TypeError: the servicer names no service, lacks a method, or has one of the wrong kind.
    """
    services = [service] if service is not None else _services_of(servicer)
    handlers: dict[str, Handler] = {}
    for each in services:
        for method in each.methods:
            behavior = getattr(servicer, method.handler, None)
            if behavior is None:
                raise TypeError(
                    f"{type(servicer).__name__} has no method {method.handler} for {method.path}"
                )
            handlers[method.path] = Handler(method, behavior, pool)
    return handlers


def _services_of(servicer: object) -> list[ServiceDescriptor]:
    services: dict[str, ServiceDescriptor] = {}
    for base in type(servicer).__mro__:
        service = base.__dict__.get("__protosocket_service__")
        if service is not None:
            services[service.name] = service
    if not services:
        raise TypeError(
            f"{type(servicer).__name__} is derived from no generated servicer: "
            "derive from one, or name the service: server.add(servicer, SERVICE)"
        )
    return list(services.values())
