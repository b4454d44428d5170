"""The only I/O: how the client reaches engines, engines each other."""
