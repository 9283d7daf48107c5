"""Two uploads of one key at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.s3.client import ExistsError, make_client
from ocirootfs.s3.destination import S3Destination
from ocirootfs.s3.url import S3Options, S3Url

if TYPE_CHECKING:
    from tests.servers.moto import S3Endpoint


def assert_only_the_first_is_stored(bucket: S3Endpoint, data: bytes) -> None:
    """Upload twice under `fail`: the second is refused by a look, and by If-None-Match if the look came too early."""
    options = S3Options(endpoint_url=bucket.endpoint, part_size=5 * 1024**2, if_exists="fail")
    for blind, expected in ((False, None), (False, "exists: it came while"), (True, "PreconditionFailed")):
        client = make_client(options)
        if blind:
            client.meta.events.register("before-call.s3.HeadObject", _nothing_there)
        destination = S3Destination(S3Url(bucket.bucket, "a"), options, client)
        destination.write(data)
        if expected is None:
            destination.commit()
        else:
            with pytest.raises(ExistsError, match=expected):
                destination.commit()
        destination.abort()
        client.close()
    assert bucket.uploads() == []
    assert bucket.body("a") == data


def _nothing_there(**_: object) -> Any:
    return SimpleNamespace(status_code=404), {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
