"""Concourse's pipelines as documents: their schema, strictly, and their `((variables))`.

The schema is that of concourse-ci.org/docs and of the READMEs of the resources. Concourse itself overlooks a resource's
unknown keys, and so does a person who reads them; here they are problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

EXAMPLES = Path(__file__).parent.parent / "examples" / "concourse"

Data = dict[str, Any]
Shape = Callable[[Any, str], Iterator[str]]
"""Yields what is wrong with a value that stands at a place."""


def read(text: str) -> Any:
    """Parse YAML."""
    return yaml.safe_load(text)


# Variables

_VARIABLE = re.compile(r"\(\(([^()\s]+)\)\)")


class UnknownVariableError(Exception):
    """Nobody gives a value to a variable."""


def variables(document: object) -> set[str]:
    """Return the names of all variables, those that a build sets itself (`.:name`) included."""
    return {name for text in _texts(document) for name in _VARIABLE.findall(text)}


def resolved(document: Any, values: Mapping[str, Any], *, leave: str | None = None) -> Any:
    """Fill in variables: one alone keeps its type, one in a text becomes part of it.

    Names that begin with `leave` are left as they are.
    """
    if isinstance(document, dict):
        return {key: resolved(value, values, leave=leave) for key, value in document.items()}
    if isinstance(document, list):
        return [resolved(value, values, leave=leave) for value in document]
    if not isinstance(document, str):
        return document

    def value_of(name: str) -> Any:
        return f"(({name}))" if leave and name.startswith(leave) else _value(name, values)

    if alone := _VARIABLE.fullmatch(document):
        return value_of(alone[1])
    return _VARIABLE.sub(lambda found: str(value_of(found[1])), document)


def _value(name: str, values: Any) -> Any:
    found = values
    for part in name.removeprefix(".:").split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise UnknownVariableError(name)
        found = found[part]
    return found


def _texts(document: object) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(document, Sequence):
        for value in document:
            yield from _texts(value)


# Shapes


def anything(value: Any, where: str) -> Iterator[str]:
    yield from ()


def text(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where}: {value!r} is no text"


def scalar(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, (str, int, float, bool)):
        yield f"{where}: {value!r} is no single value"


def truth(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{where}: {value!r} is neither true nor false"


def number(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int):
        yield f"{where}: {value!r} is no whole number"


def one_of(*allowed: str) -> Shape:
    def shape(value: Any, where: str) -> Iterator[str]:
        if value not in allowed:
            yield f"{where}: {value!r} is none of {', '.join(allowed)}"

    return shape


def listing(of: Shape) -> Shape:
    def shape(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where}: not a list"
            return
        for place, each in enumerate(value):
            name = each.get("name", place) if isinstance(each, dict) else place
            yield from of(each, f"{where}[{name}]")

    return shape


def mapping(of: Shape) -> Shape:
    def shape(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: not a map"
            return
        for key, each in value.items():
            yield from text(key, where)
            yield from of(each, f"{where}.{key}")

    return shape


def struct(needed: Mapping[str, Shape], may: Mapping[str, Shape]) -> Shape:
    """Return the shape of a map with these keys and no other."""
    known = {**needed, **may}

    def shape(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: not a map"
            return
        for key in needed:
            if key not in value:
                yield f"{where}: '{key}' is missing"
        for key, each in value.items():
            if key not in known:
                yield f"{where}: there is no key '{key}'"
            else:
                yield from known[key](each, f"{where}.{key}")

    return shape


STRINGS = listing(text)
PLATFORM = one_of("linux", "darwin", "windows")


# Resource types


class Type(NamedTuple):
    """What a resource type takes as `source`, and as `params` of `get` and `put`."""

    source: Shape
    get: Shape
    put: Shape


def _s3_source(value: Any, where: str) -> Iterator[str]:
    yield from _S3_SOURCE(value, where)
    if not isinstance(value, dict):
        return
    if ("regexp" in value) == ("versioned_file" in value):
        yield f"{where}: one of 'regexp' and 'versioned_file'"
    if "regexp" in value and not re.compile(value["regexp"]).groups:
        yield f"{where}.regexp: no group, and so no version"
    if value.get("use_path_style") and "endpoint" not in value:
        yield f"{where}: 'use_path_style' has no effect without 'endpoint'"


_S3_SOURCE = struct(
    {"bucket": text},
    {
        **dict.fromkeys(
            (
                *("regexp", "versioned_file", "endpoint", "region_name", "access_key_id", "secret_access_key"),
                *("session_token", "aws_role_arn", "ca_bundle", "server_side_encryption", "sse_kms_key_id"),
                *("checksum_algorithm", "initial_path", "initial_version", "initial_content_text"),
                "initial_content_binary",
            ),
            text,
        ),
        **dict.fromkeys(
            (
                *("private", "disable_ssl", "skip_ssl_verification", "use_path_style", "skip_s3_checksums"),
                *("disable_multipart", "enable_aws_creds_provider", "skip_download"),
            ),
            truth,
        ),
    },
)
_PLATFORM = struct({}, {"architecture": text, "os": text})

TYPES = {
    "s3": Type(
        _s3_source,
        struct({}, {"unpack": truth, "skip_download": scalar, "download_tags": truth}),
        struct({"file": text}, {"acl": text, "content_type": text}),
    ),
    "registry-image": Type(
        struct(
            {"repository": text},
            {
                "tag": scalar, "username": text, "password": text, "insecure": truth, "ca_certs": STRINGS,
                "platform": _PLATFORM, "semver_constraint": text, "variant": text, "pre_releases": truth,
                "tag_regex": text, "created_at_sort": truth, "debug": truth, "aws_region": text, "aws_account_id": text,
                "aws_access_key_id": text, "aws_secret_access_key": text, "aws_session_token": text,
                "aws_role_arn": text, "aws_role_arns": STRINGS,
                "registry_mirror": struct({"host": text}, {"username": text, "password": text}),
            },
        ),
        struct({}, {"format": one_of("rootfs", "oci", "oci-layout"), "skip_download": truth, "platform": _PLATFORM}),
        struct({"image": text}, {"version": text, "additional_tags": text, "bump_aliases": truth}),
    ),
    "git": Type(
        struct(
            {"uri": text},
            {
                "branch": text, "private_key": text, "username": text, "password": text, "paths": STRINGS,
                "ignore_paths": STRINGS, "skip_ssl_verification": truth, "tag_filter": text, "fetch_tags": truth,
                "depth": number, "submodules": anything, "disable_ci_skip": truth,
            },
        ),
        struct({}, {"depth": number, "fetch_tags": truth, "submodules": anything, "clean_tags": truth}),
        struct(
            {"repository": text},
            {"rebase": truth, "merge": truth, "tag": text, "force": truth, "annotate": text, "only_tag": truth},
        ),
    ),
}  # fmt: skip
ANY_TYPE = Type(anything, anything, anything)
_FIXED = {"time", "mock"}
SECRETS = {
    "access_key_id", "secret_access_key", "session_token", "username", "password", "private_key", "aws_access_key_id",
    "aws_secret_access_key", "aws_session_token", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "OCIROOTFS_USERNAME", "OCIROOTFS_PASSWORD",
}  # fmt: skip


def _typed(needed: Mapping[str, Shape], may: Mapping[str, Shape], own: Sequence[str]) -> Shape:
    """Return the shape of what has a `type`, a `source`, perhaps a get's `params`; `own` are the pipeline's types."""

    def shape(value: Any, where: str) -> Iterator[str]:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind not in TYPES and kind not in own and kind not in _FIXED:
            yield f"{where}: there is no resource type '{kind}'"
        known = TYPES.get(str(kind), ANY_TYPE)
        params = {"params": known.get} if "params" in may else {}
        yield from struct({"type": text, "source": known.source, **needed}, {**may, **params})(value, where)

    return shape


def resource(own: Sequence[str] = ()) -> Shape:
    may = {
        "old_name": text, "icon": text, "version": mapping(text), "check_every": text, "check_timeout": text,
        "expose_build_created_by": truth, "tags": STRINGS, "public": truth, "webhook_token": text,
    }  # fmt: skip
    return _typed({"name": text}, may, own)


RESOURCE_TYPE = _typed(
    {"name": text},
    {"privileged": truth, "params": anything, "check_every": text, "tags": STRINGS, "defaults": anything},
    (),
)


# Tasks, steps and jobs

_LIMITS = struct({}, {"cpu": scalar, "memory": scalar})


def task_config(own: Sequence[str] = ()) -> Shape:
    return struct(
        {"platform": PLATFORM, "run": struct({}, {"path": text, "args": STRINGS, "dir": text, "user": text})},
        {
            "image_resource": image_resource(own),
            "rootfs_uri": text,
            "container_limits": _LIMITS,
            "inputs": listing(struct({"name": text}, {"path": text, "optional": truth})),
            "outputs": listing(struct({"name": text}, {"path": text})),
            "caches": listing(struct({"path": text}, {})),
            "params": mapping(scalar),
        },
    )


def image_resource(own: Sequence[str] = ()) -> Shape:
    return _typed({}, {"params": anything, "version": mapping(text)}, own)


_HOOKS = ("on_success", "on_failure", "on_error", "on_abort", "ensure")
_KINDS = ("get", "put", "task", "load_var", "set_pipeline", "in_parallel", "do", "try")


def _version(value: Any, where: str) -> Iterator[str]:
    if value not in ("latest", "every"):
        yield from mapping(text)(value, where)


class _Steps(NamedTuple):
    """The shapes of a pipeline's steps; `types` are the types of its resources, by name."""

    types: Mapping[str, Type]
    own: Sequence[str]

    def step(self, value: Any, where: str) -> Iterator[str]:
        kinds = [kind for kind in _KINDS if isinstance(value, dict) and kind in value]
        if len(kinds) != 1:
            yield f"{where}: a step is one of {', '.join(_KINDS)}, and this is {kinds or value!r}"
            return
        needed, may = self._keys(kinds[0], value)
        common: dict[str, Shape] = {"timeout": text, "attempts": number, "tags": STRINGS}
        common |= dict.fromkeys(_HOOKS, self.step)
        yield from struct(needed, {**common, **may})(value, f"{where}/{kinds[0]} {_named(value[kinds[0]])}".rstrip())

    def _keys(self, kind: str, step: Data) -> tuple[Mapping[str, Shape], Mapping[str, Shape]]:
        used = self.types.get(str(step.get("resource", step.get(kind))), ANY_TYPE)
        steps = listing(self.step)
        keys: dict[str, tuple[Mapping[str, Shape], Mapping[str, Shape]]] = {
            "get": (
                {"get": text},
                {"resource": text, "passed": STRINGS, "params": used.get, "trigger": truth, "version": _version},
            ),
            "put": (
                {"put": text},
                {"resource": text, "inputs": _inputs, "params": used.put, "get_params": used.get, "no_get": truth},
            ),
            "task": (
                {"task": text},
                {
                    "config": task_config(self.own), "file": text, "image": text, "privileged": truth, "vars": anything,
                    "container_limits": _LIMITS, "params": mapping(scalar), "input_mapping": mapping(text),
                    "output_mapping": mapping(text),
                },
            ),
            "load_var": (
                {"load_var": text, "file": text},
                {"format": one_of("json", "yaml", "yml", "trim", "raw"), "reveal": truth},
            ),
            "set_pipeline": (
                {"set_pipeline": text, "file": text},
                {"instance_vars": anything, "vars": anything, "var_files": STRINGS, "team": text},
            ),
            "in_parallel": ({"in_parallel": self._parallel}, {}),
            "do": ({"do": steps}, {}),
            "try": ({"try": self.step}, {}),
        }  # fmt: skip
        return keys[kind]

    def _parallel(self, value: Any, where: str) -> Iterator[str]:
        steps = listing(self.step)
        if isinstance(value, list):
            yield from steps(value, where)
        else:
            yield from struct({"steps": steps}, {"limit": number, "fail_fast": truth})(value, where)


