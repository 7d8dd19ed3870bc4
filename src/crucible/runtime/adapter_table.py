"""Which adapters are there, by port and name, and how is each made?

A literal table of loaders; each imports its adapter when it is called, so that naming one costs nothing. An
installed plug-in adds to it by an entry point `PORT.NAME` in the group `crucible.adapters`, a loader like these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from crucible.errors import ManifestError
from crucible.ports import HubClient, Port, TokenizerStore

if TYPE_CHECKING:
    from crucible.adapters.tinker import TinkerBackend
    from crucible.adapters.torch import TorchBackend
    from crucible.testing.fakes import FakeBackend


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a loader may use.

    run_dir: the run's folder, where a run has one.
    options: the adapter's own options, from manifest and overrides.
    port: another port of the same wiring, made on demand.
    shared: the one object behind several ports of a backend, made on first use.
    """

    run_dir: Path | None
    options: Mapping[str, Any]
    port: Callable[[str], Port]
    shared: Callable[[str, Callable[[], Any]], Any]

    @property
    def checkpoint_dir(self) -> Path:
        """Where a backend on this machine keeps checkpoints."""
        return (self.run_dir or Path("runs") / "unnamed") / "checkpoints"


Loader: TypeAlias = Callable[[Environment], Port]


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """A loader, the option keys it takes, those of them that no record may hold, and whether it does no real work."""

    load: Loader
    options: frozenset[str] = field(default_factory=frozenset[str])
    secrets: frozenset[str] = field(default_factory=frozenset[str])
    noop: bool = False


def _torch_backend(env: Environment) -> "TorchBackend":
    def make() -> "TorchBackend":
        from crucible.adapters.torch import TorchBackend

        tokenizers = env.port("tokenizer_store")
        assert isinstance(tokenizers, TokenizerStore)
        return TorchBackend(
            checkpoint_dir=env.checkpoint_dir, resolve_model=_resolver(env), tokenizers=tokenizers, **env.options
        )

    return env.shared("torch", make)


def _tinker_backend(env: Environment) -> "TinkerBackend":
    def make() -> "TinkerBackend":
        from crucible.adapters.tinker import TinkerBackend

        tokenizers = env.port("tokenizer_store")
        assert isinstance(tokenizers, TokenizerStore)
        return TinkerBackend(tokenizers=tokenizers, resolve_model=_resolver(env, weights=False), **env.options)

    return env.shared("tinker", make)


def _resolver(env: Environment, *, weights: bool = True) -> Callable[[str], Path]:
    """Model reference to local folder; without `weights` the tokenizer's files alone are downloaded."""
    from crucible.adapters.assets import crucible_home, resolve_model

    def hub() -> HubClient:
        client = env.port("hub_client")
        assert isinstance(client, HubClient)
        return client

    return lambda reference: resolve_model(reference, home=crucible_home(), hub=hub(), weights=weights)


def _noop_backend(env: Environment) -> "FakeBackend":
    def make() -> "FakeBackend":
        from crucible.testing.fakes import FakeBackend

        latency = env.options.get("latency", 0.0)
        if not isinstance(latency, int | float) or not 0 <= latency < 3600:
            raise ManifestError.of("is not a number of seconds from 0", where="noop.latency", given=latency)
        return FakeBackend(checkpoint_dir=env.checkpoint_dir if env.run_dir else None, latency=latency)

    return env.shared("noop", make)


def _torch_training(env: Environment) -> Port:
    return _torch_backend(env).training_client


def _torch_sampling(env: Environment) -> Port:
    return _torch_backend(env).sampling_client


def _tinker_training(env: Environment) -> Port:
    return _tinker_backend(env).training_client


def _tinker_sampling(env: Environment) -> Port:
    return _tinker_backend(env).sampling_client


def _noop_training(env: Environment) -> Port:
    return _noop_backend(env).training_client


def _noop_sampling(env: Environment) -> Port:
    return _noop_backend(env).sampling_client


def _hf_tokenizers(env: Environment) -> Port:
    from crucible.adapters.tokenizer import HfTokenizerStore

    return HfTokenizerStore(resolve_model=_resolver(env, weights=False))


def _noop_tokenizers(_: Environment) -> Port:
    from crucible.testing.fakes import FakeTokenizerStore

    return FakeTokenizerStore()


def _auto_datasets(_: Environment) -> Port:
    from crucible.adapters.assets import crucible_home, fetch
    from crucible.adapters.datasets import HfDatasetsStore, LocalFilesStore, PackagedStore, RoutedStore

    packaged = PackagedStore(fetch=lambda name: fetch(name, home=crucible_home()))
    return RoutedStore([packaged, LocalFilesStore(), HfDatasetsStore()])


def _local_datasets(_: Environment) -> Port:
    from crucible.adapters.datasets import LocalFilesStore

    return LocalFilesStore()


def _hf_datasets(_: Environment) -> Port:
    from crucible.adapters.datasets import HfDatasetsStore

    return HfDatasetsStore()


def _noop_datasets(_: Environment) -> Port:
    from crucible.testing.fakes import FakeDatasetStore

    return FakeDatasetStore()


def _local_blobs(env: Environment) -> Port:
    from crucible.adapters.blobs import LocalBlobStore

    return LocalBlobStore(Path(env.options.get("root", (env.run_dir or Path("runs")) / "blobs")))


def _noop_blobs(_: Environment) -> Port:
    from crucible.testing.fakes import FakeBlobStore

    return FakeBlobStore()


