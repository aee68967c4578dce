"""Pictures of what a model sees; each kind is a module with a `draw`.

The kinds: fana, attention, retrieval, clusters, eps, matches.

The kinds share `search` (the gallery search), `drawing` (the sheet) and `album` (the files).
"""
