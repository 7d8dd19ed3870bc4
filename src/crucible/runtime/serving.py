"""How do a model, a folder and a port become a server?"""

import fcntl
import ipaddress
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from crucible.errors import ConfigError, MissingExtraError, Problem, did_you_mean
from crucible.ports import HubClient, SamplingClient, TokenizerStore, TrainingClient
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SamplingParams
from crucible.runtime.manifests import find_manifest
from crucible.runtime.wiring import Wiring
from crucible.server.limits import Limits

if TYPE_CHECKING:
    from crucible.server.served import Served
    from crucible.server.vault import Recovered
    from crucible.store.server_store import ServerStore

_DATABASE = "server.db"
_LOCK = "server.lock"
_DATABASE_LOCK = 0x6372_7573  # PostgreSQL's advisory lock of a server: any number that is ours


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What to serve, and where.

    models: public name -> model reference, the first being the one that is shown as an example. data: the folder of
    checkpoints and, by default, of the database. database: its URL; None is SQLite in the data folder. copies: a
    folder, on another disk say, where every checkpoint is kept too, and fetched from if it is gone from `data`.
    engine: options of the embedded engine. any_key: take any key on an address that others can reach.
    """

    models: Mapping[str, str]
    data: Path
    database: str | None = None
    copies: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    engine: Mapping[str, object] = field(default_factory=dict[str, object])
    any_key: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A server that takes requests. keys: names of those in force; empty where any key is taken."""

    url: str
    models: tuple[str, ...]
    data: Path
    keys: tuple[str, ...]
    recovered: "Recovered"


def read_models(given: Sequence[str]) -> dict[str, str]:
    """Public name -> reference, from `REFERENCE` or `NAME=REFERENCE`. A folder or file without a name has its own.

    Raises:
        ConfigError: if two have one name, or a name or reference is empty.
    """
    models: dict[str, str] = {}
    problems: list[Problem] = []
    for text in given:
        name, equals, reference = text.partition("=")
        if not equals or Path(text).expanduser().exists():
            path = Path(text).expanduser()
            name, reference = (path.absolute().name if path.exists() else text), text
        if not name or not reference:
            problems.append(Problem(what="is neither REFERENCE nor NAME=REFERENCE", where="--model", given=text))
        elif name in models:
            problems.append(
                Problem(what="two models have one name", where="--model", given=name, fix="Name them apart")
            )
        else:
            models[name] = reference
    if problems:
        raise ConfigError(problems)
    return models


def read_limits(given: Sequence[str]) -> Limits:
    """The server's limits, some of them as `NAME=NUMBER`.

    Raises:
        ConfigError: for a name that is none, or a value that is no number of its kind.
        ManifestError: if one is not more than 0.
    """
    known: dict[str, type[int] | type[float]] = {
        each.name: type(getattr(Limits(), each.name)) for each in fields(Limits)
    }
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            problems.append(Problem(what="is no limit", where="--limit", given=text, fix=did_you_mean(name, known)))
            continue
        try:
            values[name] = known[name](value)
        except ValueError:
            problems.append(Problem(what="is no number of its kind", where=f"--limit {name}", given=value))
    if problems:
        raise ConfigError(problems)
    return Limits(**values)


def default_data() -> Path:
    """Where a server keeps its data if nothing else is said."""
    from crucible.adapters.assets import crucible_home

    return crucible_home() / "serve"


def open_store(data: Path, database: str | None) -> "ServerStore":
    """The server's database, made if there is none.

    Raises:
        ConfigError: if the URL cannot be read.
        MissingExtraError: if the database needs a package that is not installed.
        StoreError: if it cannot be opened.
    """
    from crucible.store.database import Database
    from crucible.store.server_store import ServerStore
    from crucible.store.server_tables import SERVER

    data.mkdir(parents=True, exist_ok=True, mode=0o700)  # what is trained here is the user's own
    url = database or f"sqlite:///{data.absolute() / _DATABASE}"
    return ServerStore(Database(url, schema=SERVER, connections=8))


