"""Image archives and layouts.

`writer` writes the archive that goes through a pipe. `members` finds blobs by name in a directory, a tar file or a tar
stream; `ocilayout` and `dockersave` find an image among them, by what is in `index.json` or `manifest.json`.
"""
