"""Pictures of what a model sees; each kind is a module with a `draw`: fana, attention, retrieval, clusters, eps.

The kinds share `search` (the gallery search), `drawing` (the sheet) and `album` (the files).
"""
