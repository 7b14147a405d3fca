"""Replaces PocketSphinx's Python build system while pip fetches its source.

pip asks the build system of a source for the package's name before it keeps the file. With this
module nothing is built, nothing else is fetched, and no code of the package runs before its hash is
checked.
"""
