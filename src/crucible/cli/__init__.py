"""How does a person use the kitchen from a terminal? One file per command, over the runtime's facade."""
