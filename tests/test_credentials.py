"""Credentials: which place wins, how keys and entries are spelled, and that nothing secret is shown."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import AuthError, TemporaryError, UsageError
from ocirootfs.reference import Reference
from ocirootfs.registry import credhelper
from ocirootfs.registry.credentials import Credentials, Keychain, anonymous, fixed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

IMAGE = Reference.parse("registry.example:5000/ns/user/app")
HUB = Reference.parse("ubuntu")


def auth(user: str, password: str = "s3cret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def config(**auths: Any) -> str:
    return json.dumps({"auths": auths})


def user(text: str, reference: Reference = IMAGE, environ: Mapping[str, str] | None = None) -> str | None:
    found = Keychain({**(environ or {}), "DOCKER_AUTH_CONFIG": text}).find(reference).credentials
    return found.username if found else None


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_places_in_their_order(tmp_path: Path) -> None:
    key = "registry.example:5000"
    home, run, xdg, docker = (tmp_path / name for name in ("home", "run", "xdg", "docker"))
    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(run), "XDG_CONFIG_HOME": str(xdg)}
    environ |= {"DOCKER_AUTH_CONFIG": config(**{key: auth("1")}), "REGISTRY_AUTH_FILE": str(tmp_path / "named.json")}
    environ |= {"DOCKER_CONFIG": str(docker)}
    write(tmp_path / "named.json", config(**{key: auth("2")}))
    write(run / "containers" / "auth.json", config(**{key: auth("3")}))
    write(xdg / "containers" / "auth.json", config(**{key: auth("4")}))
    write(docker / "config.json", config(**{key: auth("5")}))
    write(home / ".dockercfg", json.dumps({f"https://{key}/v1/": auth("6")}))

    found = [found_user(environ)]
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE"):
        del environ[name]
        found.append(found_user(environ))
    for place in (run, xdg, docker):
        next(place.rglob("*.json")).unlink()
        found.append(found_user(environ))

    assert found == ["1", "2", "3", "4", "5", "6"]


def test_homes_own_files(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "none")}
    write(tmp_path / ".docker" / "config.json", config(**{"registry.example:5000": auth("docker")}))
    assert found_user(environ) == "docker"

    write(tmp_path / ".config" / "containers" / "auth.json", config(**{"registry.example:5000": auth("podman")}))
    assert found_user(environ) == "podman"


def found_user(environ: Mapping[str, str], authfile: Path | None = None) -> str | None:
    found = Keychain(environ, authfile=authfile).find(IMAGE).credentials
    return found.username if found else None


def test_an_authfile_is_the_only_place(tmp_path: Path) -> None:
    environ = {"DOCKER_AUTH_CONFIG": config(**{"registry.example:5000": auth("1")})}
    chosen = write(tmp_path / "a.json", config(**{"other.example": auth("2")}))

    assert found_user(environ, chosen) is None


def test_a_place_without_the_host_is_passed_over(tmp_path: Path) -> None:
    named = write(tmp_path / "a.json", config(**{"registry.example:5000": auth("file")}))
    environ = {"DOCKER_AUTH_CONFIG": config(other=auth("x")), "REGISTRY_AUTH_FILE": str(named)}

    search = Keychain(environ).find(IMAGE)

    assert search.credentials is not None
    assert search.credentials.username == "file"
    assert search.places == ("DOCKER_AUTH_CONFIG", str(named))


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "/nonexistent"}, {"HOME": "/dev/null"}])
def test_no_home_is_no_trouble(environ: dict[str, str]) -> None:
    environ["XDG_RUNTIME_DIR"] = "/nonexistent"

    assert Keychain(environ).find(IMAGE).credentials is None


KEYS = [
    ("registry.example:5000", IMAGE),
    ("https://registry.example:5000", IMAGE),
    ("https://registry.example:5000/", IMAGE),
    ("https://registry.example:5000/v1/", IMAGE),
    ("https://registry.example:5000/v2/", IMAGE),
    ("http://registry.example:5000", IMAGE),
    ("Registry.Example:5000", IMAGE),
    ("registry.example:5000/ns", IMAGE),
    ("registry.example:5000/ns/user", IMAGE),
    ("registry.example:5000/ns/user/app", IMAGE),
    ("docker.io", HUB),
    ("index.docker.io", HUB),
    ("registry-1.docker.io", HUB),
    ("https://index.docker.io/v1/", HUB),
    ("https://index.docker.io/v1", HUB),
    ("https://registry-1.docker.io/v2/", HUB),
    ("docker.io/library", HUB),
    ("docker.io/library/ubuntu", HUB),
]


@pytest.mark.parametrize(("key", "reference"), KEYS)
def test_keys(key: str, reference: Reference) -> None:
    assert user(config(**{key: auth("me")}), reference) == "me"


@pytest.mark.parametrize(
    "key",
    [
        "registry.example",
        "registry.example:5001",
        "example:5000",
        "registry.example:5000/other",
        "registry.example:5000/n",
        "registry.example:5000/ns/user/app/more",
        "https://registry.example:5000.evil",
        "docker.io",
    ],
)
def test_other_keys(key: str) -> None:
    assert user(config(**{key: auth("me")})) is None


def test_the_longest_namespace_wins() -> None:
    keys = ["registry.example:5000", "registry.example:5000/ns", "registry.example:5000/ns/user"]

    assert user(config(**{key: auth(key[-4:]) for key in keys})) == "user"


ENTRIES: list[tuple[dict[str, Any], tuple[str, str, str, str] | None]] = [
    (auth("me"), ("me", "s3cret", "", "")),
    (auth("me", "a:b"), ("me", "a:b", "", "")),
    (auth("me", "päss"), ("me", "päss", "", "")),
    ({"auth": "bWU6cP8="}, ("me", "p\udcff", "", "")),  # in no encoding
    ({"auth": auth("me")["auth"].rstrip("=")}, ("me", "s3cret", "", "")),
    (auth("me", "s3cret\0\0"), ("me", "s3cret", "", "")),
    ({"username": "me", "password": "s3cret"}, ("me", "s3cret", "", "")),
    ({"username": "me", "password": "x", **auth("you")}, ("you", "s3cret", "", "")),
    ({"identitytoken": "it"}, ("", "", "it", "")),
    ({"identitytoken": "it", **auth("0000", "")}, ("0000", "", "it", "")),
    ({"registrytoken": "rt"}, ("", "", "", "rt")),
    ({"auth": "", "email": "x"}, None),
    ({}, None),
    ({"username": "me"}, None),
    ({"auth": "!"}, None),
    ({"auth": "bm9jb2xvbg=="}, None),
    ({"auth": "OnB3"}, None),
    ({"auth": 1}, None),
    ({"auth": "/////w=="}, None),
]


@pytest.mark.parametrize(("entry", "wanted"), ENTRIES)
def test_entries(entry: dict[str, Any], wanted: tuple[str, str, str, str] | None) -> None:
    environ = {"DOCKER_AUTH_CONFIG": config(**{"registry.example:5000": entry}), "XDG_RUNTIME_DIR": "/nonexistent"}

    found = Keychain(environ).find(IMAGE).credentials

    assert wanted == (found and (found.username, found.password, found.identity_token, found.registry_token))


def test_a_malformed_entry_is_named_without_its_content() -> None:
    entry = {"auth": base64.b64encode(b"no-colon-s3cret").decode()}
    environ = {"DOCKER_AUTH_CONFIG": config(**{"registry.example:5000": entry}), "XDG_RUNTIME_DIR": "/nonexistent"}

    search = Keychain(environ).find(IMAGE)

    assert search.troubles == ("DOCKER_AUTH_CONFIG: the entry for 'registry.example:5000' is malformed",)


def test_what_was_named_and_cannot_be_used_is_the_callers_error(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.json", '{"auths": s3cret')

    with pytest.raises(UsageError, match=r"broken\.json: not valid JSON") as caught:
        Keychain({"REGISTRY_AUTH_FILE": str(broken)}).find(IMAGE)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(UsageError, match=r"none\.json: no such file"):
        Keychain({}, authfile=tmp_path / "none.json").find(IMAGE)
    with pytest.raises(UsageError, match="is a directory"):
        Keychain({}, authfile=tmp_path).find(IMAGE)
    with pytest.raises(UsageError, match="DOCKER_AUTH_CONFIG: not valid JSON"):
        user("{")


def test_a_usual_file_that_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", "{")

    search = Keychain({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/nonexistent"}).find(IMAGE)

    assert search.credentials is None
    assert "config.json is left out: " in search.troubles[0]


def test_nothing_secret_in_repr() -> None:
    found = Credentials("me", "s3cret", "s3cret", "s3cret")

    assert "s3cret" not in repr(found)
    assert "s3cret" not in repr(fixed(found)(IMAGE))


def test_anonymous() -> None:
    assert anonymous(HUB).credentials is None


# Helpers are programs: small scripts stand for them.


@pytest.fixture
def helpers(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def script(folder: Path, name: str, text: str) -> dict[str, str]:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "XDG_RUNTIME_DIR": "/nonexistent"}


ANSWER = (
    'read server; test "$1" = get && '
    """printf '{"ServerURL": "%s", "Username": "user of %s", "Secret": "s"}' x "$server" """
)


def test_a_helper_for_the_host(helpers: Path) -> None:
    environ = script(helpers, "one", ANSWER)
    text = json.dumps({"credHelpers": {"registry.example:5000": "one", "docker.io": "one"}, "credsStore": "other"})

    assert user(text, environ=environ) == "user of registry.example:5000"
    assert user(text, HUB, environ) == "user of https://index.docker.io/v1/"


def test_the_store_then_the_file(helpers: Path) -> None:
    auths = {"registry.example:5000": auth("file")}
    environ = script(helpers, "store", ANSWER)
    assert user(json.dumps({"credsStore": "store", "auths": auths}), environ=environ) == "user of registry.example:5000"

    environ = script(helpers, "store", "echo credentials not found in native keychain; exit 1")
    assert user(json.dumps({"credsStore": "store", "auths": auths}), environ=environ) == "file"


def test_a_helpers_token(helpers: Path) -> None:
    environ = script(helpers, "t", """echo '{"Username": "<token>", "Secret": "refresh"}'""")
    environ["DOCKER_AUTH_CONFIG"] = '{"credsStore": "t"}'

    found = Keychain(environ).find(IMAGE).credentials

    assert found == Credentials(identity_token="refresh", source="docker-credential-t (DOCKER_AUTH_CONFIG)")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo no way; exit 3", "failed with status 3: no way"),
        ("echo s3cret", "answered something else"),
        ("echo []", "answered something else"),
        ("kill -9 $$", "did not answer within"),
        ("exec sleep 60", "did not answer within 0.2 s"),
        ("exec cat /dev/zero", "or too much"),
    ],
)
def test_helpers_that_fail(helpers: Path, text: str, says: str) -> None:
    environ = script(helpers, "bad", text)

    with pytest.raises(AuthError, match=says) as caught:
        credhelper.ask("bad", "registry.example:5000", environ, timeout=0.2 if "sleep" in text else 20)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("#!/nonexistent/python\n", "there is no such interpreter"),
        ("echo", "exec format error"),
        ("", "exec format error"),
    ],
)
def test_helpers_that_cannot_be_run(helpers: Path, program: str, says: str) -> None:
    environ = script(helpers, "bad", "")
    (helpers / "docker-credential-bad").write_text(program)
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"credsStore": "bad", "auths": {"registry.example:5000": auth("file")}})

    search = Keychain(environ).find(IMAGE)

    assert search.credentials is not None
    assert search.credentials.username == "file"
    assert search.troubles == (f"cannot run {helpers}/docker-credential-bad: {says}, which DOCKER_AUTH_CONFIG names",)


def test_a_helper_may_leave_somebody_behind_who_holds_its_output(helpers: Path) -> None:
    """As one that starts an agent: its own end is the end of its answer, not the agent's."""
    environ = script(helpers, "one", f"setsid sleep 9 & {ANSWER}")
    begun = time.monotonic()

    assert credhelper.ask("one", "x", environ) == ("user of x", "s")
    assert time.monotonic() - begun < 5


