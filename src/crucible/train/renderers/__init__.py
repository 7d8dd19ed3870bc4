"""How does a conversation become tokens with loss weights, and a sampled response a message again?"""

from crucible.train.renderers.registry import get_renderer as get_renderer
from crucible.train.renderers.registry import renderer_problems as renderer_problems
from crucible.train.renderers.renderer import Ending as Ending
from crucible.train.renderers.renderer import ParsedResponse as ParsedResponse
from crucible.train.renderers.renderer import RenderedExample as RenderedExample
from crucible.train.renderers.renderer import Renderer as Renderer
from crucible.train.renderers.renderer import RewrittenHistory as RewrittenHistory
from crucible.train.renderers.renderer import Span as Span
from crucible.train.renderers.train_on import TrainOn as TrainOn

__all__ = [
    "Ending",
    "ParsedResponse",
    "RenderedExample",
    "Renderer",
    "RewrittenHistory",
    "Span",
    "TrainOn",
    "get_renderer",
    "renderer_problems",
]
