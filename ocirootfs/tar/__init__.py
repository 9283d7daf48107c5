"""The tar codec: strict in, plain out.

`reader` turns the bytes of a tar stream into entries with their content, `writer` turns entries into header bytes.
`header` holds what both know of the 512-byte block, `pax` and `sparse` the extensions that a reader must expand.
"""
