"""Relations that hold rows: pushed sources, tables, and the catalog that names them.

A write becomes visible to every later snapshot at once, under one lock for the whole database (`commits`). A snapshot
(`memory`) only refers to immutable Arrow buffers, so it costs no copy, blocks nobody, and nothing written later can
change it.
"""
