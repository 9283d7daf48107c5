"""What Concourse makes of an archive: the rules of the S3 resource, the tools that it runs, the worker and the task.

Each module knows one of them and judges what it is shown; none reads anything by itself. `ocirootfs.checking` drives
them.
"""
