"""The live page: a process of its own, which knows the session by what it is told, and needs no torch."""
