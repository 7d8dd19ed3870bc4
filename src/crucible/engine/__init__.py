"""How does a language model learn on this machine? LoRA sessions over one base model, in PyTorch.

`engine.Engine` is the door: a worker thread behind a queue, which imports torch on its first request.
Everything else here runs in that thread.
"""
