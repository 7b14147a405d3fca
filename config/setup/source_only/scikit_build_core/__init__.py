"""Stands in for PocketSphinx's Python build system while pip fetches its source.

pip asks a source's build system what the package is called before it keeps the file. This answers, so that nothing is built, nothing else
is fetched, and no code of the package runs before its hash was checked.
"""
