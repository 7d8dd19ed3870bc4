"""How do the binary bodies of the Tinker API become the ports' values, and back?

`messages.proto` states the format; `messages_pb2.py` is made from it (see CONTRIBUTING.md) and never edited.
"""
