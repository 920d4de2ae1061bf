"""Who made a bundle: signed with one key, held against another."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from zoo.contracts.target import Target
from zoo.deploy.bundle.make import BundleSpec, bundle_artifact, digests
from zoo.deploy.bundle.verify import verify_bundle
from zoo.errors import OptionInvalid, ProofFailed
from zoo.runtime.measure import write_back
from zoo.runtime.sums import sums_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Answer
    from zoo.deploy.bundle.make import Bundle
    from zoo.records.artifact import Artifact


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a private and a public key."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def signed(onnx_artifact: Artifact, tmp_path: Path) -> tuple[Path, Path]:
    """An unpacked bundle, and the public key."""
    private, public = pair(tmp_path, "own")
    made = bundle_artifact(onnx_artifact, Target(), BundleSpec(out=tmp_path / "signed.tar.gz", key=private))
    subprocess.run(["tar", "xzf", made.path, "-C", tmp_path], check=True)
    return tmp_path / made.folder, public


def test_a_signature_holds_for_archive_and_folder(signed: tuple[Path, Path]) -> None:
    folder, public = signed
    for place in (folder, folder.parent / "signed.tar.gz"):
        found = verify_bundle(place, public)
        assert found.signed
        assert found.signature_checked
        assert found.golden.ok


def test_what_a_device_measures_does_not_break_it(signed: tuple[Path, Path]) -> None:
    folder, public = signed
    write_back(folder, {"p50": 1.0})
    assert json.loads((folder / "artifact.json").read_text())["measured"] == [{"p50": 1.0}]
    assert verify_bundle(folder, public).signed


def test_a_changed_file_breaks_it_even_with_new_checksums(signed: tuple[Path, Path]) -> None:
    folder, public = signed
    manifest = json.loads((folder / "artifact.json").read_text())
    manifest["report"]["artifact_top1"] = 1.0
    (folder / "artifact.json").write_text(json.dumps(manifest))
    names = [p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS"]
    sums = digests({str(p.relative_to(folder)): p.read_bytes() for p in names})
    (folder / "SHA256SUMS").write_text(sums_text(sums))
    assert verify_bundle(folder).golden.ok
    with pytest.raises(ProofFailed, match="has changed since"):
        verify_bundle(folder, public)


def test_another_key_does_not_fit(signed: tuple[Path, Path], tmp_path: Path, cli: Callable[..., Answer]) -> None:
    _, other = pair(tmp_path, "other")
    done = cli("verify", "signed.tar.gz", "--key", other)
    assert done.code == 3
    assert "not by" in done.error


def test_an_unsigned_bundle_is_told(made: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ProofFailed, match="not signed"):
        verify_bundle(made.path, pair(tmp_path, "own")[1])


def test_a_key_that_is_none_is_told(onnx_artifact: Artifact, tmp_path: Path) -> None:
    private, public = pair(tmp_path, "own")
    curve = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "curve.pem").write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "text.pem").write_text("hello")
    for bad in ("curve.pem", "text.pem", "missing.pem", public.name):
        with pytest.raises(OptionInvalid, match="openssl genpkey -algorithm ed25519"):
            bundle_artifact(onnx_artifact, Target(), BundleSpec(out=tmp_path / "x.tar.gz", key=tmp_path / bad))
    assert not (tmp_path / "x.tar.gz").exists()
    signed = bundle_artifact(onnx_artifact, Target(), BundleSpec(out=tmp_path / "x.tar.gz", key=private))
    with pytest.raises(OptionInvalid):
        verify_bundle(signed.path, private)
