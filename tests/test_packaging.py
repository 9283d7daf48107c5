"""What is installed: its metadata, its licence, and what may be left out of an image of it.

The wheel, the source distribution and the single file are made and tried by `.ci/package`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import botocore
import pytest
from packaging.metadata import Metadata

import ocirootfs
from tests.commands import environment, run
from tests.make_fixtures import ZONES

if TYPE_CHECKING:
    from tests.servers.moto import S3Endpoint

pytestmark = pytest.mark.xdist_group("packaging")  # what is trimmed is trimmed once

ROOT = Path(__file__).parent.parent
TRIM = ROOT / "packaging" / "trim_botocore.py"
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # apache.org/licenses/LICENSE-2.0.txt


def test_the_metadata_is_what_an_index_takes() -> None:
    text = distribution("ocirootfs").read_text("METADATA")
    assert text is not None
    found = Metadata.from_email(text, validate=True)
    assert (found.name, str(found.version)) == ("ocirootfs", ocirootfs.__version__)
    assert (found.license_expression, found.license_files) == ("Apache-2.0", ["LICENSE"])
    assert found.requires_python is not None
    assert "3.10.9" not in found.requires_python
    assert "3.11.0" in found.requires_python
    assert found.description_content_type == "text/markdown"
    needed = {requirement.name for requirement in found.requires_dist or () if not requirement.marker}
    assert needed == {"requests", "urllib3", "zstandard", "boto3", "tqdm", "isal", "zlib-ng", "pyyaml"}
    assert "Typing :: Typed" in (found.classifiers or ())
    assert Path(ocirootfs.__file__).with_name("py.typed").is_file()


def test_the_command_is_installed() -> None:
    (command,) = (point for point in distribution("ocirootfs").entry_points if point.group == "console_scripts")
    assert (command.name, command.value) == ("ocirootfs", "ocirootfs.cli:main")
    assert callable(command.load())


def test_the_licence_is_apache_2() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_the_changelog_knows_this_version() -> None:
    versions = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == ocirootfs.__version__


# botocore without the services that are never spoken to

_CLIENTS = """\
import boto3, botocore, json
session = boto3.session.Session(region_name="eu-west-1")
made = {}
for service in ("s3", "sts", "ecr", "sso", "sso-oidc", "signin"):
    made[service] = session.client(service).meta.endpoint_url
try:
    session.client("ec2")
except Exception as error:
    made["ec2"] = type(error).__name__
print(json.dumps([botocore.__file__, made]))
"""


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A botocore of its own, by hard links where they can be had, trimmed as the image and the single file are."""
    packages = tmp_path_factory.mktemp("packages")
    installed = Path(botocore.__file__).parent
    shutil.copytree(installed, packages / "botocore", copy_function=_linked)
    ran = subprocess.run(
        [sys.executable, str(TRIM), str(packages)], check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran
    assert int(ran.stdout.split()[0]) > 100
    return packages


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def test_trimmed_to_a_tenth(trimmed: Path) -> None:
    def size(directory: Path) -> int:
        return sum(path.stat().st_size for path in (directory / "data").rglob("*") if path.is_file())

    assert size(trimmed / "botocore") < size(Path(botocore.__file__).parent) / 10


def test_clients_of_a_trimmed_botocore(trimmed: Path) -> None:
    ran = run(command=(sys.executable, "-c", _CLIENTS), env=environment(PYTHONPATH=str(trimmed))).ok
    where, *_ = re.findall(r'"([^"]*)"', ran.out.decode())
    assert where.startswith(str(trimmed))
    assert b'"sts": "https://sts.eu-west-1.amazonaws.com"' in ran.out
    assert b'"ecr": "https://api.ecr.eu-west-1.amazonaws.com"' in ran.out
    assert b'"ec2": "UnknownServiceError"' in ran.out


def test_an_upload_with_a_trimmed_botocore(trimmed: Path, s3: S3Endpoint) -> None:
    """In parts, through a role: what S3 and STS are asked for is all there."""
    path = os.pathsep.join([str(trimmed), environment()["PYTHONPATH"]])
    options = ["--endpoint-url", s3.endpoint, "--role-arn", "arn:aws:iam::123456789012:role/packer"]
    env = environment(PYTHONPATH=path, AWS_ENDPOINT_URL_STS=s3.endpoint)
    ran = run("pack", f"oci:{ZONES}", "-o", f"s3://{s3.bucket}/zones.tgz", *options, env=env)
    assert (ran.status, s3.keys(), s3.uploads()) == (0, ["zones.tgz"], []), ran


def test_what_is_no_installation_is_not_trimmed(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(TRIM), str(tmp_path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, "which holds botocore" in ran.stderr) == (1, True)


# The image


def test_the_containerfile_copies_what_is_there_and_runs_as_nobody() -> None:
    lines = (ROOT / "Containerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    copied = [word for line in lines if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]]
    assert {"ocirootfs", "packaging", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if name != "ocirootfs" and not (ROOT / name).exists()] == []
    last = lines[max(place for place, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER 65532:65532" in last
    assert any("packaging/trim_botocore.py" in line for line in lines if line.startswith("RUN"))


# The single file


def test_the_page_names_a_file_that_can_be_made() -> None:
    """In a checkout, where `ocirootfs` is a directory."""
    page = (ROOT / "docs" / "packaging.md").read_text("utf-8")
    (name,) = re.findall(r"^bash packaging/single-file (\S+)$", page, re.MULTILINE)
    assert not (ROOT / name).is_dir()
    assert f"\n./{name} --version\n" in page
    ran = run("packaging/single-file", "ocirootfs", command=("bash",), cwd=ROOT)
    assert (ran.status, ran.err) == (2, f"single-file: {ROOT / 'ocirootfs'} is a directory\n")
