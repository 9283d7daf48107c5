"""Who asks: boto3's chain of credentials, and the role that they are to assume.

Sources: botocore's `credentials`; AWS SDKs and Tools Reference Guide, "Assume role credential provider".
"""

from __future__ import annotations

import os
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import credentials
from botocore import exceptions as boto

from ocirootfs.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Role(credentials.CredentialProvider):
    """The credentials of a role, which botocore asks STS for again before they expire.

    STS is where boto3 says: at AWS, or where AWS_ENDPOINT_URL_STS points.
    """

    METHOD = "assume-role"

    def __init__(self, source: Any, make_client: Callable[..., Any], arn: str) -> None:
        super().__init__()
        self._source = source
        self._make_client = make_client
        self._arn = arn

    def acting(self, profile: str | None) -> botocore.session.Session:
        """Return a session that asks as this role, and as nobody else."""
        session = botocore.session.Session(profile=profile)
        session.register_component("credential_provider", credentials.CredentialResolver([self]))
        return session

    def load(self) -> object:
        """Return the credentials; raises NoCredentialsError where nobody is there to assume the role."""
        if self._source is None:
            raise boto.NoCredentialsError
        session_name = {"RoleSessionName": "ocirootfs"}
        fetcher = credentials.AssumeRoleCredentialFetcher(
            self._make_client, self._source, self._arn, extra_args=session_name
        )
        return credentials.DeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)


def usable(session: botocore.session.Session) -> Any:
    """Return what credentials there are, which may be fetched when they are needed; None if there are none.

    Raises what botocore raises where it cannot have them, and AuthError for those that would not do: a header takes no
    line break, and who is asked for a code has to be there.
    """
    found = _asked(session)
    if type(found) is credentials.Credentials:
        _require_plain(found)
    elif found is not None and found.method == Role.METHOD and _wants_code(session) and not _has_terminal():
        raise AuthError(
            "cannot set up S3: the profile's role wants an MFA code, and there is no terminal to ask for it",
            hint="get credentials beforehand: aws configure export-credentials --format env",
        )
    return found


def _asked(session: botocore.session.Session) -> Any:
    """Ask botocore, for which an answer that is no JSON, or has no keys in it, is an internal error."""
    try:
        return session.get_credentials()
    except (KeyError, TypeError, AttributeError, JSONDecodeError) as error:
        raise AuthError("cannot set up S3: what gives credentials gave something else") from error


def _require_plain(found: credentials.Credentials) -> None:
    values = {
        "AWS_ACCESS_KEY_ID": found.access_key,
        "AWS_SECRET_ACCESS_KEY": found.secret_key,
        "AWS_SESSION_TOKEN": found.token,
    }
    for name, value in values.items():
        if value and (value != value.strip() or not value.isprintable()):
            where = name if found.method == "env" else f"{name.lower()} of {found.method}"
            raise AuthError(
                f"cannot set up S3: {where} holds a line break, a control character, or a space at an end",
                hint="a secret that was made with 'echo' ends with a line break: 'printf %s' writes none",
            )


def _wants_code(session: botocore.session.Session) -> bool:
    return any("mfa_serial" in profile for profile in _chain(session))


def _chain(session: botocore.session.Session) -> Iterator[Mapping[str, str]]:
    """Yield the profile, that whose credentials it uses, and so on."""
    profiles = dict(session.full_config.get("profiles", {}))
    name = session.get_config_variable("profile") or "default"
    while profile := profiles.pop(name, None):
        yield profile
        name = profile.get("source_profile", "")


def _has_terminal() -> bool:
    """Tell whether getpass would ask a person, and not read standard input, which may be an image."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
