"""An artifact directory: model file, manifest with checksums, golden vectors; opened only if nothing has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalogue.made.exporter import make_exporter
from zoo.disk.files import sha256, write_json
from zoo.errors import ArtifactInvalid
from zoo.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Predictor
    from zoo.records.golden import Golden
    from zoo.records.manifest import Manifest, Report


REJECTED = ".rejected"
PAGE = "report.html"


class Artifact:
    """One artifact directory, complete exactly when it holds `artifact.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Artifact({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from zoo.records.facts import proof_fragment

        return proof_fragment(self.path, self.manifest())

    @property
    def rejected(self) -> bool:
        """Whether the proof failed and the directory is kept only to be looked at."""
        return self.path.name.endswith(REJECTED)

    @property
    def page(self) -> Path:
        """What a person looks at; an older artifact has none."""
        return self.path / PAGE

    def manifest(self) -> Manifest:
        """Read `artifact.json`.

        Raises:
            ArtifactInvalid: missing, damaged, or of a later schema.
        """
        file = self.path / MANIFEST
        if not file.is_file():
            raise ArtifactInvalid(f"{self.path} holds no finished artifact (no {MANIFEST}); make one with `zoo export`")
        from pydantic import ValidationError

        from zoo.records.manifest import SCHEMA, Manifest

        try:
            manifest = Manifest.model_validate(json.loads(file.read_text()))
        except (OSError, ValueError, RecursionError) as exc:
            detail = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
            raise ArtifactInvalid(f"{file} is damaged: {detail}; export again") from exc
        if manifest.schema_version > SCHEMA:
            raise ArtifactInvalid(f"{file} has schema {manifest.schema_version}, newer than this zoo; upgrade edgezoo")
        return manifest

    @property
    def report(self) -> Report:
        """What its proof found."""
        return self.manifest().report

    def check_files(self, manifest: Manifest) -> None:
        """Raise ArtifactInvalid unless every file is there, unchanged, and no other file is."""
        for name, wanted in manifest.files.items():
            file = self.path / name
            if Path(name).name != name or not file.is_file():
                raise ArtifactInvalid(f"{self.path}: {name} is missing; export again")
            if sha256(file) != wanted:
                raise ArtifactInvalid(f"{file} has changed since its proof (its checksum differs); export again")
        extra = {p.name for p in self.path.iterdir()} - {MANIFEST, *manifest.files}
        if extra:
            raise ArtifactInvalid(f"{self.path} holds {min(extra)}, which the manifest does not know; remove it")

    def meaning(self, catalogue: Catalogue) -> Catalogue:
        """Return a catalogue in which the format's name means the exporter that made this artifact."""
        maker = str(self.manifest().lineage.get("exporter", "")).rpartition(" ")[0]
        return catalogue.preferring({**catalogue.preferred, "exporter": maker})

    def open(self, catalogue: Catalogue, *, threads: int = 0) -> Predictor:
        """Check every file, then load the model file in its own runtime."""
        manifest = self.manifest()
        self.check_files(manifest)
        meant = self.meaning(catalogue)
        exporter = make_exporter(meant, meant.find("exporter", manifest.format))
        return exporter.open(self.path / manifest.model_file, threads=threads)

    def golden(self) -> Golden:
        """Read the golden vectors.

        Raises:
            ArtifactInvalid: missing or damaged.
        """
        from zoo.records.golden import read_golden

        return read_golden(self.path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Declare an artifact complete; the last file that is written."""
    write_json(folder / MANIFEST, manifest.model_dump(mode="json", by_alias=True))


def checksums(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of every file in `folder` but a manifest."""
    return {p.name: sha256(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST}


def list_artifacts(export_folder: Path) -> list[Artifact]:
    """Return the accepted artifacts of a run, the newest first."""
    found = [Artifact(p) for p in export_folder.iterdir() if _is_accepted(p)] if export_folder.is_dir() else []
    return sorted(found, key=lambda a: (str(a.manifest().lineage.get("created", "")), a.path.name), reverse=True)


def _is_accepted(path: Path) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(REJECTED) and (path / MANIFEST).is_file()
