"""Which public methods does this SDK have, and does each work against a server?

Run by the tests as a program of its own, with the SDK under examination on PYTHONPATH: URL and base model as
arguments; one JSON row per public method on standard output.
"""

import asyncio
import importlib
import inspect
import json
import sys
import time
import traceback
import warnings

import sdk_rest
import sdk_sampling
import sdk_service
import sdk_training
import tinker
from sdk_world import World

CLASSES = ("TrainingClient", "SamplingClient", "ServiceClient", "RestClient")
MODULES = {
    "TrainingClient": "training_client",
    "SamplingClient": "sampling_client",
    "ServiceClient": "service_client",
    "RestClient": "rest_client",
}


DRIVERS = {
    "TrainingClient": sdk_training.DRIVERS,
    "SamplingClient": sdk_sampling.DRIVERS,
    "ServiceClient": sdk_service.DRIVERS,
    "RestClient": sdk_rest.DRIVERS,
}


def public_methods() -> list[str]:
    """Class.method of everything public that the four clients define, read off the SDK itself."""
    found = []
    for name in CLASSES:
        client = getattr(importlib.import_module(f"tinker.lib.public_interfaces.{MODULES[name]}"), name)
        found += [f"{name}.{member}" for member in sorted(vars(client)) if not member.startswith("_")]
    return found


def settled(value):
    """What a method's return stands for: the result of a future, or the value itself."""
    return value.result(timeout=120) if hasattr(value, "result") else value


def call_plainly(client, method, *args, **kwargs):
    """Call a method, and wait for what it promises."""
    member = getattr(client, method)
    return settled(member(*args, **kwargs)) if callable(member) else member


def call_awaited(client, method, *args, **kwargs):
    """Call a method's async twin in an event loop of its own, and wait for what it promises."""

    async def called():
        value = await getattr(client, f"{method}_async")(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    return asyncio.run(called())


def drive(world: World, name: str) -> dict[str, object]:
    """One row: what became of one method."""
    client, method = name.split(".")
    driver, call = DRIVERS[client].get(method), call_plainly
    if driver is None and method.endswith("_async"):
        driver, call = DRIVERS[client].get(method.removesuffix("_async")), call_awaited
    if driver is None:
        return {"method": name, "status": "no driver", "detail": "add one to the table of its client"}
    began = time.monotonic()
    try:
        detail, status = driver(world, call), "works"
    except Exception as error:  # noqa: BLE001  (whatever a method raises is its row)
        detail, status = f"{type(error).__name__}: {error}"[:600], "fails"
        traceback.print_exc()
    return {"method": name, "status": status, "detail": str(detail), "seconds": round(time.monotonic() - began, 2)}


def main() -> None:
    """Drive every method, in an order of their own names."""
    url, model, *wanted = sys.argv[1:]
    warnings.simplefilter("ignore")
    world = World(url=url, model=model)
    for name in public_methods():
        if not wanted or name in wanted:
            print(json.dumps(drive(world, name)), flush=True)
    print(json.dumps({"sdk": getattr(tinker, "__version__", "unknown")}), flush=True)


if __name__ == "__main__":
    main()
