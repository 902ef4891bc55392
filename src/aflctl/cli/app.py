"""The commands, and what happens to their errors. Bodies load what they need when they run."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Any

import typer

from aflctl import __version__, errors
from aflctl.cli import compare, config, console, data, plan, plugin, report, run, show, verify
from aflctl.cli import list as listing
from aflctl.runs.signals import terminable

EPILOG = (
    "Exit codes: 0 done; 1 the work failed; 2 the user's mistake; 3 the environment (a plug-in, data, the disk); "
    "130 interrupted, can be continued."
)
_REFUSED = errors.DiskProblem.FULL | errors.DiskProblem.FORBIDDEN

app = typer.Typer(
    name="aflctl",
    help="A command-line laboratory for asynchronous federated learning under one virtual clock.",
    epilog=EPILOG,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.out(f"aflctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("run", short_help="Run an experiment.")(run.run)
app.command("plan", short_help="What a run would do, without training.")(plan.plan)
app.command("list", short_help="What there is to choose from.")(listing.list_)
app.command("show", short_help="One run and its results.")(show.show)
app.command("compare", short_help="Many runs, grouped over seeds.")(compare.compare)
app.command("report", short_help="A comparison as one HTML page.")(report.report)
app.command("verify", short_help="Run a run again and compare.")(verify.verify)
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(plugin.app, name="plugin")


def main(args: Sequence[str] | None = None) -> None:
    """The console script: runs one command and exits with its code."""
    words = list(sys.argv[1:] if args is None else args)
    with terminable():
        code = execute(words)
    console.finish()
    sys.exit(code)


def execute(words: Sequence[str]) -> int:
    """Runs one command line; every error becomes a short message and an exit code."""
    wants_json = "--json" in words
    with console.answer_only() if wants_json else nullcontext():
        try:
            result: Any = app(args=list(words), prog_name="aflctl", standalone_mode=False)
            if result == errors.Interrupted.exit_code:
                return _tell(errors.Interrupted("interrupted"), wants_json)
            return result if isinstance(result, int) else 0
        except typer.Exit as done:
            return int(done.exit_code)
        except (KeyboardInterrupt, typer.Abort):
            return _tell(errors.Interrupted("interrupted"), wants_json)
        except SystemExit as done:
            if isinstance(done.__context__, BrokenPipeError):  # the reader of our output is gone
                return 0
            return done.code if isinstance(done.code, int) else int(done.code is not None)
        except errors.AflctlError as error:
            return _tell(error, wants_json)
        except OSError as error:
            if error.errno not in _REFUSED:
                return _unexpected(error, wants_json)
            where = str(error.filename) if error.filename else None
            return _tell(errors.DiskProblem(error.strerror or str(error), where=where), wants_json)
        except Exception as error:
            return _unexpected(error, wants_json)


def _tell(error: errors.AflctlError, wants_json: bool) -> int:
    if os.environ.get("AFLCTL_TRACEBACK"):
        console.err("".join(traceback.format_exception(error)).rstrip())
    if wants_json:
        problems = list(error.problems) if isinstance(error, errors.ConfigError) else []
        first = problems[0] if problems else None
        console.json_error(
            error.exit_code,
            error.message,
            error.hint or (first.hint if first else None),
            error.where or (first.where if first else None),
            [asdict(p) for p in problems],
        )
    else:
        console.error(error)
    return error.exit_code


def _unexpected(error: Exception, wants_json: bool) -> int:
    """A wrong command line (Typer's own exceptions know how to show themselves), or a defect."""
    shown = getattr(error, "format_message", None)
    if callable(shown) and hasattr(error, "exit_code"):
        context = getattr(error, "ctx", None)
        path = getattr(context, "command_path", None) or "aflctl"
        if type(error).__name__ == "NoArgsIsHelpError":
            console.err(shown())
            return 2
        return _tell(errors.UserError(str(shown()), hint=f"{path} --help shows what there is"), wants_json)
    if os.environ.get("AFLCTL_TRACEBACK"):
        console.err("".join(traceback.format_exception(error)).rstrip())
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "this is a defect of aflctl or of a plug-in; AFLCTL_TRACEBACK=1 shows where it happened"
    if wants_json:
        console.json_error(1, message, hint)
    else:
        console.error(message, hint=hint)
    return 1


if __name__ == "__main__":
    main()
