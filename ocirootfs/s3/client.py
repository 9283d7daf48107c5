"""The only module that imports boto3: clients, and what their exceptions mean.

Sources: botocore's Config reference; AWS SDKs and Tools Reference Guide ("Data Integrity Protections for Amazon S3",
"Service-specific endpoints"); Amazon S3 API Reference, "Error responses".
"""

from __future__ import annotations

import os
import re
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3.session
import botocore
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from ocirootfs.errors import (
    AuthError,
    DestinationError,
    InputError,
    LocalError,
    NotFoundError,
    OcirootfsError,
    TemporaryError,
    UsageError,
    printable,
)
from ocirootfs.s3.account import Role, usable
from ocirootfs.s3.skew import ALLOWED, Clock, offset, told
from ocirootfs.s3.url import bare, require_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_s3 import S3Client

    from ocirootfs.s3.url import S3Options, S3Url

_ATTEMPTS = 10
# OpenSSL's words for a peer that answers in plain HTTP.
_PLAIN = frozenset(["WRONG_VERSION_NUMBER", "HTTP_REQUEST"])
_CHECKSUM_SETTINGS = ("request_checksum_calculation", "response_checksum_validation")


def make_client(options: S3Options, *, monotonic: Callable[[], float] = time.monotonic) -> S3Client:
    """Make an S3 client from `options`, then boto3's own environment, profile and credential chain.

    Makes no connection to the store. Raises UsageError for a profile or a setting that boto3 refuses, or an endpoint
    that holds a password, wherever it is named; AuthError for a role that nobody is there to assume, and for
    credentials that cannot be had, or not be used.
    """
    try:
        session = botocore.session.Session(profile=options.profile)
        client = _client(session, options)
    except _NO_CREDENTIALS as error:
        raise AuthError(f"cannot set up S3: {_nobody(error)}", hint=_HOW_TO_BE_SOMEBODY) from None
    except (FileNotFoundError, PermissionError) as error:
        raise _closed("set up S3", error) from error
    except (boto.BotoCoreError, ValueError) as error:
        raise UsageError(f"cannot set up S3: {_said(error)}") from (None if _holds_url(error) else error)
    if not options.insecure and client.meta.endpoint_url.startswith("https:"):
        _require_authorities(options.ca_file or session.get_config_variable("ca_bundle"))
    patience = _Patience(options.retry_for, monotonic)
    client.meta.events.register("before-call.s3", patience.begin)
    client.meta.events.register_first("needs-retry.s3", patience.judge)
    Clock().attach(client.meta.events)
    return client


def _client(session: botocore.session.Session, options: S3Options) -> S3Client:
    region = options.region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    verify = False if options.insecure else options.ca_file
    found = None if options.no_sign_request else usable(session)
    if options.role_arn is not None:
        role = Role(found, partial(session.create_client, region_name=region, verify=verify), options.role_arn)
        session = role.acting(options.profile)
    maker = boto3.session.Session(botocore_session=session, region_name=region)
    config = _config(session, options)
    client = maker.client("s3", endpoint_url=options.endpoint_url, verify=verify, config=config)
    require_endpoint(client.meta.endpoint_url)  # the environment or the profile may have named it
    if options.checksums == "auto":
        settings: dict[str, Any] = {"ignore_configured_endpoint_urls": True}  # unknown to the type stubs
        amazon = maker.client("s3", config=Config(**settings))
        quiet = _unconfigured(session, dict.fromkeys(_CHECKSUM_SETTINGS, "when_required"))
        # Since boto3 1.36 every upload carries a CRC, over TLS as a chunked trailer, which Ceph, older MinIO and
        # others refuse (boto3 issues 4392, 4398). Whoever names an endpoint most likely has such a store.
        if quiet and client.meta.endpoint_url != amazon.meta.endpoint_url:
            config = config.merge(Config(**quiet))
            client = maker.client("s3", endpoint_url=options.endpoint_url, verify=verify, config=config)
    return client


def _require_authorities(path: str | os.PathLike[str] | None) -> None:
    """Try a file of certificates (botocore's default is REQUESTS_CA_BUNDLE, or a file of its own).

    UsageError if it cannot be used: botocore would find out with each request, and try again.
    """
    path = path or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        if path:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(
            f"cannot use the CA file {printable(os.fspath(path or ''))}: {reason}",
            hint="--ca-file, AWS_CA_BUNDLE, or REQUESTS_CA_BUNDLE names it",
        ) from None


