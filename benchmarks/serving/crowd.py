"""What do thousands of samples at once cost? All submitted through the SDK before the first is awaited.

Stands alone, as `latency.py` does. Run by `benchmarks.serving.run`.
"""

import argparse
import json
import time
from concurrent.futures import Future

import tinker
from tinker import types


def main() -> None:
    """Print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=16)
    args = parser.parse_args()
    service = tinker.ServiceClient(base_url=args.url, api_key="tml-benchmark")
    made = service.create_sampling_client(base_model=args.model)
    client = made.result() if hasattr(made, "result") else made
    prompt = types.ModelInput.from_ints([1, 2, 3])

    def sample(seed: int) -> Future[types.SampleResponse]:
        drawn = types.SamplingParams(max_tokens=args.tokens, seed=seed, stop=[])
        return client.sample(prompt=prompt, num_samples=1, sampling_params=drawn)

    sample(0).result()
    began, used = time.perf_counter(), time.process_time()
    asked = [sample(seed) for seed in range(args.samples)]
    lengths = [len(one.result().sequences[0].tokens) for one in asked]
    line = {
        "samples": len(lengths),
        "complete": sum(length == args.tokens for length in lengths),
        "wall_seconds": time.perf_counter() - began,
        "client_cpu_seconds": time.process_time() - used,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
