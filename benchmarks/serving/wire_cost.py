"""What does it cost to send half a million tokens to be trained on, and to read their logprobs?

Stands alone, as `latency.py` does. Run by `benchmarks.serving.run`.
"""

import argparse
import json
import time

import tinker
import torch
from tinker import types


def main() -> None:
    """Print a line of JSON. Building the datums is outside of the clock: a program does that for itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--row-tokens", type=int, default=1000)
    args = parser.parse_args()
    service = tinker.ServiceClient(base_url=args.url, api_key="tml-benchmark")
    made = service.create_lora_training_client(base_model=args.model, rank=8)
    client = made.result() if hasattr(made, "result") else made
    ids = torch.arange(args.row_tokens) % 200 + 1
    weights = torch.ones(args.row_tokens)
    one = types.Datum(
        model_input=types.ModelInput.from_ints(ids.tolist()),
        loss_fn_inputs={
            "target_tokens": types.TensorData.from_torch(ids),
            "weights": types.TensorData.from_torch(weights),
        },
    )
    client.forward_backward([one], "cross_entropy").result()
    began, used = time.perf_counter(), time.process_time()
    scored = client.forward_backward([one] * args.rows, "cross_entropy").result()
    line = {
        "tokens": sum(len(row["logprobs"].data) for row in scored.loss_fn_outputs),
        "wall_seconds": time.perf_counter() - began,
        "client_cpu_seconds": time.process_time() - used,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
