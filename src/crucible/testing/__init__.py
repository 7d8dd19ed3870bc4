"""How does one test against the kitchen without a model, a network or a disk full of data?

`crucible.testing.fakes` has a deterministic fake per port (the `noop` adapters are these same classes);
`crucible.testing.contracts` has one pytest suite per port that every adapter passes, yours included.
"""