def serve(options: ServeOptions, *, progress: Callable[[str], None], on_ready: Callable[[Ready], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    progress: told what takes long, as it begins. on_ready: called when requests are taken.

    Raises:
        ConfigError: if the address is taken or open to others without keys, the folder is another server's, or an
            option is wrong.
        MissingExtraError: if a package is not installed.
        ModelError: if a model cannot be loaded.
        StoreError: if the database cannot be opened.
    """
    listening = _server_modules()
    options.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        _held(options.data),
        _store(options) as store,
        closing(listening.bind(options.host, options.port)) as listener,
    ):
        keys = tuple(key.name for key in store.keys.all() if key.revoked_at is None)
        loopback = _is_loopback(options.host)
        if not keys and not loopback and not options.any_key:
            raise ConfigError.of(
                "a server that others can reach needs keys: whoever reaches it could use it as its owner",
                where="--host",
                given=options.host,
                fix="Make one with: crucible keys create NAME; or say --insecure-any-key",
            )
        wiring = Wiring(find_manifest("local"), options={"torch": dict(options.engine)}, run_dir=options.data)
        with closing(wiring):
            served = _served(options, store, wiring)
            recovered = served.vault.recover()
            _load(served, progress)
            host, port = listener.getsockname()[:2]
            ready = Ready(
                url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
                models=tuple(options.models),
                data=options.data,
                keys=keys,
                recovered=recovered,
            )
            from crucible.server.metrics import measured_app

            listening.listen(
                lambda: measured_app(served, any_key=not keys, loopback=loopback),
                listener,
                on_ready=lambda: on_ready(ready),
            )
            progress("stopped; saved checkpoints are kept")


def _served(options: ServeOptions, store: "ServerStore", wiring: Wiring) -> "Served":
    from crucible.adapters.assets import crucible_home, resolve_model
    from crucible.adapters.blobs import LocalBlobStore
    from crucible.server.served import Served
    from crucible.server.vault import Vault

    hub = wiring.port("hub_client")
    training, sampling = wiring.port("training_client"), wiring.port("sampling_client")
    tokenizers = wiring.port("tokenizer_store")
    assert isinstance(hub, HubClient)
    assert isinstance(training, TrainingClient)
    assert isinstance(sampling, SamplingClient)
    assert isinstance(tokenizers, TokenizerStore)

    @cache
    def folder(reference: str) -> str:
        return str(resolve_model(reference, home=crucible_home(), hub=hub))

    return Served(
        models=options.models,
        training=training,
        sampling=sampling,
        tokenizers=tokenizers,
        tokenizer_folder=folder,
        store=store,
        vault=Vault(
            store=store,
            folder=options.data / "checkpoints",
            blobs=None if options.copies is None else LocalBlobStore(options.copies),
        ),
        limits=options.limits,
    )


def _load(served: "Served", progress: Callable[[str], None]) -> None:
    """Load every base model, and keep it: a session on each stays open as long as the engine.

    A token is drawn, so that what the engine does once for a model is done before the first request.
    """
    for name, reference in served.models.items():
        shown = name if name == reference else f"{name} ({reference})"
        progress(f"loading {shown}")
        session = served.sampling.start_session(base_model=reference).result()
        ids = served.tokenizers.load(reference).encode("a").ids
        served.sampling.sample(session, ModelInput.from_ints(ids), params=SamplingParams(max_tokens=1)).result()


def _server_modules() -> ModuleType:
    try:
        return import_module("crucible.server.listening")
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("serve", needed_by="a server", module=error.name or "uvicorn") from error


@contextmanager
def _held(data: Path) -> Generator[None]:
    """One server at a time in a data folder: a second one would take the first one's open weights for leftovers."""
    file = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError.of(
                "another server keeps its data here", where=str(data), fix="Stop it, or give another --data"
            ) from error
        yield
    finally:
        os.close(file)


@contextmanager
def _store(options: ServeOptions) -> "Generator[ServerStore]":
    """The database, this server's alone: a second one would end the first one's sessions."""
    from crucible.store.holding import held

    with (
        open_store(options.data, options.database) as store,
        held(store.database, number=_DATABASE_LOCK, by="another server"),
    ):
        yield store


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
