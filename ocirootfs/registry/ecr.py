"""Amazon's registries: their passwords come from an API of AWS, and boto3 knows who may call it.

Source: ECR API reference, GetAuthorizationToken: the answer is `AWS:password` in base64, good for twelve hours. The
account and the region are in the registry's name. Who calls is decided by boto3's chain: variables, a profile, which
may assume a role, a web identity, the container's or the machine's role.
"""

from __future__ import annotations

import base64
import binascii
import re

import boto3.session
import botocore.config
import botocore.exceptions

from ocirootfs.errors import AuthError, TemporaryError, printable

# awslabs/amazon-ecr-credential-helper, ecr-login/api/client.go
_HOST = re.compile(
    r"(?P<account>[0-9]{12})\.(?P<stack>dkr[.-]ecr)(?P<fips>-fips)?\.(?P<region>[a-z0-9][a-z0-9_-]*)\."
    r"(?:amazonaws\.(?:com(?:\.cn)?|eu)|on\.(?:aws|amazonwebservices\.com\.cn)"
    r"|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)",
    re.ASCII,
)
_HINT = "it asks as whom boto3 finds: AWS_PROFILE, AWS_ACCESS_KEY_ID, a role; with the right ecr:GetAuthorizationToken"


def ask(host: str) -> tuple[str, str] | None:
    """Return the user name and the password for a registry of ECR, None for any other host.

    AuthError if AWS gives none, in its words; TemporaryError if AWS cannot be asked.
    """
    match = _HOST.fullmatch(host)
    if not match:
        return None
    account, region = match["account"], match["region"]
    try:
        encoded = _token(account, region, fips=bool(match["fips"]), dual_stack=match["stack"] == "dkr-ecr")
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError) as error:
        raise TemporaryError(f"cannot ask AWS for a token of {host}: {printable(str(error))}") from error
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise AuthError(f"cannot get a token of {host} from AWS: {printable(str(error), 300)}", hint=_HINT) from error
    except (binascii.Error, UnicodeDecodeError, KeyError, IndexError):
        raise AuthError(f"cannot read the token of {host} that AWS gives") from None
    return (user, password) if colon and password else None


def _token(account: str, region: str, *, fips: bool, dual_stack: bool) -> str:
    config = botocore.config.Config(
        use_fips_endpoint=fips or None, use_dualstack_endpoint=dual_stack or None, connect_timeout=10, read_timeout=30
    )
    # A session of its own: boto3's shared one would remember whom it found first.
    client = boto3.session.Session().client("ecr", region_name=region, config=config)
    try:
        answer = client.get_authorization_token(registryIds=[account])
    finally:
        client.close()
    token: str = answer["authorizationData"][0]["authorizationToken"]
    return token
