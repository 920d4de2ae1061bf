"""Proving a bundle: every bit as it was written, signed by whom it should be, and the golden answers once more."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from zoo.deploy.bundle.archive import read_archive
from zoo.deploy.bundle.sign import SIGNATURE, check_signature
from zoo.errors import ArtifactInvalid, ProofFailed
from zoo.evaluation.page import fragment, table
from zoo.runtime.errors import BundleError
from zoo.runtime.golden import Replay, replay
from zoo.runtime.model import Model
from zoo.runtime.sums import check, read_sums


@dataclass(frozen=True, kw_only=True)
class BundleProof:
    """What was found."""

    path: Path
    files: int
    signed: bool
    """Whether there is a signature."""
    signature_checked: bool
    golden: Replay

    def _repr_html_(self) -> str:
        said = "by this key" if self.signature_checked else "not looked at: give a key"
        rows = [
            ("checksums", f"{self.files} files unchanged"),
            ("signature", said if self.signed else "none"),
            ("golden answers", str(self.golden)),
        ]
        return fragment([f"<p>{escape(str(self.path))}</p>", table(("", ""), rows)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "bundle": str(self.path),
            "ok": self.golden.ok,
            "files": self.files,
            "signed": self.signed,
            "signature_checked": self.signature_checked,
            "golden": self.golden.to_json(),
        }


def verify_bundle(path: Path, key: Path | None = None) -> BundleProof:
    """Check an archive, or the folder that one was unpacked into; nothing of it runs but the model, here.

    Raises:
        ArtifactInvalid: a bit of it has changed, or it is no bundle.
        ProofFailed: the signature is not by `key`.
        OptionInvalid, EnvironmentBroken: no such key.
    """
    if path.is_dir():
        return _proof(path, path, key)
    _, files = read_archive(path)
    with tempfile.TemporaryDirectory(prefix="zoo-bundle-") as scratch:
        folder = Path(scratch)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return _proof(path, folder, key)


def _proof(path: Path, folder: Path, key: Path | None) -> BundleProof:
    try:
        sums = read_sums(folder)
        check(folder, sums)
        if key:
            check_signature({name: (folder / name).read_bytes() for name in sums}, key)
        golden = replay(Model(folder))
    except BundleError as exc:
        raise ArtifactInvalid(str(exc).replace(str(folder), str(path))) from exc
    except ProofFailed as exc:
        raise ProofFailed(f"{path}: {exc}") from exc
    return BundleProof(
        path=path, files=len(sums), signed=SIGNATURE in sums, signature_checked=key is not None, golden=golden
    )
