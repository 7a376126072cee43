"""The laboratory: what made the figures in the docs. It is no part of the installed package.

One folder a room, started by the scripts beside this folder: ``python tools/reproduce.py …``.
"""
