"""What do many clients get of one engine, and is it shared out fairly? Each trains adapters of its own, all at once.

Stands alone, as `latency.py` does. Run by `benchmarks.serving.run`.
"""

import argparse
import json
import threading
import time

import tinker
from tinker import types

ROWS, TOKENS = 4, 32


def datums() -> list[types.Datum]:
    """Four rows of 32 tokens."""
    row = [index % 200 + 1 for index in range(TOKENS + 1)]
    targets = types.TensorData(data=row[1:], dtype="int64", shape=[TOKENS])
    one = types.Datum(model_input=types.ModelInput.from_ints(row[:-1]), loss_fn_inputs={"target_tokens": targets})
    return [one] * ROWS


class Client(threading.Thread):
    """One user: a service client, some adapters, and updates of all of them in turn. ended: when each was done."""

    def __init__(self, url: str, model: str, *, adapters: int, updates: int, start: threading.Barrier) -> None:
        super().__init__()
        service = tinker.ServiceClient(base_url=url, api_key="tml-benchmark")
        made = [service.create_lora_training_client(base_model=model, rank=8) for _ in range(adapters)]
        self._models = [one.result() if hasattr(one, "result") else one for one in made]
        self._updates, self._start = updates, start
        self.ended = 0.0

    def run(self) -> None:
        """Every adapter's updates, each awaited before its next."""
        rows = datums()
        self._start.wait()
        for _ in range(self._updates):
            steps = []
            for model in self._models:
                model.forward_backward(rows, "cross_entropy")
                steps.append(model.optim_step(types.AdamParams(learning_rate=1e-3)))
            for step in steps:
                step.result()
        self.ended = time.perf_counter()


def main() -> None:
    """Print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--adapters", type=int, required=True)
    parser.add_argument("--updates", type=int, required=True)
    args = parser.parse_args()
    start = threading.Barrier(args.clients + 1)
    clients = [
        Client(args.url, args.model, adapters=args.adapters, updates=args.updates, start=start)
        for _ in range(args.clients)
    ]
    for client in clients:
        client.start()
    used = time.process_time()
    began = time.perf_counter()
    start.wait()
    for client in clients:
        client.join()
    line = {
        "updates": args.clients * args.adapters * args.updates,
        "wall_seconds": time.perf_counter() - began,
        "client_cpu_seconds": time.process_time() - used,
        "client_seconds": [client.ended - began for client in clients],
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
