"""``python -m scenarios grpcio|compat``, from the folder above: the results as JSON, by name."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from typing import Any

from scenarios import behaviours, calls, channels, interceptors, shapes

SCENARIOS = {
    name: function
    for module in (behaviours, calls, channels, interceptors, shapes)
    for name, function in vars(module).items()
    # From 3.12 on, the module inspect itself passes for a coroutine function.
    if inspect.isfunction(function)
    and inspect.iscoroutinefunction(function)
    and not inspect.signature(function).parameters
    and function.__module__ == module.__name__
}


async def run_all() -> dict[str, Any]:
    return {name: await run_one(scenario) for name, scenario in SCENARIOS.items()}


async def run_one(scenario: Any) -> Any:
    try:
        return await asyncio.wait_for(scenario(), 30)
    except Exception as error:
        return f"the scenario failed: {error!r}"


logging.disable()
print(json.dumps(asyncio.run(run_all()), default=repr))
