"""The jobs of a pipeline, run as Concourse runs them: `get`, `put`, `task`, `load_var` and `in_parallel`.

A task in an image from a bucket, or from a `get`, runs in a container of a `Worker`. One whose image a registry has is
there for a program: it runs on this machine, which stands for the image, with the task's variables and no others, and
without the rights that no unprivileged container has.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests import s3resource
from tests.pipelines import Data, flattened, problems, resolved
from tests.s3resource import ResourceError
from tests.worker import Image, command_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.worker import Worker

_SECONDS = 60
_BUILD = "/tmp/build/0"
_ANY_OWNER = "*"  # in a container everything would be its own root's, as git wants it
_NO_RIGHTS = "-sys_admin,-mknod,-sys_ptrace,-sys_module,-net_admin,-dac_read_search"


class TaskError(Exception):
    """A task failed."""


@dataclass(frozen=True)
class Site:
    """A Concourse: its worker, the image resource that is asked for digests, and where programs are."""

    worker: Worker
    programs: Path
    digest_of: Callable[[Data], str]
    fetched: dict[str, Path] = field(default_factory=dict)
    """The worker's cache of versions."""

    def get(self, resource: Data) -> Path:
        """Have the S3 resource fetch a version, by default the newest, once."""
        source, params = resource["source"], resource.get("params", {})
        version = resource.get("version") or s3resource.latest(source)
        key = json.dumps([source, params, version], sort_keys=True)
        if key not in self.fetched:
            place = self.worker.volume()
            s3resource.get(self.worker, source, version, params, place)
            self.fetched[key] = place
        return self.fetched[key]


class Pipeline:
    """A pipeline whose variables have values; each job is one build."""

    def __init__(self, site: Site, document: Any, values: Mapping[str, Any]) -> None:
        self.site = site
        self._document: Data = resolved(document, values, leave=".:")
        wrong = problems(self._document)
        if wrong:
            raise ValueError(wrong)
        self._types = {each["name"]: each for each in self._document.get("resource_types", ())}
        self._resources = {each["name"]: each for each in self._document.get("resources", ())}

    def run(self, job: str) -> str:
        """Run a job, and return what its tasks say."""
        build = _Build(self.site, self._resources, self._types)
        (plan,) = (each["plan"] for each in self._document["jobs"] if each["name"] == job)
        return "".join(build.step(step) for step in flattened(plan))


