"""Is an answer told while it is drawn, and is what was told how it begins?"""

import asyncio
from pathlib import Path

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.runtime.conversing import Partner
from crucible.train.messages import text_of
from crucible.train.renderers import get_renderer


def test_an_answer_is_told_as_it_grows(tiny_model: Path, tmp_path: Path) -> None:
    store = HfTokenizerStore(resolve_model=Path)
    backend = TorchBackend(checkpoint_dir=tmp_path, resolve_model=Path, tokenizers=store, device="cpu", threads=1)
    sampling, told = backend.sampling_client, []

    async def talk() -> tuple[str, str]:
        session = await sampling.start_session(base_model=str(tiny_model))
        partner = Partner(
            sampling=sampling, session=session, renderer=get_renderer("auto", store.load(str(tiny_model)))
        )
        asked = [{"role": "user", "content": "hi"}]
        quiet = await partner.reply(asked, max_tokens=300, temperature=2.0, seed=2)
        heard = await partner.reply(asked, max_tokens=300, temperature=2.0, seed=2, on_text=told.append)
        await partner.leave()
        return text_of(quiet.message), text_of(heard.message)

    try:
        quiet, heard = asyncio.run(talk())
    finally:
        backend.close()
    assert quiet == heard
    assert len(told) > 2 and told[-1]
    assert all(heard.startswith(text) for text in told)
    assert [len(text) for text in told] == sorted(len(text) for text in told)
