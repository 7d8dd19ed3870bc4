"""One seed, and from it a stream of its own for each consumer: adding one shifts no other."""

from collections.abc import Sequence

import pytest

import crucible
from crucible.adapters.datasets import MemoryStore
from crucible.ports.datum import Datum
from crucible.ports.training_client import SessionConfig
from crucible.testing.fakes import FakeBackend
from crucible.testing.run_noop import run_noop
from crucible.train.seeding import derive_seed, generator

ROWS = [
    {"messages": [{"role": "user", "content": f"{n}+1?"}, {"role": "assistant", "content": f"{n + 1}"}]}
    for n in range(40)
]


class Seen:
    """What a backend is given: the config of each session, the tokens of each batch."""

    def __init__(self) -> None:
        self.sessions: list[SessionConfig] = []
        self.batches: list[list[list[int]]] = []

    def run(self, **config: object) -> "Seen":
        backend = FakeBackend()
        training = backend.training_client
        start, train = training.start_session, training.forward_backward

        def started(given: SessionConfig):
            self.sessions.append(given)
            return start(given)

        def trained(session, datums: Sequence[Datum], **options):
            self.batches.append([datum.model_input.to_ints() for datum in datums])
            return train(session, datums, **options)

        training.start_session, training.forward_backward = started, trained
        store = MemoryStore({"mine": {"train": ROWS}, "other": {"train": ROWS[:8]}})
        ports = {"training_client": training, "sampling_client": backend.sampling_client, "dataset_store": store}
        settings = {"dataset": "mine", "eval_rows": 0, "batch_size": 5, "epochs": 2, **config}
        try:
            run_noop(crucible.describe("chat_sl"), settings, ports=ports)
        finally:
            backend.close()
        return self


@pytest.mark.parametrize(
    "more",
    [
        {"eval_rows": 6, "eval_dataset": "other"},
        {"eval_rows": 6, "eval_dataset": "other", "eval_every": 2, "save_every": 3},
        {"lora_rank": 4},
        {"pipeline_depth": 3},
    ],
    ids=["samples and evaluations", "and more of them", "another adapter", "steps in flight"],
)
def test_another_consumer_shifts_neither_the_rows_nor_the_adapter(more: dict[str, object]) -> None:
    one, other = Seen().run(), Seen().run(**more)
    assert one.batches == other.batches
    assert one.sessions[0].seed == other.sessions[0].seed


def test_drawing_held_out_rows_shifts_no_other_stream() -> None:
    few, rest = Seen().run(limit=36, seed=3), Seen().run(eval_rows=4, seed=3)
    assert few.sessions[0].seed == rest.sessions[0].seed
    held = set(generator(3, "holdout").permutation(40)[:4].tolist())
    kept = [row for row in range(40) if row not in held]

    def places(seen: Seen, rows: Sequence[int]) -> list[int]:
        texts = {bytes(token for token in tokens if token < 256): None for batch in seen.batches for tokens in batch}
        asked = [int(text.split(b"+1?")[0].split(b"\n")[-1]) for text in texts]
        return [list(rows).index(number) for number in asked]

    assert places(few, range(36)) == places(rest, kept)


def test_the_adapter_is_drawn_from_a_stream_of_its_own() -> None:
    seeds = [Seen().run(seed=seed, max_steps=1).sessions[0].seed for seed in (0, 1)]
    assert seeds == [derive_seed(0, "lora"), derive_seed(1, "lora")] and seeds[0] not in (0, seeds[1])
    purposes = ("lora", "shuffle", "holdout", "sample")
    assert len({derive_seed(0, purpose) for purpose in purposes}) == len(purposes)


def test_another_seed_gives_another_order() -> None:
    assert Seen().run(seed=1).batches != Seen().run(seed=2).batches
