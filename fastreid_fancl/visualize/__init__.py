"""Pictures of what a model sees: a module a kind (`fana`, `attention`, `retrieval`, `clusters`), each with a `draw`.

`origin` is the run that a picture is of, `search` the gallery search, `drawing` the sheet, `album` the files.
"""
