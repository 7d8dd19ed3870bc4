"""Which training and sampling clients share one session of a service?"""

from collections.abc import Callable
from pathlib import Path

from crucible.adapters.tinker.checkpoints import Shelf
from crucible.adapters.tinker.options import ServiceOptions
from crucible.adapters.tinker.sampling import TinkerSamplingClient
from crucible.adapters.tinker.service import Service
from crucible.adapters.tinker.training import TinkerTrainingClient
from crucible.ports.tokenizer import TokenizerStore


class TinkerBackend:
    """A Tinker service behind the two ports. Making one imports no SDK, starts no thread and sends nothing; the key
    is asked for when the service is.

    tokenizers: where the sessions' tokenizers come from: this machine, never the service.
    resolve_model: from a model reference to a local folder with its configuration, where there is one; raises
        ModelError or PortError where there is none.
    base_url, api_key, project_id, ttl_seconds, exact: see `ServiceOptions`.

    The service's session ends when both clients were closed, or with `close`.

    Raises:
        ManifestError: naming every option that is wrong.
        MissingExtraError: if the SDK is not installed.
    """

    def __init__(
        self,
        *,
        tokenizers: TokenizerStore,
        resolve_model: Callable[[str], Path] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        project_id: str | None = None,
        ttl_seconds: int | None = None,
        exact: bool = False,
    ) -> None:
        options = ServiceOptions(
            base_url=base_url, api_key=api_key, project_id=project_id, ttl_seconds=ttl_seconds, exact=exact
        )
        self._service, shelf = Service(options), Shelf()
        self._open = {TinkerTrainingClient.port_name, TinkerSamplingClient.port_name}
        self.training_client = TinkerTrainingClient(
            self._service,
            shelf=shelf,
            tokenizers=tokenizers,
            resolve_model=resolve_model,
            on_close=self._closed,
        )
        self.sampling_client = TinkerSamplingClient(
            self._service, shelf=shelf, tokenizers=tokenizers, on_close=self._closed
        )

    def close(self) -> None:
        """End the session at the service; requests that are not done fail. Safe to call twice."""
        for client in (self.training_client, self.sampling_client):
            client.close()

    def _closed(self, port_name: str) -> None:
        self._open.discard(port_name)
        if not self._open:
            self._service.close()
