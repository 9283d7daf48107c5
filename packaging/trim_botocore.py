"""Drop from an installed botocore the descriptions of all services that ocirootfs never speaks to.

    python packaging/trim_botocore.py DIRECTORY

DIRECTORY holds the package `botocore`, as `site-packages` does. Kept are S3, STS and ECR, what boto3's chain of
credentials asks (single sign-on), and the files that are no service's. That is for images and single files; a wheel
leaves other people's packages alone.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

SERVICES = frozenset(["s3", "sts", "ecr", "sso", "sso-oidc", "signin"])


def trim(packages: Path) -> int:
    """Remove the descriptions, and return how many services there were too many."""
    services = [path for path in (packages / "botocore" / "data").iterdir() if path.is_dir()]
    extra = [path for path in services if path.name not in SERVICES]
    for path in extra:
        shutil.rmtree(path)
    return len(extra)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "botocore", "data").is_dir():
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY, which holds botocore")
    print(f"{trim(Path(sys.argv[1]))} services removed")