class _Build:
    """One run of a job: the directories that steps hand on by name, and the variables that they set."""

    def __init__(self, site: Site, resources: Mapping[str, Data], types: Mapping[str, Data]) -> None:
        self._site = site
        self._worker = site.worker
        self._resources = resources
        self._types = types
        self._artifacts: dict[str, Path] = {}
        self._values: dict[str, Any] = {}

    def step(self, step: Data) -> str:
        """Run a step; gives what it says."""
        step = resolved(step, self._values)
        if "get" in step:
            self._artifacts[step["get"]] = self._get(
                self._resource(step["get"], step), step.get("params", {}), step.get("version")
            )
            return ""
        if "put" in step:
            self._put(self._resource(step["put"], step), step)
            return ""
        if "load_var" in step:
            self._values[step["load_var"]] = self._loaded(step)
            return ""
        return self._task(step)

    def _resource(self, name: str, step: Data) -> Data:
        return self._resources[step.get("resource", name)]

    # Resources

    def _get(self, resource: Data, params: Data, version: Any = None) -> Path:
        source = resource["source"]
        match resource["type"]:
            case "s3":
                return self._site.get({"source": source, "params": params, "version": version})
            case "registry-image":
                return self._get_from_registry(source, params)
            case "git":
                return self._cloned(source)
        return self._get_by_type(resource, params)

    def _get_from_registry(self, source: Data, params: Data) -> Path:
        if not params.get("skip_download"):
            raise ResourceError("no image is downloaded here")
        place = self._worker.volume()
        for name, content in (
            ("repository", source["repository"]),
            ("tag", source["tag"]),
            ("digest", self._site.digest_of(source)),
        ):
            (place / name).write_text(content)
        return place

    def _cloned(self, source: Data) -> Path:
        place = self._worker.volume()
        _git("clone", "--quiet", f"--branch={source['branch']}", source["uri"], str(place))
        self._worker.give(place)
        return place

    def _get_by_type(self, resource: Data, params: Data) -> Path:
        """Run the programs of a resource type that the pipeline brings along."""
        kind = self._types[resource["type"]]
        image = Image(self._get(kind, kind.get("params", {})))
        place = self._worker.volume()
        request = {"source": resource["source"]}
        found = json.loads(self._worker.run(image, ["/opt/resource/check"], stdin=_json(request)))
        self._worker.run(
            image,
            ["/opt/resource/in", "/tmp/build/get"],
            mounts={"/tmp/build/get": place},
            stdin=_json({**request, "params": params, "version": found[-1]}),
        )
        return place

    def _put(self, resource: Data, step: Data) -> None:
        names = step.get("inputs", "all")
        everything = self._worker.volume()
        for name in self._artifacts if names == "all" else names:
            (everything / name).symlink_to(self._artifacts[name])
        source, params = resource["source"], step["params"]
        match resource["type"]:
            case "s3":
                # A pattern does not follow links by itself.
                top, _, pattern = params["file"].partition("/")
                s3resource.put(source, {"file": pattern}, (everything / top).resolve())
            case "git":
                folder = str(everything / params["repository"])
                _git("-C", folder, "push", "--quiet", source["uri"], f"HEAD:refs/heads/{source['branch']}")

    def _loaded(self, step: Data) -> Any:
        name, _, path = step["file"].partition("/")
        text = (self._artifacts[name] / path).read_text()
        match step.get("format", "trim"):
            case "json":
                return json.loads(text)
            case "trim":
                return text.strip()
        return text

    # Tasks

    def _task(self, step: Data) -> str:
        config = step["config"]
        params = {key: _text(value) for key, value in {**config.get("params", {}), **step.get("params", {})}.items()}
        place = self._worker.volume()
        outputs = {each["name"]: place / each["name"] for each in config.get("outputs", ())}
        for output in outputs.values():
            output.mkdir()
            self._worker.give(output)
        inputs = {each["name"]: self._artifacts[each["name"]] for each in config.get("inputs", ())}
        asked = config.get("image_resource", {})
        if asked.get("type") == "registry-image":
            said = self._on_this_machine(config["run"], params, inputs, place)
        else:
            name = step.get("image")
            files = self._artifacts[name] if name else self._get(asked, asked.get("params", {}), asked.get("version"))
            said = self._in_container(Image(files), config["run"], params, inputs | outputs)
        self._artifacts |= outputs
        return said

    def _in_container(self, image: Image, run: Data, params: Mapping[str, str], mounts: Mapping[str, Path]) -> str:
        where = {f"{_BUILD}/{name}": place for name, place in mounts.items()}
        cwd = os.path.join(_BUILD, run.get("dir", "")).rstrip("/")  # noqa: PTH118  # in another root
        command = command_of(image, run)
        return self._worker.run(image, command, params=params, mounts=where, cwd=cwd, user=run.get("user"))

    def _on_this_machine(self, run: Data, params: Mapping[str, str], inputs: Mapping[str, Path], place: Path) -> str:
        for name, target in inputs.items():
            (place / name).symlink_to(target)
        (place / ".gitconfig").write_text(f"[safe]\ndirectory = {_ANY_OWNER}\n")
        path = f"{self._site.programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return _run(
            *("setpriv", f"--bounding-set={_NO_RIGHTS}", "--inh-caps=-all", "--"),
            *(run["path"], *run.get("args", ())),
            cwd=place,
            env={"PATH": path, "HOME": str(place), **params},
        )


def _run(*words: str, **options: Any) -> str:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False, **options
    )
    out: str = done.stdout.decode(errors="replace")
    err: str = done.stderr.decode(errors="replace")
    if done.returncode:
        raise TaskError(f"{words}: exit status {done.returncode}: {out[-1000:]}{err[-2000:]}")
    return out + err


def _git(*words: str) -> None:
    _run("git", "-c", f"safe.directory={_ANY_OWNER}", *words)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
