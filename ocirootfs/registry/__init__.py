"""The registry client: references in, images out.

`client` is what callers use. Below it, `auth` answers challenges (`challenge` parses them) with what `credentials`
finds (`credhelper` asks docker's helpers, `ecr` AWS); `mirror` says where else an image may be; `transport` sends
requests over `connections` and follows redirects, with `origin` deciding who may see a credential, `retry` how often to
try, `trust` and `certsd` which certificates to believe, `netfailure` and `complaint` what to say when it fails, and
`warnheader` what a registry wants to be known; `blob` reads what may break off and goes on.
"""

from ocirootfs.registry.client import Registry

__all__ = ["Registry"]
