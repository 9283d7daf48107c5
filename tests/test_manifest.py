"""Manifests, indexes and configs: what is read, and what is refused with what words."""

from __future__ import annotations

import base64
import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.digest import Digest
from ocirootfs.errors import InputError, NotFoundError
from ocirootfs.limits import USUAL
from ocirootfs.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
    candidates,
    parse_config,
    parse_manifest,
    select,
)
from ocirootfs.platform import Platform

AMD64 = Platform.parse("amd64")


def descriptor(data: bytes, media_type: str = OCI_LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(b"{}", OCI_CONFIG),
        "layers": [descriptor(b"one"), descriptor(b"two", OCI_LAYER + "+gzip")],
        **more,
    }


def index(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **more}


def entry(platform: str | None, media_type: str = OCI_MANIFEST, **more: Any) -> dict[str, Any]:
    data = f"{platform}{media_type}{more}".encode()
    if platform is None:
        return descriptor(data, media_type, **more)
    names = zip(("os", "architecture", "variant"), platform.split("/"), strict=False)
    return descriptor(data, media_type, platform=dict(names), **more)


def parsed(document: dict[str, Any], media_type: str | None = None) -> Manifest | Index:
    return parse_manifest(json.dumps(document).encode(), media_type, "x")


def test_a_manifest() -> None:
    raw = json.dumps(manifest(annotations={"a": "b"})).encode()

    found = parse_manifest(raw, OCI_MANIFEST, "x")

    assert isinstance(found, Manifest)
    assert found.digest == Digest.of(raw)
    assert found.media_type == OCI_MANIFEST
    assert [layer.size for layer in found.layers] == [3, 3]
    assert found.config.digest == Digest.of(b"{}")
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize(
    ("own", "said", "media_type"),
    [
        (DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_MANIFEST),
        (None, f"{DOCKER_MANIFEST}; charset=utf-8", DOCKER_MANIFEST),
        (None, "text/plain", OCI_MANIFEST),
        (None, "application/json", OCI_MANIFEST),
        (None, None, OCI_MANIFEST),
        (None, "", OCI_MANIFEST),
    ],
)
def test_the_type_is_the_documents_then_the_servers_then_the_structures(
    own: str | None, said: str | None, media_type: str
) -> None:
    assert parsed(manifest(mediaType=own), said).media_type == media_type


def test_an_index_by_its_structure() -> None:
    assert isinstance(parsed({"schemaVersion": 2, "manifests": []}, "application/octet-stream"), Index)
    assert parsed(index(mediaType=DOCKER_LIST)).media_type == DOCKER_LIST


def test_unknown_members_and_docker_types() -> None:
    document = manifest(
        mediaType=DOCKER_MANIFEST,
        subject={"x": 1},
        layers=[descriptor(b"", DOCKER_LAYER), descriptor(b"", DOCKER_LAYER)],
        config=descriptor(b"{}", DOCKER_CONFIG),
    )

    assert len(parsed(document).layers) == 2  # type: ignore[union-attr]


