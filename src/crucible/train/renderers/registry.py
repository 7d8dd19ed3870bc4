"""Which renderer does a name mean?"""

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from crucible.errors import Problem, RendererError, did_you_mean
from crucible.ports.tokenizer import Tokenizer
from crucible.train.renderers.chatml import ChatMlRenderer, SmolLm2Renderer
from crucible.train.renderers.deepseek import (
    DeepSeekV3Renderer,
    DeepSeekV31Renderer,
    DeepSeekV31ThinkingRenderer,
)
from crucible.train.renderers.family import FamilyRenderer
from crucible.train.renderers.gemma3 import Gemma3Renderer
from crucible.train.renderers.gpt_oss import GptOssHighRenderer, GptOssLowRenderer, GptOssRenderer
from crucible.train.renderers.kimi import KimiK2Renderer, KimiK2UnverifiedRenderer
from crucible.train.renderers.llama3 import Llama3Renderer, Llama31Renderer, Llama32Renderer
from crucible.train.renderers.mistral import MistralV3Renderer
from crucible.train.renderers.mistral_v11 import MistralV11Renderer
from crucible.train.renderers.qwen3 import (
    Qwen3DisableThinkingRenderer,
    Qwen3InstructRenderer,
    Qwen3KeepThinkingRenderer,
    Qwen3Renderer,
)
from crucible.train.renderers.qwen3_5 import (
    Qwen35DisableThinkingRenderer,
    Qwen35KeepThinkingRenderer,
    Qwen35Renderer,
)
from crucible.train.renderers.renderer import Renderer
from crucible.train.renderers.role_colon import RoleColonRenderer
from crucible.train.renderers.template import TemplateRenderer

PLUGIN_GROUP = "crucible.renderers"
"""Entry points of this group add renderers: the name is the renderer's, the object a class or function that
takes a Tokenizer and gives a Renderer. A built-in name cannot be taken over."""

_INFERRED: tuple[type[FamilyRenderer], ...] = (
    Qwen3Renderer,
    Qwen3InstructRenderer,
    Llama31Renderer,
    Llama32Renderer,
    Llama3Renderer,
    Gemma3Renderer,
    MistralV11Renderer,
    MistralV3Renderer,
    Qwen35Renderer,
    Qwen35DisableThinkingRenderer,
    DeepSeekV31Renderer,
    DeepSeekV3Renderer,
    GptOssRenderer,
    SmolLm2Renderer,
    ChatMlRenderer,
)
"""Families that `auto` may take, the first that fits: those that write what the model's own template writes."""

_CHOSEN: tuple[type[Renderer], ...] = (
    Qwen3DisableThinkingRenderer,
    Qwen3KeepThinkingRenderer,
    Qwen35KeepThinkingRenderer,
    DeepSeekV31ThinkingRenderer,
    GptOssLowRenderer,
    GptOssHighRenderer,
    KimiK2Renderer,
    KimiK2UnverifiedRenderer,
    TemplateRenderer,
    RoleColonRenderer,
)
"""Those that are taken only by name, but for the last two, which serve every other model."""

_BUILT_IN: Mapping[str, Callable[[Tokenizer], Renderer]] = {kind.name: kind for kind in (*_INFERRED, *_CHOSEN)}

# Every renderer's name is a plain word; model references have a dash, a slash, a dot or a colon.
_RENDERER_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def renderer_problems(name_or_model: str) -> Iterable[Problem]:
    """What `get_renderer` would refuse whatever the tokenizer: a plain word that names no renderer."""
    known = ["auto", *_BUILT_IN, *(entry.name for entry in entry_points(group=PLUGIN_GROUP))]
    if _RENDERER_NAME.fullmatch(name_or_model) and name_or_model not in known:
        hint = did_you_mean(name_or_model, known)
        yield Problem(what="there is no such renderer", where="renderer", given=name_or_model, fix=hint)


def get_renderer(name_or_model: str, tokenizer: Tokenizer) -> Renderer:
    """The renderer of that name, or the one that fits a model.

    `auto`, or a model's reference (`smollm2-135m`, `org/model`, a path; anything but a plain lower-case word): the
    family whose tokens are those of the model's own chat template on a few short conversations; `template`, which
    runs the template itself, if there is none; `role_colon` for a model without a template.

    Raises:
        RendererError: if there is no such renderer, it does not fit the tokenizer, or its plug-in is broken.
    """
    if name_or_model == "auto" or not _RENDERER_NAME.fullmatch(name_or_model):
        return _inferred(tokenizer)
    if name_or_model in _BUILT_IN:
        return _BUILT_IN[name_or_model](tokenizer)
    problems = list(renderer_problems(name_or_model))
    if problems:
        raise RendererError(problems)
    plugins = {entry.name: entry for entry in entry_points(group=PLUGIN_GROUP)}
    return _from_plugin(plugins[name_or_model], tokenizer)


def _inferred(tokenizer: Tokenizer) -> Renderer:
    if tokenizer.chat_template is None:
        return RoleColonRenderer(tokenizer)
    for family in _INFERRED:
        try:
            return family(tokenizer)
        except RendererError:
            continue  # it does not fit: the next one may
    return TemplateRenderer(tokenizer)


def _from_plugin(entry: EntryPoint, tokenizer: Tokenizer) -> Renderer:
    try:
        factory = entry.load()
    except Exception as error:
        raise RendererError.of(
            f"the renderer's plug-in cannot be loaded: {error}", where="renderer", given=entry.value
        ) from error
    renderer = factory(tokenizer)
    if not isinstance(renderer, Renderer):
        raise RendererError.of("the plug-in does not give a Renderer", where="renderer", given=entry.value)
    return renderer
