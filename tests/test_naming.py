from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ocirootfs import versions
from ocirootfs.digest import Digest
from ocirootfs.errors import UsageError
from ocirootfs.image import Image
from ocirootfs.manifest import Config, Manifest, parse_manifest
from ocirootfs.naming import Naming
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference

DIGEST = Digest.of(b"")
MANIFEST = (
    b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":0},'
    b'"layers":[]}' % str(DIGEST).encode()
)


def image(name: str | None = "ghcr.io:5000/team/app:1.2", created: str | None = None, **labels: str) -> Image:
    config = Config(
        b"", Platform.parse("linux/arm/v7"), created, (), "", None, None, labels | {"org.x.version": "2.0"}, ()
    )
    manifest = parse_manifest(MANIFEST, "application/vnd.oci.image.manifest.v1+json", "it")
    assert isinstance(manifest, Manifest)
    return Image(config, (), manifest, Reference.parse(name) if name else None)


HEX = Digest.of(MANIFEST).hex


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain.tgz", "plain.tgz"),
        ("{{x}}", "{x}"),
        ("{name}", "app"),
        ("{repository}", "team/app"),
        ("{registry}", "ghcr.io-5000"),
        ("{tag}", "1.2"),
        ("{digest}", f"sha256-{HEX}"),
        ("{digest12}", HEX[:12]),
        ("{os}/{arch}/{variant}", "linux/arm/v7"),
        ("{created:%Y%m%d}", "20240229"),
        ("{created:%Y/%m}", "2024/02"),
        ("{created}", "20240229T223000Z"),
        ("{label:org.x.version}", "2.0"),
        ("{version}", "1.2"),
    ],
)
def test_fields(template: str, expected: str) -> None:
    assert Naming(image(created="2024-03-01T00:00:00+01:30")).expand(template) == expected


@pytest.mark.parametrize(
    "created", ["2024-02-29T22:30:00Z", "2024-02-29T22:30:00.123456789Z", "2024-03-01T00:00:00.5+01:30"]
)
def test_times_are_utc(created: str) -> None:
    assert Naming(image(created=created)).expand("{created:%Y-%m-%dT%H%M}") == "2024-02-29T2230"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.0+build", "1.0+build"),
        ("../../etc/passwd", "-..-etc-passwd".lstrip("-.")),
        ("..", None),
        (".hidden", "hidden"),
        ("-o", "o"),
        ("/", None),
        ("", None),
        ("a/b", "a-b"),
        ("a\nb\x00c", "a-b-c"),
        ("$(reboot)", "reboot"),
        ("a b\u202ec", "a-b-c"),
        ("x" * 10_000, "x" * 128),
        ("{tag}", "tag"),
    ],
)
def test_what_a_label_says_stays_in_its_place(value: str, expected: str | None) -> None:
    names = Naming(image(x=value))
    if expected is None:
        with pytest.raises(UsageError, match="nothing to put in"):
            names.expand("prefix/{label:x}.tgz")
    else:
        assert names.expand("prefix/{label:x}.tgz") == f"prefix/{expected}.tgz"


@pytest.mark.parametrize(
    ("template", "without"),
    [
        ("{tag}", image("app@sha256:" + 64 * "0")),
        ("{name}", image(None)),
        ("{repository}", image(None)),
        ("{registry}", image(None)),
        ("{digest}", replace(image(), manifest=None)),
        ("{digest12}", replace(image(), manifest=None)),
        ("{created}", image()),
        ("{created}", image(created="yesterday")),
        ("{label:none}", image()),
    ],
)
def test_what_an_image_has_not(template: str, without: Image) -> None:
    with pytest.raises(UsageError, match="nothing to put in"):
        Naming(without).expand(template)


@pytest.mark.parametrize(
    "template",
    ["{", "}", "{}", "{nome}", "{name!r}", "{name:10}", "{label}", "{label:}", "{label:{tag}}", "{0}", "{name.x}"],
)
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(UsageError) as caught:
        Naming(image()).expand(template)
    assert "{digest12}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("version_as", "expected"),
    [
        ("{tag}", "1.2"),
        ("17.4", "17.4"),
        ("{tag}-{created:%Y%m%d}", "1.2-20240229"),
        ("{label:org.x.version}", "2.0"),
        ("{digest}:x", UsageError),
        ("{version}", UsageError),
        ("", UsageError),
        ("{label:none}", UsageError),
    ],
)
def test_the_version(version_as: str, expected: Any) -> None:
    names = Naming(image(created="2024-02-29T22:30:00Z"), version_as)
    if isinstance(expected, str):
        assert names.expand("{name}-{version}.tgz") == f"app-{expected}.tgz"
    else:
        with pytest.raises(expected):
            names.expand("{name}-{version}.tgz")


# What Concourse's S3 resource makes of a name. The lists are what semi-semantic's own parser takes and refuses.


@pytest.mark.parametrize(
    "version",
    ["1", "17.04", "1.2.3-rc.1", "1.2.3+20240101", "latest", "v9.0", "17.04_amd64", "1-a-b", "9223372036854775807"],
)
def test_versions(version: str) -> None:
    assert versions.fault(version) is None


@pytest.mark.parametrize(
    "version",
    ["", "1.0.0-sha256:abc", "1..2", "1.2.", "3.0.0~rc", "a b", "99999999999999999999", "1+2+3", "é", "1.0-a..b"],
)
def test_what_is_no_version(version: str) -> None:
    assert versions.fault(version)


@pytest.mark.parametrize(
    ("key", "known", "regexp", "version"),
    [
        ("ubuntu/ubuntu-17.04.tgz", ["17.04"], r"ubuntu/ubuntu-(.*)\.tgz", "17.04"),
        ("ubuntu/ubuntu-17.04.tar.gz", [], r"ubuntu/ubuntu-(.*)\.tar\.gz", "17.04"),
        ("a.b/c+d-v1-rc.tar", [], r"a\.b/c\+d-(.*)\.tar", "v1-rc"),
        ("alpine-edge.tgz", ["edge"], r"alpine-(.*)\.tgz", "edge"),
        ("app/1.2.tgz", ["1.2"], r"app/(.*)\.tgz", "1.2"),
        ("app-1.2-20240101.tgz", ["1.2-20240101", "1.2"], r"app-(.*)\.tgz", "1.2-20240101"),
    ],
)
def test_the_regexp_for_a_key(key: str, known: list[str], regexp: str, version: str) -> None:
    assert versions.pattern(key, known) == (regexp, version)


@pytest.mark.parametrize("key", ["app/release.tgz", "app.tgz", "app-latest.tgz"])
def test_a_key_without_a_version(key: str) -> None:
    assert versions.pattern(key, ["1.2", None]) is None