LAYER = descriptor(b"one")
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an index and an image": (manifest(manifests=[]), "as an image and as an index"),
    "an index with layers": (index(layers=[]), "as an image and as an index"),
    "an image that calls itself an index": (manifest(mediaType=OCI_INDEX), "an image that calls itself"),
    "an index that calls itself an image": (index(mediaType=OCI_MANIFEST), "config: expected an object, got null"),
    "schema 1": ({"schemaVersion": 1, "fsLayers": [], "history": []}, "obsolete schema 1"),
    "schema 1 layers in a manifest": (manifest(fsLayers=[]), "obsolete schema 1"),
    "no version": ({"config": {}, "layers": []}, "schemaVersion is not 2"),
    "a float version": (manifest(schemaVersion=2.0), "schemaVersion is not 2"),
    "neither": ({"schemaVersion": 2}, "neither an image manifest nor an index"),
    "an error": ({"errors": [{"code": "X"}]}, "schemaVersion"),
    "a chart": (
        manifest(config=descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json")),
        "an artifact of type 'application/vnd.cncf.helm.config.v1+json'",
    ),
    "an artifact": (
        manifest(config=descriptor(b"{}", "application/vnd.oci.empty.v1+json"), artifactType="text/x"),
        "an artifact of type 'text/x'",
    ),
    "a signature": (manifest(layers=[descriptor(b"", "application/vnd.dev.cosign.simplesigning.v1+json")]), "artifact"),
    "another kind of document": (
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "manifests": []},
        "artifact",
    ),
    "encrypted": (manifest(layers=[descriptor(b"", OCI_LAYER + "+gzip+encrypted")]), "layer 1 is encrypted"),
    "null config": (manifest(config=None), "config: expected an object"),
    "layers an object": (manifest(layers={}), "layers: expected an array"),
    "layer a string": (manifest(layers=["x"]), "layers[0]: expected an object"),
    "negative size": (manifest(layers=[{**LAYER, "size": -1}]), "layers[0].size: not a size"),
    "boolean size": (manifest(layers=[{**LAYER, "size": True}]), "not a size"),
    "float size": (manifest(layers=[{**LAYER, "size": 3.0}]), "not a size"),
    "string size": (manifest(layers=[{**LAYER, "size": "3"}]), "not a size"),
    "huge size": (manifest(layers=[{**LAYER, "size": 1 << 63}]), "not a size"),
    "no size": (manifest(layers=[{"mediaType": OCI_LAYER, "digest": LAYER["digest"]}]), "not a size"),
    "two sizes": (manifest(layers=[LAYER, {**LAYER, "size": 4}]), "listed with two sizes"),
    "no digest": (manifest(layers=[{**LAYER, "digest": None}]), "layers[0].digest: 'None' is not a digest"),
    "digest a list": (manifest(layers=[{**LAYER, "digest": []}]), "is not a digest"),
    "digest with a path": (manifest(layers=[{**LAYER, "digest": "sha256:../../x"}]), "is not a digest"),
    "upper-case digest": (manifest(layers=[{**LAYER, "digest": LAYER["digest"].upper()}]), "is not a digest"),
    "unknown algorithm": (manifest(layers=[{**LAYER, "digest": "blake3:" + "a" * 64}]), "not supported"),
    "media type a number": (manifest(layers=[{**LAYER, "mediaType": 1}]), "layers[0].mediaType"),
    "huge config": (manifest(config={**descriptor(b"", OCI_CONFIG), "size": USUAL.document + 1}), "config is larger"),
    "data not base64": (manifest(layers=[{**LAYER, "data": "!"}]), "layers[0].data: not base64"),
    "data of other bytes": (manifest(layers=[{**LAYER, "data": base64.b64encode(b"two").decode()}]), "expected sha256"),
    "data too short": (manifest(layers=[{**LAYER, "data": ""}]), "ended after 0 of 3"),
    "annotation a number": (manifest(annotations={"a": 1}), "annotations.a: expected a string"),
    "platform a string": (index({**entry("linux/amd64"), "platform": "linux"}), "platform: expected an object"),
    "another's layers": (manifest(Layers=[descriptor(b"evil")]), "'Layers' is read as 'layers' by other programs"),
    "another's config": (manifest(CONFIG=descriptor(b"{}", OCI_CONFIG)), "'CONFIG' is read as 'config'"),
    "another's digest": (manifest(layers=[{**LAYER, "Digest": str(Digest.of(b"x"))}]), "'Digest' is read as 'digest'"),
    "another's platform": (index({**entry("linux/amd64"), "platform": {"OS": "linux"}}), "'OS' is read as 'os'"),
    "too many entries": (index(*[entry("linux/amd64")] * 1001), "more than 1000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    document, says = REFUSED[name]

    with pytest.raises(InputError) as caught:
        parsed(document)

    assert says in str(caught.value)
    assert str(caught.value).startswith("x: ")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (manifest(mediaType=None), OCI_INDEX),
        (manifest(), DOCKER_LIST),
        (index(mediaType=None), OCI_MANIFEST),
        (index(), DOCKER_MANIFEST),
    ],
)
def test_refused_for_what_the_server_calls_it(document: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match="that calls itself"):
        parsed(document, said)


def test_schema_1_by_its_media_type() -> None:
    with pytest.raises(InputError, match="schema 1") as caught:
        parsed(manifest(mediaType=None), "application/vnd.docker.distribution.manifest.v1+prettyjws")

    assert "skopeo" in (caught.value.hint or "")


def test_too_large() -> None:
    with pytest.raises(InputError, match="larger than"):
        parse_manifest(b" " * (USUAL.document + 1), None, "x")


def test_data_is_decoded_and_proved() -> None:
    data = base64.b64encode(b"one").decode()

    found = parsed(manifest(layers=[{**LAYER, "data": data}]))

    assert found.layers[0].data == b"one"  # type: ignore[union-attr]


