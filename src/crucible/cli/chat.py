"""`crucible chat RUN_DIR`: what does the trained model say?"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from crucible.cli.arguments import Options, OwnManifestName, adapter_options
from crucible.runtime.conversing import Partner, meet
from crucible.runtime.facade import build_ports
from crucible.runtime.finished import open_run
from crucible.telemetry.terminal import Terminal
from crucible.train.messages import Message


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("chat")
    def chat(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        run_dir: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN_DIR")],
        compare: Annotated[bool, typer.Option("--compare", help="Show the base model's answer beside it.")] = False,
        message: Annotated[
            str | None, typer.Option("--message", help="Say this, print the answer and leave.", metavar="TEXT")
        ] = None,
        max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")] = 256,
        temperature: Annotated[
            float, typer.Option("--temperature", min=0.0, help="0 always takes the likeliest.")
        ] = 0.7,
        seed: Annotated[int | None, typer.Option("--seed", help="Makes the answers repeat.")] = None,
        manifest: OwnManifestName = None,
        option: Options = None,
    ) -> None:
        """Talk to the trained model in the terminal. An empty line or Ctrl-D leaves."""
        run = open_run(run_dir)
        if note := run.weights_note:
            Terminal(stderr=True, soft_wrap=True).print(f"note: {note}")
        wiring = build_ports(manifest or run.manifest, options=adapter_options(option), run_dir=run_dir)
        # The prompt is read outside the loop, which would keep Ctrl-C from it.
        with closing(wiring), asyncio.Runner() as loop:
            partners = {"trained": loop.run(meet(run, wiring))}
            if compare:
                partners["base"] = loop.run(meet(run, wiring, base=True))
            talk = _Talk(partners, max_tokens=max_tokens, temperature=temperature, seed=seed)
            for text in _typed() if message is None else [message]:
                loop.run(talk.say(text))
            for partner in partners.values():
                loop.run(partner.leave())


def _typed() -> Iterator[str]:
    """What the person types, up to an empty line or the end of the input."""
    console = Terminal()
    console.print("Type a message; an empty line leaves.", style="dim")
    while sys.stdin is not None:  # None where the input was closed
        try:
            text = console.input(Text("you ", style="bold cyan"))
        except EOFError:
            console.print()
            return
        if not text.strip():
            return
        yield text


class _Talk:
    """A conversation in progress. With two partners, each keeps its own."""

    def __init__(self, partners: dict[str, Partner], *, max_tokens: int, temperature: float, seed: int | None) -> None:
        self._partners = partners
        self._max_tokens, self._temperature, self._seed = max_tokens, temperature, seed
        self._histories: dict[str, list[Message]] = {name: [] for name in partners}
        self._console = Terminal()

    async def say(self, text: str) -> None:
        """Say one thing to every partner and print what each answers."""
        for name, partner in self._partners.items():
            history = self._histories[name]
            history.append({"role": "user", "content": text})
            # Live: in a terminal alone, and gone when the whole answer is printed.
            with Live(_panel("", f"{name} is writing"), console=self._console, transient=True) as live:
                answer = await partner.reply(
                    history,
                    max_tokens=self._max_tokens,
                    temperature=self._temperature,
                    seed=self._seed,
                    on_text=lambda text, live=live, title=f"{name} is writing": live.update(_panel(text, title)),
                )
            history.append(answer.message)
            note = "" if answer.ended in ("stop", "eos") else f" (ended: {answer.ended})"
            self._console.print(_panel(str(answer.message["content"]), f"{name}{note}"))


def _panel(text: str, title: str) -> Panel:
    return Panel(Text(text), title=title, title_align="left")
