"""Buckets: an archive becomes one object, the whole of it or none.

`url` is what a caller says of a bucket and how to reach it, without boto3. `destination` is the upload: `parts` cuts
the stream and sends parts side by side, `client` makes boto3's client and translates its exceptions, and `account` says
who asks.
"""
