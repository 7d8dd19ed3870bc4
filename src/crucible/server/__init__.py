"""How does a program written for the `tinker` SDK run here? Against this HTTP server, over any backend's ports."""