def _config(session: botocore.session.Session, options: S3Options) -> Config:
    settings: dict[str, Any] = {
        "connect_timeout": 10,
        "read_timeout": 60,
        "max_pool_connections": options.jobs + 2,
        "retries": _unconfigured(
            session,
            {"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            {"total_max_attempts": "max_attempts", "mode": "retry_mode"},
        ),
    }
    if options.addressing != "auto":
        settings["s3"] = {"addressing_style": options.addressing}
    if options.checksums != "auto":
        settings |= dict.fromkeys(_CHECKSUM_SETTINGS, options.checksums.replace("-", "_"))
    if options.no_sign_request:
        settings["signature_version"] = botocore.UNSIGNED
    return Config(**settings)


def _unconfigured(
    session: botocore.session.Session, wanted: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what of `wanted` neither the environment nor the profile has a say in.

    A Config outranks both. `names` are those that the profile uses where they differ from the Config's.
    """
    profile = session.get_scoped_config()

    def configured(setting: str) -> bool:
        name = (names or {}).get(setting, setting)
        return name in profile or f"AWS_{name.upper()}" in os.environ

    return {setting: value for setting, value in wanted.items() if not configured(setting)}


class _Patience:
    """Ends botocore's retries of a request when they have taken `seconds`, or would change nothing."""

    _BEGAN = "ocirootfs-began"

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic

    def begin(self, context: dict[str, Any], **_: object) -> None:
        """Note when a request is first tried."""
        context[self._BEGAN] = self._monotonic()

    def judge(
        self,
        request_dict: Mapping[str, Any],
        operation: Any,  # botocore's OperationModel
        response: tuple[Any, Any] | None = None,
        caught_exception: Exception | None = None,
        **_: object,
    ) -> None:
        """Raise what a try ended with instead of trying again."""
        if caught_exception is not None and (_certificate_fault(caught_exception) or _is_plain(caught_exception)):
            raise caught_exception
        if response is not None and _leads_elsewhere(response[0].status_code, response[1]):
            raise boto.ClientError(response[1], operation.name)
        if self._monotonic() - request_dict["context"].get(self._BEGAN, float("inf")) < self._seconds:
            return
        if caught_exception is not None:
            raise caught_exception
        if response is not None and response[0].status_code >= 300:
            raise boto.ClientError(response[1], operation.name)


def _leads_elsewhere(status: int, answer: Mapping[str, Any]) -> bool:
    """Tell a redirect that is not S3's: that names the bucket's region, and botocore goes there."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    is_amazons = "x-amz-bucket-region" in headers or str(answer.get("Error", {}).get("Code", "")).endswith("Redirect")
    return status in (301, 302, 303, 307, 308) and "location" in headers and not is_amazons


_HOW_TO_BE_SOMEBODY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or --profile, or use --no-sign-request"
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
)
# Who gives none, by botocore's names.
_GIVERS = {
    "container-role": "AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI leads to none",
    "custom-process": "the credential_process failed",
}


def _nobody(error: boto.BotoCoreError) -> str:
    """Say that there are no credentials, without botocore's text: that may be what a program printed."""
    if isinstance(error, boto.PartialCredentialsError):
        return printable(str(error))
    why = _GIVERS.get(error.kwargs.get("provider", ""))
    return "no usable credentials were found" + (f": {why}" if why else "")


def _closed(doing: str, error: OSError) -> LocalError:
    """Say which file cannot be had; those that are asked for here are credentials'."""
    return LocalError(
        f"cannot {doing}: its credentials need '{printable(str(error.filename))}': {error.strerror}",
        hint="AWS_WEB_IDENTITY_TOKEN_FILE, credential_process, or another setting of boto3 names it",
    )


class ExistsError(DestinationError):
    """There is an object at that key, and it was not to be replaced."""


class ForbiddenError(AuthError):
    """We may not look: the answer to a HEAD has no body, and so no reason."""


class UnknownHeaderError(DestinationError):
    """The store does not implement something that a header asked for."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """What a bucket says of one object: its size in bytes, its ETag without quotes, and the metadata it came with."""

    size: int
    etag: str | None
    version_id: str | None
    metadata: Mapping[str, str]


def head(client: S3Client, url: S3Url, options: S3Options) -> S3Object | None:
    """Look at the object at `url`; None if there is none (or no such bucket: a HEAD cannot tell)."""
    owner = {} if options.expected_bucket_owner is None else {"ExpectedBucketOwner": options.expected_bucket_owner}
    where: dict[str, Any] = {"Bucket": url.bucket, "Key": url.key, **owner}
    try:
        with translated(url, "look at"):
            try:
                found = client.head_object(**where)
            except boto.ClientError as error:
                if error.response.get("Error", {}).get("Code") == "400":  # of a session that has ended, for one
                    client.get_object(**where, Range="bytes=0-0")["Body"].close()  # which says why
                raise
            size = found["ContentLength"]
    except NotFoundError:
        return None
    metadata = {name.lower(): value for name, value in found["Metadata"].items()}
    return S3Object(size, found.get("ETag", "").strip('"') or None, found.get("VersionId"), metadata)


@contextmanager
def translated(url: S3Url, doing: str, *, needs: str | None = None) -> Iterator[None]:
    """Turn what botocore raises into our errors; `doing` is a verb for `url`, `needs` the permission that it takes.

    A KeyError is the answer's, which lacks what it must have: botocore looks into those of STS as we do into S3's.
    The text holds the store's code and message, never botocore's own text, which can hold a signed URL.
    """
    try:
        yield
    except boto.ClientError as error:
        raise _refusal(url, doing, error, needs) from error
    except _NO_CREDENTIALS as error:  # what a program for credentials complained of may hold some
        raise AuthError(f"cannot {doing} {url}: {_nobody(error)}", hint=_HOW_TO_BE_SOMEBODY) from None
    except boto.BotoCoreError as error:
        raise _no_answer(url, doing, error) from error
    except (FileNotFoundError, PermissionError) as error:  # credentials that are fetched when they are needed
        raise _closed(f"{doing} {url}", error) from error
    except ValueError as error:
        if not _holds_url(error):  # an endpoint for STS that is none
            raise
        raise UsageError(f"cannot {doing} {url}: {_said(error)}", hint="check AWS_ENDPOINT_URL_STS") from None
    except (KeyError, ResponseParserError) as error:
        raise _stranger(url, doing, error) from error
    except RecursionError:  # botocore asks whoever redirects it where to go, and is redirected
        raise DestinationError(
            f"cannot {doing} {url}: the store redirects in circles", hint="check --endpoint-url and --region"
        ) from None


_CHECKSUM_HINT = "a store that does not know boto3's checksums needs '--s3-checksums when-required'"
_TEMPORARY = (TemporaryError, None)

# Codes whose status alone would mislead, or of which there is more to say.
_KNOWN: Mapping[str, tuple[type[OcirootfsError], str | None]] = {
    "NoSuchBucket": (NotFoundError, "create the bucket, or check --endpoint-url and --region"),
    "AccessDenied": (AuthError, "the credentials need s3:PutObject and s3:AbortMultipartUpload for this key"),
    "InvalidAccessKeyId": (AuthError, "check AWS_ACCESS_KEY_ID: this store does not know it"),
    "SignatureDoesNotMatch": (AuthError, "check AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": (AuthError, "the session has ended: get new credentials"),
    "InvalidToken": (AuthError, "check AWS_SESSION_TOKEN"),
    "RequestTimeTooSkewed": (AuthError, "this machine's clock is off by more than 15 minutes: set it"),  # see _refusal
    "AuthorizationHeaderMalformed": (AuthError, "check --region"),
    "PermanentRedirect": (DestinationError, "the bucket is in another region: check --region"),
    "PreconditionFailed": (ExistsError, "the object exists, and replacing it was ruled out"),
    "ConditionalRequestConflict": (TemporaryError, "another upload to this key is under way"),
    "403": (ForbiddenError, "looking needs s3:GetObject, and s3:ListBucket where the object does not exist"),
    "MissingContentLength": (DestinationError, _CHECKSUM_HINT),
    "NotImplemented": (UnknownHeaderError, f"{_CHECKSUM_HINT}; --sse, --acl, --s3-tag may be unknown, too"),
    "NoSuchUpload": (TemporaryError, "somebody, or a lifecycle rule, removed the upload"),
    "BadDigest": (TemporaryError, "the bytes were altered on the way"),
    "QuotaExceeded": (DestinationError, "the bucket's quota, or its owner's, is full"),  # Ceph's, with status 403
    "OperationAborted": _TEMPORARY,
    "RequestTimeout": _TEMPORARY,
    "SlowDown": _TEMPORARY,
    "Throttling": _TEMPORARY,
    "InternalError": _TEMPORARY,
}


def _refusal(url: S3Url, doing: str, error: boto.ClientError, needs: str | None) -> OcirootfsError:
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind, hint = _KNOWN.get(code) or (_by_status(status), None)
    if needs is not None and code == "AccessDenied":
        hint = f"the credentials need {needs}"
    if error.operation_name == "AssumeRole":
        doing, hint = f"assume the role to {doing}", "check --role-arn, its trust policy, and who asks for it"
    ahead = offset(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
    if code in ("RequestTimeTooSkewed", "403") and ahead is not None and abs(ahead) > ALLOWED:
        hint = f"{told(ahead)}, too far to make up for it: set it"
    said = ": ".join(filter(None, (printable(code, 60), printable(message.rstrip(". ")))))
    if _leads_elsewhere(status, error.response):
        to = _origin(error.response["ResponseMetadata"]["HTTPHeaders"]["location"]) or "another path"
        said, hint = f"the store redirects to {to}", "is that the endpoint? see --endpoint-url"
    return kind(f"cannot {doing} {url}: {said or status}", hint=hint)


def _by_status(status: int) -> type[OcirootfsError]:
    if status in (401, 403):
        return AuthError
    if status == 404:
        return NotFoundError
    if status in (408, 429, 500, 502, 503, 504):
        return TemporaryError
    return DestinationError


class NoStoreError(DestinationError):
    """What answers is no S3."""


def _stranger(url: S3Url, doing: str, error: Exception) -> NoStoreError:
    name = printable(str(error.args[0]), 60) if isinstance(error, KeyError) else ""
    what = f"its answer has no {name}" if name else "its answer is not XML"
    if name == "Credentials" or name.startswith("AssumeRole"):
        return NoStoreError(f"cannot {doing} {url}: what answers is no STS: {what}", hint="check AWS_ENDPOINT_URL_STS")
    hint = "check --endpoint-url" if name else "check --endpoint-url, and AWS_ENDPOINT_URL_STS where a role is assumed"
    return NoStoreError(f"cannot {doing} {url}: what answers is no S3: {what}", hint=hint)


def endless(url: S3Url) -> NoStoreError:
    """Say that a listing does not lead to its end."""
    return NoStoreError(
        f"cannot list {url}: what answers is no S3: its listing has no end", hint="check --endpoint-url"
    )


def _no_answer(url: S3Url, doing: str, error: boto.BotoCoreError) -> OcirootfsError:
    if fault := _certificate_fault(error):
        return TemporaryError(
            f"cannot {doing} {url}: the store's certificate is not trusted: {printable(fault.verify_message)}",
            hint="--ca-file names the authority that signed it",
        )
    if isinstance(error, boto.PaginationError):
        return endless(url)
    if isinstance(error, boto.FlexibleChecksumError):
        return InputError(f"cannot {doing} {url}: its bytes are not those of the checksum that the store has")
    if _is_plain(error):
        return TemporaryError(
            f"cannot {doing} {url}{_endpoint(error)}: plain HTTP was the answer to an HTTPS request",
            hint="a store without TLS has an endpoint that begins with http://",
        )
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | boto.IncompleteReadError):
        return TemporaryError(
            f"cannot {doing} {url}{_endpoint(error)}: {_root_cause(error)}",
            hint="check --endpoint-url or AWS_ENDPOINT_URL_S3, its name in DNS, firewalls, and HTTPS_PROXY",
        )
    return UsageError(f"cannot {doing} {url}: {_said(error)}")


def _said(error: Exception) -> str:
    """Return botocore's text as far as it is no URL, which may hold a password or a signature."""
    text = str(error)
    return printable(re.split("[:`'\"]", text)[0].strip() if _holds_url(error) else text)


def _holds_url(error: Exception) -> bool:
    return "://" in str(error) or "@" in str(error)


def _endpoint(error: boto.BotoCoreError) -> str:
    """Name the endpoint that did not answer."""
    found = _origin(str(error.kwargs.get("endpoint_url", "")))
    return f" at {found}" if found else ""


def _origin(url: str) -> str:
    """Return a URL's scheme and host; what follows may be a query that nobody should see."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return printable(bare(f"{parts.scheme}://{parts.netloc}")) if parts.netloc else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what lies beneath it; botocore and urllib3 keep that in three places."""
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        seen.append(cause)
        yield cause
        kept = getattr(cause, "kwargs", {})
        queue += [kept.get("error"), getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def _certificate_fault(error: BaseException) -> ssl.SSLCertVerificationError | None:
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _is_plain(error: BaseException) -> bool:
    """Tell whether who was asked over TLS has none."""
    return any(isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN for cause in _causes(error))


def _root_cause(error: BaseException) -> str:
    """Name the operating system's reason, or else botocore's kind of trouble; neither holds a URL."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return f"TLS: {printable(cause.reason.lower().replace('_', ' '))}"
        if isinstance(cause, OSError) and cause.strerror:
            return printable(cause.strerror)
    return f"the connection failed ({type(error).__name__})"
