"""Packages of a later Debian than this machine's, of any architecture, unpacked into a folder: no root, no chroot."""

from __future__ import annotations

from pathlib import Path

from .tools import call, missing, tool

KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASE = "trixie"


def unpack(folder: Path, *packages: str, architecture: str = "", whole: bool = False) -> Path:
    """Unpack packages below an empty folder, from where this machine's apt gets its own.

    Args:
        folder: Where; apt keeps its state there as well, and the machine's own is left alone.
        packages: Their names in RELEASE.
        architecture: In Debian's words [default: this machine's].
        whole: Whether everything that they need comes along.

    Returns:
        The root of the tree.
    """
    apt = tool("apt-get")
    found = sorted(
        set(call(apt, "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian").split())
    )
    if not found:
        missing("there is no Debian archive to get packages from")
    for part in ("state/lists/partial", "cache/archives/partial", "root/usr/lib"):
        (folder / part).mkdir(parents=True)
    # Of a merged /usr; the package that makes the links needs a root to install it.
    (folder / "root/lib").symlink_to("usr/lib")
    (folder / "status").touch()
    site = next(one for one in found if not one.endswith("security"))
    (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] {site} {RELEASE} main\n")
    own = {"State": "state", "State::status": "status", "Cache": "cache", "Etc::SourceList": "sources.list"}
    options = [f"-oDir::{name}={folder / place}" for name, place in own.items()]
    options += ["-oDir::Etc::SourceParts=-", "-oAPT::Sandbox::User=root", "-oDebug::NoLocking=1", "-qq"]
    if architecture:
        options += [f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures::={architecture}"]
    archives = folder / "cache/archives"
    call(apt, *options, "update")
    if whole:
        call(apt, *options, "--download-only", "--no-install-recommends", "--yes", "install", *packages)
    else:
        call(apt, *options, "download", *packages, cwd=archives)
    for package in sorted(archives.glob("*.deb")):
        call(tool("dpkg"), "-x", package, folder / "root")
    return folder / "root"
