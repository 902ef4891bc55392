"""Where a run comes from: enough to repeat it, nothing that should not be published.

No environment variables, no host name, no user name in paths: the home folder is written as `~`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

FORMAT = 1
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors")


# ---- identity ----


def _sha256(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def code_fingerprint(version: str, plugin_hashes: Mapping[str, str]) -> str:
    """sha256 of the aflctl version and the source hash of every plug-in module used, by `kind/name`."""
    return _sha256(["aflctl-code-1", version, sorted(plugin_hashes.items())])


def identity(config_digest: str, code: str, data: str, fleet: str = "") -> str:
    """sha256 of what decides a run's result: resolved config, code, data, and the values behind the fleet's names."""
    return _sha256(["aflctl-run-1", config_digest, code, data, fleet])


# ---- privacy ----


@cache
def _homes(home: str) -> re.Pattern[str] | None:
    places = {p for p in (home, os.path.realpath(home)) if len(p.strip("/")) > 0}
    if not places:
        return None
    longest_first = sorted(places, key=lambda place: (-len(place), place))
    return re.compile("(?:" + "|".join(map(re.escape, longest_first)) + r")(?=$|[^\w.-])")


def redact(text: str) -> str:
    """The text with the home folder as `~`."""
    pattern = _homes(os.path.expanduser("~"))
    return pattern.sub("~", text) if pattern else text


def redacted(value: Any) -> Any:
    """The same tree with every text redacted, keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(k)): redacted(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [redacted(v) for v in value]
    return redact(str(value)) if isinstance(value, os.PathLike) else value


def without_credentials(url: str) -> str:
    """An origin URL without user, password, query and fragment."""
    if "://" not in url:
        return redact(re.sub(r"^[^/@]*@", "", url))  # user@host:path
    parts = urlsplit(url)
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


# ---- surroundings ----


def _git(folder: Path, *arguments: str) -> str | None:
    """git's answer; None without git, outside a repository, or after two seconds."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, dirty flag and origin of the repository around `folder`; None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "--no-optional-locks", "status", "--porcelain")
    origin = _git(folder, "config", "--get", "remote.origin.url")
    return {
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "origin": without_credentials(origin) if origin else None,
    }


def versions(distributions: Sequence[str] = ()) -> dict[str, str]:
    """Versions of aflctl, Python, the libraries that compute, and the given plug-in distributions."""
    from aflctl import __version__

    found = {"aflctl": __version__, "python": platform.python_version()}
    for name in dict.fromkeys((*LIBRARIES, *distributions)):
        with suppress(metadata.PackageNotFoundError):
            found.setdefault(name, metadata.version(name))
    return found


def cpu_model() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """CPU, cores, memory, and the GPUs when torch is using them already."""
    ram = None
    with suppress(OSError, ValueError, AttributeError):
        ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "memory_bytes": ram,
        "gpus": _gpus(),
    }


def _gpus() -> list[dict[str, Any]]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": p.name, "memory_bytes": p.total_memory, "cuda": torch.version.cuda} for p in properties]


def now() -> str:
    """The host's time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect(
    *,
    identity: str,
    fingerprints: Mapping[str, str],
    seeds: Mapping[str, int],
    origins: Mapping[str, Any],
    overrides: Sequence[str] = (),
    argv: Sequence[str] | None = None,
    plugins: Mapping[str, Any] | None = None,
    distributions: Sequence[str] = (),
    executor: Any = None,
    threads: Mapping[str, int] | int | None = None,
    folder: Path | None = None,
    history: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The document of `provenance.json`.

    fingerprints    `config`, `code`, `data`, `fleet`: the parts of the identity
    origins         dotted key -> where its value came from
    overrides       the `--set`s and flags as given
    argv            the command line (default: this process's)
    plugins         `kind/name` -> source hash, or more about it
    distributions   names of the plug-in distributions used
    executor        what was picked, and why
    folder          whose git repository is looked up (default: the working folder)
    history         earlier attempts at this directory (`RunDir.history`)
    """
    command = list(sys.argv if argv is None else argv)
    if command:
        command[0] = Path(command[0]).name
    document = {
        "schema": "aflctl.provenance",
        "version": 1,
        "format": FORMAT,
        "identity": identity,
        "fingerprints": dict(fingerprints),
        "started": now(),
        "command": command,
        "overrides": list(overrides),
        "origins": {key: _origin(value) for key, value in origins.items()},
        "seeds": dict(seeds),
        "versions": versions(distributions),
        "plugins": dict(plugins or {}),
        "git": git_state(folder or Path.cwd()),
        "hardware": hardware(),
        "threads": threads,
        "executor": executor,
        "history": [dict(entry) for entry in history],
    }
    return dict(redacted(document))


def _origin(value: Any) -> Any:
    """An origin object (`source`, `where`) as data; text and mappings stay."""
    if hasattr(value, "source") and hasattr(value, "where"):
        return {"source": str(value.source), "where": str(value.where)}
    return value


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(gpu.get("name")) if isinstance(gpu, Mapping) else str(gpu) for gpu in value) or "(none)"
    return str(value) if value else "(absent)"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between the provenance of two runs of one configuration, in words."""
    told: list[str] = []
    old, new = before.get("versions") or {}, after.get("versions") or {}
    told += [
        f"{name} {old.get(name, '(absent)')} -> {new.get(name, '(absent)')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    old, new = before.get("hardware") or {}, after.get("hardware") or {}
    for name, word in (("cpu", "processor"), ("machine", "architecture"), ("gpus", "GPUs")):
        if old.get(name) != new.get(name) and old.get(name) is not None:
            told.append(f"{word} {_short(old[name])} -> {_short(new.get(name))}")
    old, new = before.get("plugins") or {}, after.get("plugins") or {}
    told += [f"the source of {name} was edited" for name in sorted({*old} & {*new}) if old[name] != new[name]]
    old, new = before.get("fingerprints") or {}, after.get("fingerprints") or {}
    if old.get("data") != new.get("data"):
        told.append("the data changed")
    if old.get("fleet") != new.get("fleet"):
        told.append("the fleet's profiles or files changed")
    return told
