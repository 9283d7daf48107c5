"""The library's types, as programs see them: read by mypy, here and by `.ci/package` against the installed wheel."""
