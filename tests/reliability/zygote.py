"""A process that has loaded everything and trained nothing; it forks one child per run, so a run costs no start.

One JSON line per request on stdin, one answer per line on stdout:

    {"config": ..., "runs_dir": ..., "fault": [kind, n] or null, "report": false}
    {"code": exit code, or minus the signal; "path", "note", "summary", "error" where there are any}

Faults, each at the n-th occasion:

    event     SIGKILL between two events              write   SIGKILL before an fsync or a rename
    torn      SIGKILL after a rename whose file lost its second half, as after a power loss
    timer     the kernel kills n milliseconds after the run began to train
    term, int SIGTERM, SIGINT between two events      eval    SIGTERM during an evaluation
    load, build, report   SIGTERM while the data are opened, the parts are wired, the pages are written
    twice     two SIGINT: the run stops at once       held    sleeps at an event until it is killed
    full      from the n-th write on, the disk is full; a write is an open, a write, a flush, a rename
    once      only the n-th write finds it full       short   half of the n-th write is written, then it is full
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Loads, then forks."""
    import torch
    import torch._dynamo  # functional gradients load it

    import aflctl.builtin.algorithms.scaffold
    import aflctl.engine.course.drive
    import aflctl.engine.course.examiner
    import aflctl.report  # noqa: F401
    from aflctl.engine import run

    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # the kernel survives every fault that is planted here
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            answer = _child(run, request)
            os.write(writer, json.dumps(answer).encode())
            os._exit(answer["code"])
        os.close(writer)
        if request.get("wait", True):
            with os.fdopen(reader, "rb") as file:
                text = file.read()
            _, status = os.waitpid(child, 0)
            answer = json.loads(text) if text else {}
            print(json.dumps({**answer, "code": os.waitstatus_to_exitcode(status)}), flush=True)
        else:
            print(json.dumps({"pid": child}), flush=True)


def _child(run: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    from aflctl.errors import AflctlError

    if not request.get("report"):
        import aflctl.report

        aflctl.report.write_all = lambda folder, summary: None
    if request.get("fault"):
        _plant(*request["fault"])
    if request.get("cwd"):
        os.chdir(request["cwd"])
    try:
        result = run(request["config"], sets=request.get("sets", ()), runs_dir=request["runs_dir"])
    except AflctlError as error:
        return {"code": error.exit_code, "error": str(error)}
    return {"code": 0, "path": str(result.path), "note": result.note, "fresh": result.fresh, "summary": result.summary}


def _fill(kind: str, n: int) -> None:
    """Every way in which a run writes, made to fail at the n-th time."""
    import builtins

    import safetensors.torch
    from safetensors import SafetensorError

    from aflctl.runs import atomic, records, rundir

    done = [0]

    def full() -> bool:
        done[0] += 1
        return done[0] == n if kind == "once" else done[0] >= n

    class File:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: Any) -> Any:
            if full():
                if kind == "short" and done[0] == n:
                    return self.file.write(data[: max(1, len(data) // 2)])
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __enter__(self) -> File:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "r" or mode == "rb":
            return builtins.open(path, mode, *args, **kwargs)
        if full():
            raise OSError(errno.ENOSPC, "No space left on device")
        return File(builtins.open(path, mode, *args, **kwargs))

    def failing(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if full():
                raise OSError(errno.ENOSPC, "No space left on device")
            return plain(*args, **kwargs)

        return call

    def shelved(*args: Any) -> None:
        if full():
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(*args)

    for module in (atomic, records, rundir):
        vars(module)["open"] = opened
    save, safetensors.torch.save_file = safetensors.torch.save_file, shelved
    os.fsync, os.replace, os.mkdir = failing(os.fsync), failing(os.replace), failing(os.mkdir)


def _plant(kind: str, n: int) -> None:
    from aflctl.engine.course import examiner
    from aflctl.sim.loop import Loop

    me = os.getpid()
    if kind in ("full", "once", "short"):
        _fill(kind, n)
        return

    def at(what: Any, name: str, act: Callable[..., None], after: bool = False) -> None:
        plain, left = getattr(what, name), [n]

        def counted(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not after:
                act(*args)
            result = plain(*args, **kwargs)
            if left[0] == 0 and after:
                act(*args)
            return result

        setattr(what, name, counted)

    def kill(*_: Any) -> None:
        os.kill(me, signal.SIGKILL)

    def tear(source: Any, target: Any) -> None:
        os.truncate(target, Path(target).stat().st_size // 2)
        kill()

    def wait(*_: Any) -> None:
        while True:
            time.sleep(1)

    def send(number: int) -> Callable[..., None]:
        return lambda *_: os.kill(me, number)

    if kind == "event":
        at(Loop, "step", kill)
    elif kind == "write":
        at(os, "replace", kill)
        at(os, "fsync", kill)
    elif kind == "torn":
        at(os, "replace", tear, after=True)
    elif kind == "timer":
        at_begin, left = Loop.peek, [n]

        def begin(loop: Any) -> Any:
            if left:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, left.pop() / 1000)
            return at_begin(loop)

        Loop.peek = begin  # type: ignore[method-assign]
    elif kind == "term":
        at(Loop, "step", send(signal.SIGTERM))
    elif kind == "int":
        at(Loop, "step", send(signal.SIGINT))
    elif kind == "eval":
        at(examiner, "evaluate", send(signal.SIGTERM))
    elif kind in ("load", "build", "report"):
        import aflctl.report
        from aflctl.engine.parts import build

        places = {"load": (build, "federate"), "build": (build, "build"), "report": (aflctl.report, "write_all")}
        at(*places[kind], send(signal.SIGTERM))
    elif kind == "held":
        at(Loop, "step", wait)
    elif kind == "twice":
        at(Loop, "step", lambda *_: (os.kill(me, signal.SIGINT), os.kill(me, signal.SIGINT)))  # type: ignore[arg-type]
    else:
        raise ValueError(kind)


if __name__ == "__main__":
    main()
