"""Which training and sampling clients share one engine?"""

from collections.abc import Callable
from pathlib import Path

from crucible.adapters.torch.failures import translated
from crucible.adapters.torch.sampling import TorchSamplingClient
from crucible.adapters.torch.training import TorchTrainingClient
from crucible.engine.engine import Engine
from crucible.engine.options import DeviceName, DTypeName, EngineOptions
from crucible.ports.tokenizer import TokenizerStore


class TorchBackend:
    """The embedded engine behind the two ports. Making one imports no torch, starts no thread and loads no model.

    checkpoint_dir: folder that checkpoints are written under.
    resolve_model: from a model reference to a local folder; raises ModelError for an unknown one.
    tokenizers: where the sessions' tokenizers come from.
    dtype, device, threads, token_budget, slots, mix_adapters, max_memory: see `EngineOptions`.

    The engine ends when both clients were closed, or with `close`.

    Raises:
        ManifestError: naming every option that is wrong.
    """

    def __init__(
        self,
        *,
        checkpoint_dir: Path,
        resolve_model: Callable[[str], Path],
        tokenizers: TokenizerStore,
        dtype: DTypeName = "float32",
        device: DeviceName = "auto",
        threads: int | None = None,
        token_budget: int = EngineOptions.token_budget,
        slots: int = EngineOptions.slots,
        mix_adapters: bool = False,
        max_memory: int | None = None,
    ) -> None:
        options = EngineOptions(
            checkpoint_dir=checkpoint_dir,
            dtype=dtype,
            device=device,
            threads=threads,
            token_budget=token_budget,
            slots=slots,
            mix_adapters=mix_adapters,
            max_memory=max_memory,
        )
        self._engine = Engine(options, resolve_model=resolve_model, guard=translated)
        self._open = {TorchTrainingClient.port_name, TorchSamplingClient.port_name}
        self.training_client = TorchTrainingClient(self._engine, tokenizers=tokenizers, on_close=self._closed)
        self.sampling_client = TorchSamplingClient(self._engine, tokenizers=tokenizers, on_close=self._closed)

    def close(self) -> None:
        """End the engine's thread; requests that are not done fail. Safe to call twice."""
        self._engine.close()

    def _closed(self, port_name: str) -> None:
        self._open.discard(port_name)
        if not self._open:
            self.close()
