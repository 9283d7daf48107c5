"""Siblings: hosts of one owner, and hosts that only look like it."""

from __future__ import annotations

import pytest

from ocirootfs.registry.siblings import are_siblings

SIBLINGS = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
    ("registry.cn-hangzhou.aliyuncs.com", "dockerauth.cn-hangzhou.aliyuncs.com"),
    ("us.icr.io", "icr.io"),
    ("registry.abc.de", "auth.abc.de"),
    ("registry.ibm.io", "auth.ibm.io"),
    ("registry.corp.co.uk", "sso.corp.co.uk"),
    ("registry.corp.com.br", "corp.com.br"),
    ("registry.corp.on.ca", "sso.corp.on.ca"),
    ("registry.corp.internal", "sso.corp.internal"),
    ("registry.corp.aws", "sso.corp.aws"),
]
STRANGERS = [
    ("registry.corp.co.uk", "evil.co.uk"),
    ("registry.corp.com.au", "evil.com.au"),
    ("registry.corp.info.pl", "evil.info.pl"),
    ("registry.corp.ac.jp", "evil.ac.jp"),
    ("registry.corp.on.ca", "evil.on.ca"),
    ("registry.corp.mi.it", "evil.mi.it"),
    ("corp.co.uk", "co.uk"),
    ("victim.azurecr.io", "evil.azurecr.io"),
    ("victim.github.io", "evil.github.io"),
    ("victim.github.io", "github.io"),
    ("1.dkr.ecr.eu-west-1.amazonaws.com", "evil.execute-api.eu-west-1.amazonaws.com"),
    ("registry.cn-hangzhou.aliyuncs.com", "evil.cn-hangzhou.fc.aliyuncs.com"),
    ("victim.herokuapp.com", "evil.herokuapp.com"),
    ("registry.uk.com", "evil.uk.com"),
    ("registry.corp", "auth.corp"),
    ("registry", "registry"),
    ("registry.example.com", "registry.example.com.evil.com"),
    ("registry.example.com", "registry.example.com."),
    ("10.0.0.5", "10.0.0.6"),
    ("203.0.113.5", "198.51.113.5"),
    ("::1", "::2"),
]


@pytest.mark.parametrize(("one", "other"), SIBLINGS)
def test_siblings(one: str, other: str) -> None:
    assert are_siblings(one, other)
    assert are_siblings(other, one)


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers(one: str, other: str) -> None:
    assert not are_siblings(one, other)
    assert not are_siblings(other, one)