def _jsonl_metrics(env: Environment) -> Port:
    from crucible.adapters.metrics import JsonlMetricsStore

    return JsonlMetricsStore(env.run_dir or Path("runs"))


def _sqlite_metrics(env: Environment) -> Port:
    from crucible.adapters.metrics import SqliteMetricsStore

    return SqliteMetricsStore(env.run_dir or Path("runs"))


def _wandb_metrics(env: Environment) -> Port:
    from crucible.adapters.metrics import WandbMetricsStore

    return WandbMetricsStore(env.run_dir or Path("runs"), **env.options)


def _noop_metrics(_: Environment) -> Port:
    from crucible.testing.fakes import FakeMetricsStore

    return FakeMetricsStore()


def _hf_hub(env: Environment) -> Port:
    from crucible.adapters.hub import HfHubClient

    return HfHubClient(**env.options)


def _noop_hub(_: Environment) -> Port:
    from crucible.testing.fakes import FakeHubClient

    return FakeHubClient()


def _openai_llm(env: Environment) -> Port:
    from crucible.adapters.llm import OpenAIClient

    options: dict[str, Any] = {"model": "", **env.options}
    return OpenAIClient(**options)


def _noop_llm(_: Environment) -> Port:
    from crucible.testing.fakes import FakeLLMClient

    return FakeLLMClient()


def _noop_embeddings(_: Environment) -> Port:
    from crucible.testing.fakes import FakeEmbeddingClient

    return FakeEmbeddingClient()


def _memory_vectors(_: Environment) -> Port:
    from crucible.adapters.vectors import MemoryVectorStore

    return MemoryVectorStore()


def _noop_vectors(_: Environment) -> Port:
    from crucible.testing.fakes import FakeVectorStore

    return FakeVectorStore()


_TORCH = frozenset({"dtype", "device", "threads", "token_budget", "slots", "mix_adapters", "max_memory"})
_TINKER = frozenset({"base_url", "api_key", "project_id", "ttl_seconds", "exact"})
_NOOP = frozenset({"latency"})
_OPENAI = frozenset({"model", "base_url", "api_key", "timeout", "max_concurrency"})

TABLE: Mapping[str, Mapping[str, AdapterEntry]] = {
    "training_client": {
        "torch": AdapterEntry(load=_torch_training, options=_TORCH),
        "tinker": AdapterEntry(load=_tinker_training, options=_TINKER, secrets=frozenset({"api_key"})),
        "noop": AdapterEntry(load=_noop_training, options=_NOOP, noop=True),
    },
    "sampling_client": {
        "torch": AdapterEntry(load=_torch_sampling, options=_TORCH),
        "tinker": AdapterEntry(load=_tinker_sampling, options=_TINKER, secrets=frozenset({"api_key"})),
        "noop": AdapterEntry(load=_noop_sampling, options=_NOOP, noop=True),
    },
    "tokenizer_store": {
        "hf": AdapterEntry(load=_hf_tokenizers),
        "noop": AdapterEntry(load=_noop_tokenizers, options=_NOOP, noop=True),
    },
    "dataset_store": {
        "auto": AdapterEntry(load=_auto_datasets),
        "local": AdapterEntry(load=_local_datasets),
        "hf": AdapterEntry(load=_hf_datasets),
        "noop": AdapterEntry(load=_noop_datasets, options=_NOOP, noop=True),
    },
    "blob_store": {
        "local": AdapterEntry(load=_local_blobs, options=frozenset({"root"})),
        "noop": AdapterEntry(load=_noop_blobs, options=_NOOP, noop=True),
    },
    "hub_client": {
        "hf": AdapterEntry(load=_hf_hub, options=frozenset({"token", "endpoint", "cache_dir"})),
        "noop": AdapterEntry(load=_noop_hub, options=_NOOP, noop=True),
    },
    "llm_client": {
        "openai": AdapterEntry(load=_openai_llm, options=_OPENAI, secrets=frozenset({"api_key"})),
        "noop": AdapterEntry(load=_noop_llm, options=_NOOP, noop=True),
    },
    "embedding_client": {
        "noop": AdapterEntry(load=_noop_embeddings, options=_NOOP, noop=True),
    },
    "vector_store": {
        "memory": AdapterEntry(load=_memory_vectors),
        "noop": AdapterEntry(load=_noop_vectors, options=_NOOP, noop=True),
    },
    "metrics_store": {
        "jsonl": AdapterEntry(load=_jsonl_metrics),
        "sqlite": AdapterEntry(load=_sqlite_metrics),
        "wandb": AdapterEntry(load=_wandb_metrics, options=frozenset({"project", "entity", "mode"})),
        "noop": AdapterEntry(load=_noop_metrics, options=_NOOP, noop=True),
    },
}


def adapter_table() -> dict[str, dict[str, AdapterEntry]]:
    """The literal table and the plug-ins' entries.

    Raises:
        ManifestError: if a plug-in's entry point is not named `PORT.NAME`, or its name is taken.
    """
    table = {port: dict(entries) for port, entries in TABLE.items()}
    for entry in entry_points(group="crucible.adapters"):
        port, _, name = entry.name.partition(".")
        if port not in table or not name or name in table[port]:
            raise ManifestError.of(
                "the entry point's name must be PORT.NAME, with a known port and a new name",
                where=f"plug-in {entry.value}",
                given=entry.name,
            )
        table[port][name] = AdapterEntry(load=entry.load())
    return table
