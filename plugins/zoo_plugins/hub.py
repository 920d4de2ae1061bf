"""Where pretrained weights are: in a cache, one download away, or out of reach; told within seconds."""

from __future__ import annotations

import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zoo.errors import WeightsUnavailable, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBE_TIMEOUT_S = 2.0
SAFE_FILE, PICKLED_FILE = "model.safetensors", "pytorch_model.bin"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where timm says that a model's pretrained weights are; it takes the hub where there are both."""

    repo: str = ""
    """On the hub; "@REVISION" may follow."""
    files: tuple[str, ...] = (SAFE_FILE, PICKLED_FILE)
    """Names to look for in the repository, the best first."""
    url: str = ""
    custom_load: bool | str = False
    """timm's word for a layout that only the model itself can read; "hf" says it of the hub's file."""

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Source:
        """Read timm's `pretrained_cfg`."""
        named = cfg.get("hf_hub_filename")
        url = cfg.get("url") or ""
        return cls(
            repo=cfg.get("hf_hub_id") or "",
            files=(named,) if named else cls.files,
            url=url if isinstance(url, str) else url[0],
            custom_load=cfg.get("custom_load", False),
        )

    @property
    def address(self) -> str:
        """What has to answer before a download is tried."""
        from huggingface_hub import constants

        return constants.ENDPOINT if self.repo else self.url

    @property
    def by_hand(self) -> str:
        """How a person brings the weights to a machine without a network."""
        from huggingface_hub import constants

        if not self.repo:
            return f"save {self.url} as {self.torch_file}"
        fetch = f"`hf download {self.repo.partition('@')[0]}` where there is a network"
        return f"put {self.repo} into the hub cache ({fetch}; HF_HOME={constants.HF_HOME})"

    @property
    def torch_file(self) -> Path:
        """Where torch.hub keeps what it downloads from `url`."""
        import torch.hub

        return Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(self.url).path).name)

    def cached(self) -> dict[str, Any]:
        """Return what makes timm load a file that is on this machine, nothing if there is none."""
        from huggingface_hub import try_to_load_from_cache

        name, _, revision = self.repo.partition("@")
        for file in self.files if name else ():
            found = try_to_load_from_cache(name, file, revision=revision or None)
            if isinstance(found, str):
                return {"file": found, "custom_load": self.custom_load == "hf"}
        if self.url and self.torch_file.is_file():
            return {"file": str(self.torch_file), "custom_load": bool(self.custom_load)}
        return {}

    def download(self) -> None:
        """Fetch the weights into their cache, with a progress bar on a terminal."""
        import torch.hub
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        if not self.repo:
            self.torch_file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.torch_file), progress=sys.stderr.isatty())
            return
        name, _, revision = self.repo.partition("@")
        for file in self.files:
            try:
                hf_hub_download(name, file, revision=revision or None)
            except EntryNotFoundError:
                if file == self.files[-1]:
                    raise
            else:
                return


def weights_on_disk(model: str, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to lay over a timm `pretrained_cfg` so that it loads from a file, without the network.

    The file is downloaded first where it is in no cache and its server answers.

    Raises:
        WeightsUnavailable: timm has none for this model, or they are out of reach; in one line, with the ways on.
    """
    source = Source.of(cfg)
    if not source.repo and not source.url:
        raise WeightsUnavailable(
            f"timm has no pretrained weights for {model}; write --no-pretrained, or name a file (--weights FILE)"
        )
    cached = source.cached()
    if cached:
        return cached
    reason = _out_of_reach(source.address)
    if not reason:
        try:
            source.download()
            return source.cached()
        except Exception as exc:  # the hub's client alone has six unrelated roots of errors
            raise _unavailable(model, source, first_line(exc)) from exc
    raise _unavailable(model, source, reason)


def refuse_early(model: str) -> None:
    """Raise where no cache holds anything and the hub is away, before the many seconds of timm's import.

    Raises:
        WeightsUnavailable: as `weights_on_disk`, which decides in every other case.
    """
    import torch.hub
    from huggingface_hub import constants

    caches = (Path(constants.HF_HUB_CACHE).glob("models--*"), Path(torch.hub.get_dir(), "checkpoints").glob("*"))
    reason = "" if any(map(any, caches)) else _out_of_reach(constants.ENDPOINT)
    if reason:
        raise _unavailable(model, Source(repo=f"timm/{model}" if "." in model else f"timm/{model}.TAG"), reason)


def unreachable(address: str) -> str:
    """Return why a server does not answer, or nothing if it does; never takes much longer than the timeout.

    Any answer will do, an error page too. Proxies are taken from the environment.
    """
    answers: list[str] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S).close()
            answers.append("")
        except urllib.error.HTTPError as exc:
            exc.close()
            answers.append("")
        except Exception as exc:  # whatever it is, a download would meet it too
            answers.append(first_line(getattr(exc, "reason", exc)))

    # A thread, because looking up the server's name knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S + 0.5)
    return answers[0] if answers else f"no answer within {PROBE_TIMEOUT_S:g} s"


def _out_of_reach(address: str) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    reason = unreachable(address)
    return f"{address} cannot be reached ({reason})" if reason else ""


def _unavailable(model: str, source: Source, reason: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"the pretrained weights of {model} are in no cache and {reason}; go on without them (--no-pretrained), "
        f"name a file (--weights FILE), or {source.by_hand}"
    )
