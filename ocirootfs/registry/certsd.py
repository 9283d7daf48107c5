"""certs.d: the directories where docker, podman and skopeo keep certificates for one registry.

Source: containers-certs.d(5). Of `~/.config/containers/certs.d/HOST`, `/etc/containers/certs.d/HOST` and
`/etc/docker/certs.d/HOST`, HOST being `host[:port]`, the first that exists counts alone: `*.crt` are authorities, a
`NAME.cert` with its `NAME.key` proves to that host who we are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocirootfs.errors import UsageError, printable
from ocirootfs.reference import HUB, HUB_HOSTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class HostCertificates:
    """Files in PEM for one host: authorities to trust, and pairs of a certificate and its key to show."""

    authorities: tuple[Path, ...] = ()
    pairs: tuple[tuple[Path, Path], ...] = ()


def usual_directories(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the certs.d directories, most particular first."""
    home = environ.get("HOME")
    config = environ.get("XDG_CONFIG_HOME") or (home and f"{home}/.config")
    own = (Path(config, "containers/certs.d"),) if config else ()
    return (*own, Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def host_certificates(host: str, directories: Sequence[Path]) -> HostCertificates:
    """Return what `directories` hold for `host[:port]`: nothing where there is none, or none that may be read.

    UsageError if a certificate lacks its key, or a key its certificate.
    """
    for name in _names(host):
        for directory in directories:
            try:
                files = sorted(os.listdir(directory / name))  # its errors come at once
            except OSError:
                continue
            return _sorted_out(directory / name, files)
    return HostCertificates()


def _names(host: str) -> Iterator[str]:
    """Yield how the directory may be called: Docker Hub's has its name, and a default port may be written."""
    if host in HUB_HOSTS:
        yield HUB
    yield host
    if not host.rpartition("]")[2].partition(":")[2]:
        yield f"{host}:443"


def _sorted_out(folder: Path, files: Sequence[str]) -> HostCertificates:
    authorities = tuple(folder / name for name in files if name.endswith(".crt"))
    certificates = {name.removesuffix(".cert") for name in files if name.endswith(".cert")}
    keys = {name.removesuffix(".key") for name in files if name.endswith(".key")}
    if alone := sorted(certificates ^ keys):
        has, lacks = ("cert", "key") if alone[0] in certificates else ("key", "cert")
        where = printable(str(folder))
        raise UsageError(f"cannot use {where}: it has {printable(alone[0], 60)}.{has} without a .{lacks}")
    pairs = tuple((folder / f"{name}.cert", folder / f"{name}.key") for name in sorted(certificates))
    return HostCertificates(authorities, pairs)