def _inputs(value: Any, where: str) -> Iterator[str]:
    if value not in ("all", "detect"):
        yield from STRINGS(value, where)


def _named(value: object) -> str:
    return value if isinstance(value, str) else ""


def _job(steps: _Steps) -> Shape:
    return struct(
        {"name": text, "plan": listing(steps.step)},
        {
            "old_name": text, "serial": truth, "serial_groups": STRINGS, "max_in_flight": number, "public": truth,
            "build_log_retention": struct({}, {"days": number, "builds": number, "minimum_succeeded_builds": number}),
            "disable_manual_trigger": truth, "interruptible": truth, **dict.fromkeys(_HOOKS, steps.step),
        },
    )  # fmt: skip


# Documents


def problems(document: Any) -> list[str]:
    """Say what is wrong with a pipeline, or with a part of one as a manual shows it."""
    if isinstance(document, dict) and "jobs" not in document:
        return list(_fragment(document))
    if isinstance(document, list):
        shape = listing(resource() if all("type" in each for each in document) else _Steps({}, ()).step)
        return list(shape(document, ""))
    own = [each["name"] for each in document.get("resource_types", ())]
    types = {each["name"]: TYPES.get(each["type"], ANY_TYPE) for each in document.get("resources", ())}
    pipeline = struct(
        {"jobs": listing(_job(_Steps(types, own)))},
        {
            "resources": listing(resource(own)),
            "resource_types": listing(RESOURCE_TYPE),
            "groups": listing(struct({"name": text}, {"jobs": STRINGS})),
            "var_sources": anything,
            "display": anything,
        },
    )
    found = list(pipeline(document, ""))
    return found or list(_references(document))


