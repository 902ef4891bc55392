"""What datasets cost: seconds to convert and to open, and memory. Prints; asserts nothing.

    python benchmarks/data.py mnist             # what AFLCTL_DATA_DIR holds
    python benchmarks/data.py --tiny-imagenet   # a synthetic tree of the full size (110,000 JPEG files, 2 GB of disk)

Memory is the largest resident set of a process of its own; pages of the mapped file count in it as far as they were
touched, although the system may take them back at any time ("of that mapped").
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aflctl.data import FileDataset, folder
from aflctl.plugins import registry

WNIDS, TRAIN, VALIDATION = 200, 500, 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", default=["digits"])
    parser.add_argument("--tiny-imagenet", action="store_true", help="make and convert a tree of the full size")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "NAME", "CACHE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
    elif given.tiny_imagenet:
        tiny_imagenet()
    else:
        for name in given.datasets:
            measure("open", name, folder())
            measure("use", name, folder())


def measure(what: str, name: str, cache: Path) -> None:
    """One action in a process of its own."""
    subprocess.run([sys.executable, __file__, "--child", what, name, str(cache)], check=True)


def child(what: str, name: str, cache: str) -> None:
    """prepare: convert; open: import torch, map the file; use: read every sample once, as 100 clients."""
    import torch

    torch.set_num_threads(1)
    dataset = registry().load("datasets", name)()
    before = memory()
    start = time.perf_counter()
    if what == "prepare":
        dataset.prepare(Path(cache), download=False)
    else:
        source = dataset.open(Path(cache))
    seconds = time.perf_counter() - start
    if what == "use":
        from aflctl.train.batches import Feed
        from aflctl.train.federation import Divided

        rows = torch.randperm(len(source.train)).numpy()
        data = Divided(source, [rows[c::100] for c in range(100)])
        feed, start = Feed(source.spec), time.perf_counter()
        for client in range(100):
            samples = data.train(client)
            for at in torch.arange(len(samples)).split(64):
                feed.batch(samples, at)
        seconds = time.perf_counter() - start
    size = ""
    if isinstance(dataset, FileDataset) and dataset.stored_at(Path(cache)).is_file():
        size = f", file {dataset.stored_at(Path(cache)).stat().st_size / 1e6:.0f} MB"
    mapped = f", of that mapped {rss_file_mb():.0f} MB" if rss_file_mb() else ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name} {what}: {seconds:.3f} s, memory {before:.0f} -> peak {peak:.0f} MB{mapped}{size}", flush=True)


def memory() -> float:
    """Resident MB now."""
    return _status("VmRSS")


def rss_file_mb() -> float:
    """Resident MB that are pages of mapped files, 0 where the system does not say."""
    return _status("RssFile")


def _status(key: str) -> float:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0.0)


def tiny_imagenet() -> None:
    """A tree with as many files as the published one, each a copy of one of 64 noise pictures."""
    import numpy as np
    from PIL import Image

    dice = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        raw = Path(place) / "tiny-imagenet" / "raw"
        (raw / "val" / "images").mkdir(parents=True)
        pictures = []
        for i in range(64):
            pictures.append(Path(place) / f"{i}.JPEG")
            Image.fromarray(dice.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(pictures[-1], quality=75)
        ids = [f"n{i:08}" for i in range(WNIDS)]
        (raw / "wnids.txt").write_text("\n".join(ids))
        for wnid in ids:
            (raw / "train" / wnid / "images").mkdir(parents=True)
            for i in range(TRAIN):
                shutil.copyfile(pictures[i % 64], raw / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        lines = [f"val_{i}.JPEG\t{ids[i % WNIDS]}\t0\t0\t9\t9" for i in range(VALIDATION)]
        (raw / "val" / "val_annotations.txt").write_text("\n".join(lines))
        for i in range(VALIDATION):
            shutil.copyfile(pictures[i % 64], raw / "val" / "images" / f"val_{i}.JPEG")
        print(f"made {WNIDS * TRAIN + VALIDATION} files", flush=True)
        for what in ("prepare", "open", "use"):
            measure(what, "tiny-imagenet", Path(place))


if __name__ == "__main__":
    main()
