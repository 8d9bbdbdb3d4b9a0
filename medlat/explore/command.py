"""Look at finished runs in the browser: `medlat explore RUN`, `medlat explore RUN RUN` or `medlat explore DIR`.

RUN is the folder of a finished run. Prints the address of a page on this machine: held-out images, samples and files of
yours, moved along the run's directions, and what that changes. Two runs stand side by side, each with its sliders, at
the same image. DIR is a folder with runs below it, as a sweep leaves it: its table is the way to each. Ctrl+C ends it.

  --port N      the port; 0, as it is without: a free one
  --host NAME   reachable from other machines too, by this address: whoever knows the token sees the run's images
  --store DIR   where the run's artifacts lie, if they were moved
  --device NAME where networks compute, e.g. cuda
  --study FILE  a reader study of one run instead: who has the address reads the cases of STUDY.yaml, blinded; a file
                that is not there is written, as a first study of this run
  --answers FILE where the readers' answers go; else beside STUDY.yaml, under its name as .csv

Names and notes that you give to directions stand in RUN/explore.json. Files of yours are read and not kept.
"""

import errno
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from medlat.core.arguments import command, parsed, usable_device
from medlat.core.errors import UserError

OPTIONS = ("--port", "--host", "--store", "--device", "--study", "--answers")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MISSING = 'Starlette and uvicorn are not installed; pip install -e ".[explore]" in a clone'


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl+C; returns the exit code."""
    return command(arguments, __doc__, _explore)


def _explore(arguments: Sequence[str]) -> None:
    places, options = parsed(arguments, OPTIONS)
    if len(places) not in (1, 2):
        raise UserError(f"medlat explore: found {len(places)} folders, expected RUN, RUN RUN, or the DIR of a sweep")
    explore([Path(place).expanduser() for place in places], options)


def explore(folders: Sequence[Path], options: dict[str, str]) -> None:
    """See the module. Raises UserError where something of it cannot be done."""
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(MISSING) from error

    if "--answers" in options and "--study" not in options:
        raise UserError("--answers: of a reader study; expected --study STUDY.yaml too")
    if "--study" in options and len(folders) > 1:
        raise UserError(f"--study: found {len(folders)} folders, expected one RUN")
    host, token = options.get("--host", LOOPBACK[0]), secrets.token_urlsafe(24)
    listening = _listening(host, options.get("--port", "0"))
    with listening, ExitStack() as stack:
        everywhere = host in ("0.0.0.0", "::")
        hosts = [*LOOPBACK, socket.gethostname().lower(), "*"] if everywhere else [*LOOPBACK, host.lower()]
        if "--study" in options:
            served = _study(folders[0], options, stack, token, hosts)
        else:
            served = _served(folders, options, token, hosts)
        if served is None:
            return
        if host not in LOOPBACK:
            print(f"--host={host}: other machines can reach this; who has the address sees the run's images.")
        shown = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listening.getsockname()[1]}/?token={token}", flush=True)
        print("Open it in a browser; Ctrl+C ends it.", flush=True)
        settings = uvicorn.Config(served, log_level="warning", access_log=False, server_header=False)
        with suppress(KeyboardInterrupt):  # how it is ended
            uvicorn.Server(settings).run(sockets=[listening])


def _served(folders: Sequence[Path], options: dict[str, str], token: str, hosts: Sequence[str]) -> Any:
    """What answers: the page of a run, of two, or of a sweep."""
    from medlat.explore.app import application
    from medlat.explore.several import side_by_side, sweep
    from medlat.explore.view import Explorer
    from medlat.study.finished import load
    from medlat.study.run_folder import ARTIFACTS

    device, lock = usable_device(options.get("--device", "cpu")), Lock()

    def opened(folder: Path) -> Explorer:
        run = load(folder, options.get("--store"), device)
        run.check_ended()
        explorer = Explorer(run, lock)
        explorer.numbers(explorer.first)  # what is slow the first time is done before somebody waits
        return explorer

    if len(folders) > 1:
        return side_by_side(folders, opened, token, hosts)
    (folder,) = folders
    if not (folder / ARTIFACTS).exists() and next(folder.glob(f"**/{ARTIFACTS}"), None) is not None:
        return sweep(folder, opened, token, hosts)
    explorer = opened(folder)
    Thread(target=explorer.warm, daemon=True).start()
    return application(explorer, token, hosts)


def _study(run: Path, options: dict[str, str], stack: ExitStack, token: str, hosts: Sequence[str]) -> Any:
    """What answers readers; None where there was no such file, and a first one is written instead."""
    from medlat.core.files import write_whole, writing
    from medlat.explore.reading.answers import Answers
    from medlat.explore.reading.app import application
    from medlat.explore.reading.cases import build_cases, first_plan, truth_of
    from medlat.explore.reading.plan import read_plan
    from medlat.explore.view import Explorer
    from medlat.study.finished import load

    found = load(run, options.get("--store"), usable_device(options.get("--device", "cpu")))
    found.check_ended()
    explorer = Explorer(found)
    path = Path(options["--study"])
    if not path.exists():
        with writing("--study", path.parent):
            write_whole(path, first_plan(explorer))
        print(f"{path}: was not there; written, a first study of this run. The same command serves it.")
        return None
    plan = read_plan(path, explorer)
    cases = build_cases(plan, explorer)
    kept = Path(options.get("--answers", path.with_suffix(".csv")))
    answers = stack.enter_context(Answers(kept, truth_of(plan, explorer, cases)))
    print(f"{len(cases)} cases; answers go to {kept}, and medlat study {kept} counts them.", flush=True)
    return application(plan, cases, answers, token, hosts)


def _listening(host: str, port: str) -> socket.socket:
    """A socket that is bound before the run is opened: what is wrong with it is said at once."""
    if not port.isdigit() or int(port) > 65535:
        raise UserError(f"--port={port}: expected a number from 0 (a free one) to 65535")
    try:
        # The protocol is named, as asyncio turns Nagle's waiting (40 ms an answer) off only where it is.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, int(port)))
        found.listen()  # who opens the address before all is ready waits
    except OSError as error:
        what = "--port" if error.errno in (errno.EACCES, errno.EADDRINUSE) else "--host"
        value = port if what == "--port" else host
        raise UserError(f"{what}={value}: {error.strerror or error}; expected another, or none") from error
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