def test_a_config() -> None:
    document = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "created": "2017-12-14T20:47:55Z",
        "config": {
            "Env": ["PATH=/bin"],
            "User": "1000",
            "Entrypoint": None,
            "Cmd": ["/bin/sh"],
            "Labels": {"a": "b"},
        },
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"one"))]},
    }
    raw = json.dumps(document).encode()

    found = parse_config(raw, "x")

    assert found.raw == raw
    assert found.platform == Platform.parse("arm64")
    assert (found.created, found.env, found.user) == ("2017-12-14T20:47:55Z", ("PATH=/bin",), "1000")
    assert (found.entrypoint, found.cmd) == (None, ("/bin/sh",))
    assert found.labels == {"a": "b"}
    assert found.diff_ids == (Digest.of(b"one"),)


def test_a_config_of_nulls() -> None:
    container = dict.fromkeys(("Env", "User", "Entrypoint", "Cmd", "Labels"))
    for config in (None, container):
        document = {"config": config, "rootfs": {"type": "layers", "diff_ids": None}}

        found = parse_config(json.dumps(document).encode(), "x")

        assert (found.env, found.user, found.labels, found.diff_ids) == ((), "", {}, ())
        assert (found.entrypoint, found.cmd) == (None, None)
        assert str(found.platform) == "linux/unknown"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "rootfs: expected an object, got null"),
        ({"rootfs": {"type": "windows"}}, "not made of layers"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, r"rootfs.diff_ids\[0\]: 'x' is not a digest"),
        ({"rootfs": {"type": "layers"}, "config": []}, "config: expected an object"),
        ({"rootfs": {"type": "layers"}, "config": {"Env": [1]}}, r"Env\[0\]: expected a string"),
        ({"rootfs": {"type": "layers"}, "config": {"User": "1", "user": "0"}}, "'user' is read as 'User' by other"),
        ({"rootfs": {"type": "layers"}, "config": {"env": ["A=b"]}}, "'env' is read as 'Env' by other"),
        ({"rootfs": {"type": "layers"}, "RootFS": {"type": "layers"}}, "'RootFS' is read as 'rootfs' by other"),
        ([], "expected an object, got an array"),
    ],
)
def test_a_config_refused(document: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_config(json.dumps(document).encode(), "x")


def test_select() -> None:
    found = parsed(index(entry("linux/arm64/v8"), entry("linux/amd64"), entry("linux/amd64", DOCKER_MANIFEST)))
    assert isinstance(found, Index)

    assert select(found, AMD64, "x") == found.manifests[1]
    assert select(found, Platform.parse("linux/arm64"), "x") == found.manifests[0]


def test_select_lists_what_there_is() -> None:
    found = parsed(index(entry("linux/arm64/v8"), entry("linux/arm/v7"), entry("linux/arm/v7"), ATTESTATION))
    assert isinstance(found, Index)

    with pytest.raises(NotFoundError, match=r"^x: no image for linux/amd64; available: linux/arm64, linux/arm/v7$"):
        select(found, AMD64, "x")


ATTESTATION = entry("unknown/unknown", annotations={"vnd.docker.reference.type": "attestation-manifest"})


def test_attestations_and_strange_types_are_no_candidates() -> None:
    entries = (
        ATTESTATION,
        entry("unknown/unknown"),
        entry("linux/amd64", "application/vnd.future+json"),
        entry("linux/amd64", annotations={"vnd.docker.reference.type": "attestation-manifest"}),
        entry(None, OCI_INDEX),
        entry("linux/amd64"),
    )
    found = parsed(index(*entries))
    assert isinstance(found, Index)

    assert candidates(found, AMD64) == (found.manifests[5], found.manifests[4])


def test_an_index_without_platforms() -> None:
    found = parsed(index(ATTESTATION))
    assert isinstance(found, Index)

    with pytest.raises(NotFoundError, match="names no platform"):
        select(found, AMD64, "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([OCI_LAYER, str(Digest.of(b""))]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    ("schemaVersion",),
    ("mediaType",),
    ("config",),
    ("layers",),
    ("layers", 0),
    *(("layers", 0, name) for name in ("mediaType", "digest", "size", "annotations", "urls", "data", "platform")),
    ("annotations",),
    ("manifests",),
]


@settings(deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_is_a_manifest_or_an_input_error(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(manifest())
    target: Any = document
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with suppress(InputError):
        parsed(document)


@settings(deadline=None)
@given(st.sampled_from(["config", "rootfs", "os", "architecture", "created"]), JSON)
def test_anything_anywhere_is_a_config_or_an_input_error(name: str, value: Any) -> None:
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, name: value}
    with suppress(InputError):
        parse_config(json.dumps(document).encode(), "x")
