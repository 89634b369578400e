"""Raises while it is imported."""

settings = {}
width = settings["width"]