def _fragment(document: Data) -> Iterator[str]:
    if "platform" in document or "run" in document:
        yield from task_config()(document, "")
        return
    parts: dict[str, Shape] = {
        "image_resource": image_resource(),
        "resources": listing(resource()),
        "resource_types": listing(RESOURCE_TYPE),
    }
    yield from struct({}, parts)(document, "")


def exposed(document: Any, where: str = "") -> Iterator[str]:
    """Say where a secret is written down instead of taken from a variable."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in SECRETS and not (isinstance(value, str) and _VARIABLE.fullmatch(value)):
                yield f"{where}.{key}: a secret that is no variable"
            yield from exposed(value, f"{where}.{key}")
    elif isinstance(document, list):
        for place, value in enumerate(document):
            yield from exposed(value, f"{where}[{place}]")


# What refers to what


def _references(pipeline: Data) -> Iterator[str]:
    resources = [each["name"] for each in pipeline.get("resources", ())]
    jobs = [job["name"] for job in pipeline["jobs"]]
    used: set[str] = set()
    for name in {name for names in (resources, jobs) for name in names if names.count(name) > 1}:
        yield f"'{name}' is there twice"
    for job in pipeline["jobs"]:
        available: set[str] = set()
        for step in flattened(job["plan"]):
            where = f"{job['name']}/{next(step[kind] for kind in _KINDS if kind in step)}"
            yield from (f"{where}: {why}" for why in _missing(step, available, resources, pipeline))
            used |= {name for name in [_resource_of(step)] if name}
            available |= _provided(step)
    for name in set(resources) - used:
        yield f"resource '{name}' is not used"


def flattened(plan: Sequence[Data]) -> Iterator[Data]:
    """Return the steps of a plan in order, those in others too."""
    for step in plan:
        inner = step.get("in_parallel", step.get("do"))
        if inner is None:
            yield step.get("try", step)
        else:
            yield from flattened(inner["steps"] if isinstance(inner, dict) else inner)


def _missing(step: Data, available: set[str], resources: Sequence[str], pipeline: Data) -> Iterator[str]:
    if name := _resource_of(step):
        if name not in resources:
            yield f"there is no resource '{name}'"
        for passed in step.get("passed", ()):
            if passed not in {job["name"] for job in pipeline["jobs"] if _touches(job, name)}:
                yield f"no job '{passed}' has that resource"
    needed = list(step["inputs"]) if isinstance(step.get("inputs"), list) else []
    if "load_var" in step:
        needed.append(step["file"].partition("/")[0])
    if "task" in step:
        config = step.get("config", {})
        needed += [each["name"] for each in config.get("inputs", ()) if not each.get("optional")]
        needed += [step["image"]] if "image" in step else []
        if "config" in step and "image" not in step and not {"image_resource", "rootfs_uri"} & config.keys():
            yield "it has no image"
    yield from (f"nothing gives '{name}'" for name in needed if name not in available)


def _resource_of(step: Data) -> str | None:
    """Return the resource that a get or a put is of."""
    found: str | None = step.get("get", step.get("put"))
    return step.get("resource", found) if found else None


def _touches(job: Data, resource: str) -> bool:
    return any(_resource_of(step) == resource for step in flattened(job["plan"]))


def _provided(step: Data) -> set[str]:
    outputs = {each["name"] for each in step.get("config", {}).get("outputs", ())}
    own = {step[kind] for kind in ("get", "put") if kind in step and not step.get("no_get")}
    return outputs | own
