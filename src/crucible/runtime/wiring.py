"""How do a manifest and overrides become ports? Defaults < manifest < explicit overrides."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from crucible.errors import ManifestError, Problem, did_you_mean
from crucible.ports import Port
from crucible.runtime.adapter_table import Environment, adapter_table
from crucible.runtime.manifests import DEFAULT_PORTS, Manifest

Override: TypeAlias = "str | Port | type[Port] | tuple[type[Port], Mapping[str, Any]]"
"""An adapter as a registered name, an instance, a class, or a class with its options."""

_BACKEND_PORTS = ("training_client", "sampling_client")


class Wiring:
    """The ports of one run. Names are checked when it is made; an adapter is made when it is first asked for."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        overrides: Mapping[str, Override] | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
        run_dir: Path | None = None,
    ) -> None:
        self._table = adapter_table()
        self._chosen: dict[str, Override] = {**DEFAULT_PORTS, **manifest.ports, **(overrides or {})}
        given = options or {}
        self._options = {
            name: {**manifest.options.get(name, {}), **given.get(name, {})} for name in {*manifest.options, *given}
        }
        self._run_dir = run_dir
        # A default that is a fake is nothing to refuse before a run asks it for work.
        named = {*manifest.ports, *(overrides or {})} if manifest.strict else set(self._chosen)
        self._strictly_absent = {port for port in DEFAULT_PORTS if port not in named and self._is_noop(port)}
        self._made: dict[str, Port] = {}
        self._shared: dict[str, Any] = {}
        problems = self._problems(manifest)
        if problems:
            raise ManifestError(problems)

    @property
    def names(self) -> dict[str, str]:
        """Port name to a short name of the adapter behind it, where there is one."""
        return {port: _shown(choice) for port, choice in self._chosen.items() if port not in self._strictly_absent}

    def port(self, name: str) -> Port:
        """The adapter behind a port, made on the first call.

        Raises:
            ManifestError: if its options are refused, or a strict manifest names none and the default is a fake.
            MissingExtraError: if it needs a package that is not installed.
        """
        if name in self._strictly_absent:
            real = sorted(adapter for adapter, entry in self._table[name].items() if not entry.noop)
            raise ManifestError.of(
                f"{name} is a fake by default, and this manifest is strict",
                fix=f"Name a real one: {', '.join(real) or 'none is installed'}",
            )
        if name not in self._made:
            self._made[name] = self._make(name, self._chosen[name])
        return self._made[name]

    def ports(self, names: tuple[str, ...]) -> dict[str, Port]:
        """Several ports by name."""
        return {name: self.port(name) for name in names}

    def recordable(self, options: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
        """Adapter options without their secrets: what a run's folder may hold."""
        secret = {
            (name, key) for entries in self._table.values() for name, entry in entries.items() for key in entry.secrets
        }
        return {
            name: {key: value for key, value in given.items() if (name, key) not in secret}
            for name, given in options.items()
        }

    def verify(self, names: Iterable[str]) -> None:
        """Find wrong option values now, by making those adapters behind the ports that were given options.

        Making an adapter reads no model and sends nothing.

        Raises:
            ManifestError: with every problem of every one of them.
            MissingExtraError: if one needs a package that is not installed.
        """
        problems: list[Problem] = []
        for name in names:
            choice = self._chosen[name]
            given = bool(self._options.get(choice)) if isinstance(choice, str) else isinstance(choice, tuple)
            if given or name in self._strictly_absent:
                try:
                    self.port(name)
                except ManifestError as error:
                    problems.extend(problem for problem in error.problems if problem not in problems)
        if problems:
            self.close()
            raise ManifestError(problems)

    def close(self) -> None:
        """Close every adapter that was made."""
        for port in self._made.values():
            port.close()
        for shared in self._shared.values():
            shared.close()

    def _make(self, name: str, choice: Override) -> Port:
        if isinstance(choice, Port):
            return choice
        if isinstance(choice, str):
            env = Environment(
                run_dir=self._run_dir, options=self._options.get(choice, {}), port=self.port, shared=self._share
            )
            return self._table[name][choice].load(env)
        nothing: Mapping[str, Any] = {}
        adapter, options = choice if isinstance(choice, tuple) else (choice, nothing)
        try:
            return adapter(**options)
        except TypeError as error:
            raise ManifestError.of(f"{adapter.__name__} cannot be made: {error}", where=name, given=options) from error

    def _is_noop(self, port: str) -> bool:
        """Whether a fake stands behind the port; one that the table does not know is not."""
        choice = self._chosen[port]
        if isinstance(choice, str):
            entry = self._table.get(port, {}).get(choice)
            return entry is not None and entry.noop
        return (choice[0] if isinstance(choice, tuple) else choice).is_noop

    def _share(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def _problems(self, manifest: Manifest) -> list[Problem]:
        where = f"manifest {manifest.name}"
        problems: list[Problem] = []
        for port, choice in self._chosen.items():
            if port not in self._table:
                problems.append(
                    Problem(what=f"there is no port {port!r}", where=where, fix=did_you_mean(port, self._table))
                )
            elif isinstance(choice, str) and choice not in self._table[port]:
                hint = did_you_mean(choice, self._table[port])
                problems.append(Problem(what=f"{port} has no adapter {choice!r}", where=where, fix=hint))
            elif manifest.strict and port not in self._strictly_absent and self._is_noop(port):
                problems.append(
                    Problem(what=f"{port} is a fake, and this manifest is strict", where=where, given=_shown(choice))
                )
        training, sampling = (self._chosen[port] for port in _BACKEND_PORTS)
        if isinstance(training, str) and isinstance(sampling, str) and training != sampling:
            problems.append(
                Problem(
                    what=f"training_client is {training} and sampling_client is {sampling}: the sampler could never "
                    "see the trained weights",
                    where=where,
                    fix="Name one backend for both",
                )
            )
        problems.extend(self._option_problems(where))
        return problems

    def _option_problems(self, where: str) -> list[Problem]:
        known: dict[str, set[str]] = {}
        for entries in self._table.values():
            for name, entry in entries.items():
                known.setdefault(name, set()).update(entry.options)
        problems: list[Problem] = []
        for name, options in self._options.items():
            if name not in known:
                problems.append(
                    Problem(what=f"options for an unknown adapter {name!r}", where=where, fix=did_you_mean(name, known))
                )
                continue
            problems.extend(
                Problem(what=f"{name} has no option {key!r}", where=where, fix=did_you_mean(key, known[name]))
                for key in options
                if key not in known[name]
            )
        return problems


def _shown(choice: Override) -> str:
    if isinstance(choice, str):
        return choice
    if isinstance(choice, tuple):
        return choice[0].adapter_name
    return choice.adapter_name