def test_a_helper_that_closes_its_output_and_stays_is_killed(helpers: Path) -> None:
    environ = script(helpers, "bad", "exec sleep 60 >&-")

    with pytest.raises(AuthError, match=r"did not answer within 0\.2 s"):
        credhelper.ask("bad", "x", environ, timeout=0.2)


def test_another_thread_ends_a_helper(helpers: Path, tmp_path: Path) -> None:
    environ = script(helpers, "slow", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    running = credhelper.Running()

    def stop() -> None:
        while not (tmp_path / "pid").is_file():
            time.sleep(0.01)
        running.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with running.watching(), pytest.raises(TemporaryError, match="was stopped"):
        credhelper.ask("slow", "x", environ)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)

    with running.watching(), pytest.raises(TemporaryError, match="was stopped"):
        credhelper.ask("slow", "x", script(helpers, "one", ANSWER))


def test_a_helper_that_fails_is_remembered_and_the_search_goes_on(helpers: Path) -> None:
    environ = script(helpers, "bad", "exit 1")
    environ["DOCKER_AUTH_CONFIG"] = '{"credsStore": "bad"}'

    search = Keychain(environ).find(IMAGE)

    assert search.credentials is None
    assert search.troubles[0].startswith("docker-credential-bad failed with status 1")


@pytest.mark.parametrize("name", ["../../x", "a b", "-x", "x\n", "", "é"])
def test_names_of_helpers(name: str) -> None:
    with pytest.raises(AuthError, match="is not the name"):
        credhelper.ask(name, "x", {"PATH": "/bin"})


def test_helpers_are_not_looked_for_in_relative_directories(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(helpers, "here", ANSWER)
    monkeypatch.chdir(helpers)

    with pytest.raises(AuthError, match="is not in PATH"):
        credhelper.ask("here", "x", {"PATH": ".::/nonexistent"})


@settings(deadline=None)
@given(st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")) | st.text(alphabet='{}[]":auths,', max_size=40))
def test_any_text_is_searched_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        Keychain({"DOCKER_AUTH_CONFIG": text, "XDG_RUNTIME_DIR": "/nonexistent"}).find(IMAGE)


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_entry_is_searched(entry: Any) -> None:
    for document in ({"auths": {"registry.example:5000": entry}}, {"auths": entry}, {"credHelpers": entry}):
        environ = {"DOCKER_AUTH_CONFIG": json.dumps(document), "XDG_RUNTIME_DIR": "/nonexistent"}
        Keychain({**environ, "PATH": "/nonexistent"}).find(IMAGE)
