"""How long does an update of next to nothing take through the SDK? One datum of three tokens, then an optimizer step.

Stands alone (the SDK and the standard library): it also runs in a peer's venv. Every server named takes turns, update
by update, so that a slow moment of the machine falls on all of them. Run by `benchmarks.serving.run`.
"""

import argparse
import json
import time

import tinker
from tinker import types


def start(url: str, model: str) -> tinker.TrainingClient:
    """A training client of a fresh session."""
    service = tinker.ServiceClient(base_url=url, api_key="tml-benchmark")
    made = service.create_lora_training_client(base_model=model, rank=8)
    return made.result() if hasattr(made, "result") else made  # older SDKs give the client itself


def update(client: tinker.TrainingClient) -> None:
    """forward_backward and optim_step, submitted together, both awaited."""
    datum = types.Datum(
        model_input=types.ModelInput.from_ints([1, 2, 3]),
        loss_fn_inputs={
            "target_tokens": types.TensorData(data=[2, 3, 4], dtype="int64", shape=[3]),
            "weights": types.TensorData(data=[1.0, 1.0, 1.0], dtype="float32", shape=[3]),
        },
    )
    scored = client.forward_backward([datum], "cross_entropy")
    stepped = client.optim_step(types.AdamParams(learning_rate=1e-4))
    scored.result()
    stepped.result()


def main() -> None:
    """Print a line of JSON: milliseconds of every update, by server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", nargs=3, action="append", metavar=("NAME", "URL", "MODEL"), required=True)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=10)
    args = parser.parse_args()
    clients = {name: start(url, model) for name, url, model in args.server}
    wall: dict[str, list[float]] = {name: [] for name in clients}
    cpu: dict[str, list[float]] = {name: [] for name in clients}
    for turn in range(args.warm_up + args.updates):
        for name, client in clients.items():
            began, used = time.perf_counter(), time.process_time()
            update(client)
            if turn >= args.warm_up:
                wall[name].append((time.perf_counter() - began) * 1e3)
                cpu[name].append((time.process_time() - used) * 1e3)
    line = {"sdk": tinker.__version__, "warm_up": args.warm_up, "wall_ms": wall, "client_cpu_ms": cpu}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
