"""The web application: what a browser may ask of an `Explorer`, and who may ask.

Whoever asks must know the token, and must have asked for one of the hosts that the server is (else a page from
elsewhere could reach it by a name of its own, DNS rebinding). Nothing is read by a path that a request names.
"""

import ipaddress
import json
import math
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from medlat.core.errors import UserError, did_you_mean
from medlat.core.files import jsonable
from medlat.core.terminal import complain, printable
from medlat.explore.export import KINDS
from medlat.explore.looking import otherwise, where
from medlat.explore.upload import LARGEST_FILE, TOO_LARGE, read_upload
from medlat.explore.view import Explorer, View
from medlat.report import page
from medlat.report.glossary import explained
from medlat.report.readers import keep, read_kept
from medlat.report.sprites import change_sprite, css_gradient, data_uri, image_sprite
from medlat.report.style import number, with_unit
from medlat.steps import builders

HERE = Path(__file__).parent
SCRIPTS = {"explore": ("explore", "zoom", "looking")}  # of a page that has more than one of its own name
TOKEN = "x-token"  # the header that has it; the address of the page has it as `token`
LARGEST = 2**16  # bytes of a request that is no upload
THUMBNAILS, SMALL = 24, 64  # on a page; pixels of one
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def application(explorer: Explorer, token: str, hosts: Sequence[str]) -> ASGIApp:
    """The page of one run: see `guarded`."""
    return guarded(Exploring(explorer).routes, token, hosts)


def guarded(routes: Sequence[BaseRoute], token: str, hosts: Sequence[str]) -> ASGIApp:
    """hosts: names and addresses that a request may call the server by, without a port; "*": any address in numbers."""
    handlers: dict[Any, Any] = {UserError: _refused, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, hosts)


class Guard:
    """Lets a request through that knows the token and calls the server by its name."""

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str]) -> None:
        self.app, self.token, self.hosts = app, token, set(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        request = Request(scope)
        nonce = scope.setdefault("state", {})["nonce"] = secrets.token_urlsafe(16)

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = {name.encode(): text.format(nonce=nonce).encode() for name, text in HEADERS.items()}
                message["headers"] = [*message["headers"], *own.items()]
            await send(message)

        problem = None
        if not self._is_ours(request.headers.get("host", "")):
            problem = "this server is not called so"
        elif not secrets.compare_digest(self._said(request).encode(), self.token.encode()):
            problem = "no token, or a wrong one; open the address that medlat explore printed"
        app = self.app if problem is None else PlainTextResponse(f"medlat: {problem}\n", 403)
        try:
            return await app(scope, receive, answer)
        except ClientDisconnect:
            return None
        except Exception as error:  # it was answered as our fault, and is said where the server runs
            error.noted = {  # type: ignore[attr-defined]
                "error": type(error).__name__, "where": "in a request",
                "reason": "not kept, as it may name patients' files; on a terminal it is said",
            }  # fmt: skip
            return complain(error)

    @staticmethod
    def _said(request: Request) -> str:
        """The token: of a page in its address, which a person opens; of anything else in a header."""
        is_page = request.url.path.endswith("/") and request.method == "GET"
        return str(request.query_params.get("token", "") if is_page else request.headers.get(TOKEN, ""))

    def _is_ours(self, host: str) -> bool:
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        return name in self.hosts or ("*" in self.hosts and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Exploring:
    """What a browser asks for. A request is JSON, and so is the answer: a view and what is asked of it."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    @property
    def routes(self) -> list[Route]:
        posts = ("thumbnails", "begin", "frame", "numbers", "reach", "where", "otherwise", "keep", "export", "upload")
        return [Route("/", self.page), *(Route(f"/{name}", getattr(self, name), methods=["POST"]) for name in posts)]

    async def page(self, request: Request) -> Response:
        html = await run_in_threadpool(render, self.explorer, request.state.nonce)
        return HTMLResponse(html)

    async def thumbnails(self, request: Request) -> Response:
        """{"page": P} -> held-out images: their numbers, in one picture beside each other, and how many there are."""
        asked = (await json_of(request)).get("page", 0)
        pages = -(-len(self.explorer.held_out) // THUMBNAILS)
        if not isinstance(asked, int) or isinstance(asked, bool) or not 0 <= asked < pages:
            raise UserError(f"page={asked}: expected 0 to {pages - 1}")
        return await self._answer(lambda: self._thumbnails(asked))

    def _thumbnails(self, page: int) -> dict[str, Any]:
        explorer, first = self.explorer, page * THUMBNAILS
        rows = explorer.held_out[first : first + THUMBNAILS]
        images = explorer.run.context.images.fetch(rows, explorer.image)
        if images.shape[-1] > SMALL:
            images = torch.nn.functional.interpolate(images, size=(SMALL, SMALL), mode="area")
        sprite = image_sprite(explorer.image.pictures(images), explorer.look)
        return {"first": first, "count": len(rows), "all": len(explorer.held_out), "picture": data_uri(sprite)}

    async def begin(self, request: Request) -> Response:
        """{"view"} -> the original, if there is one, what the generator gives back, and what is said of it."""
        view = View.of((await json_of(request)).get("view"))
        return await self._answer(lambda: self._begin(view))

    def _begin(self, view: View) -> dict[str, Any]:
        start = self.explorer.start(view)
        shown = {"original": start.real, "reconstruction": start.images}
        return {name: self._shown(images, view) for name, images in shown.items()} | {"notes": list(start.notes)}

    async def frame(self, request: Request) -> Response:
        """{"view"} -> the moved image, and what changed."""
        view = View.of((await json_of(request)).get("view"))
        return await self._answer(lambda: self._frame(view))

    def _frame(self, view: View) -> dict[str, Any]:
        moved, change = self.explorer.moved(view), self.explorer.change(view)
        colours = data_uri(change_sprite(change[None], self.explorer.change_limit))
        return {"moved": self._shown(moved, view), "change": colours}

    def _shown(self, images: Any, view: View) -> str | None:
        if images is None:
            return None
        return data_uri(image_sprite(self.explorer.pictures(images)[None], self.explorer.window(view)))

    async def numbers(self, request: Request) -> Response:
        """{"view"} -> predictions, measurements and the distance to the data, in numbers and in words."""
        view = View.of((await json_of(request)).get("view"))
        return await self._answer(lambda: _in_words(self.explorer.numbers(view)))

    async def reach(self, request: Request) -> Response:
        """{"view", "direction", "prediction"} -> the step along it where the classifier predicts that."""
        asked = await json_of(request)
        view, direction, wanted = View.of(asked.get("view")), str(asked.get("direction")), asked.get("prediction")
        if not isinstance(wanted, int | float) or isinstance(wanted, bool) or not abs(wanted) < 1e9:
            raise UserError(f"prediction={wanted}: expected a number")
        return await self._answer(lambda: self.explorer.reach(view, direction, float(wanted)))

    async def where(self, request: Request) -> Response:
        """{"view"} -> where the classifier looks, before and after the move."""
        view = View.of((await json_of(request)).get("view"))
        return await self._answer(lambda: {"maps": where(self.explorer, view)})

    async def otherwise(self, request: Request) -> Response:
        """{"view"} -> the nearest held-out image that the classifier sees otherwise."""
        view = View.of((await json_of(request)).get("view"))
        return await self._answer(lambda: otherwise(self.explorer, view))

    async def keep(self, request: Request) -> Response:
        """{"direction", "said": {"name", "star", "note"}} -> what is kept of all directions."""
        asked = await json_of(request)
        name = self.explorer.slider(str(asked.get("direction"))).name
        return await self._answer(lambda: keep(self.explorer.run.folder, name, asked.get("said")))

    async def export(self, request: Request) -> Response:
        """{"view", "as": "png", "csv", "npz" or "py"} -> the file."""
        asked = await json_of(request)
        view, kind = View.of(asked.get("view")), str(asked.get("as"))
        if kind not in KINDS:
            raise UserError(f"as={kind}: there is no such export{did_you_mean(kind, KINDS)}")
        media, make = KINDS[kind]
        return Response(await self._computed(lambda: make(self.explorer, view)), media_type=media)

    async def upload(self, request: Request) -> Response:
        """A file as the body, with ?suffix=.png&place=12 -> {"start": what a view begins with}."""
        query = request.query_params
        run, size = self.explorer.run, request.headers.get("content-length", "0")
        if size.isdigit() and int(size) > LARGEST_FILE:
            raise UserError(TOO_LARGE)
        found = await read_upload(run, request.stream(), query.get("suffix", ""), query.get("place", ""))
        images = run.image.to_network(torch.from_numpy(found.images))
        if len(images) != 1:
            raise UserError(f"the file holds {len(images)} images; expected one, or the number of a slice")
        return await self._answer(lambda: {"start": self.explorer.upload(images, found.notes[0])})

    async def _computed(self, compute: Callable[[], Any]) -> Any:
        def alone() -> Any:
            with self.explorer.lock:
                return compute()

        return await run_in_threadpool(alone)

    async def _answer(self, compute: Callable[[], Any]) -> Response:
        return JSONResponse(jsonable(await self._computed(compute)))


def render(explorer: Explorer, nonce: str) -> str:
    """The page of one run."""
    return template(
        HERE / "explore.html.j2",
        nonce,
        _facts(explorer),
        title=str(explorer.run.config.name),
        look=explorer.look,
        left_out=explorer.left_out,
        targets=explorer.targets,
        inverts=explorer.inverts,
        phantom=builders.is_phantom(explorer.run.config),
        gradient=css_gradient(),
        limit=number(explorer.change_limit),
    )


def template(file: Path, nonce: str, facts: Any = None, **values: Any) -> str:
    """A page, with the scripts beside its template and what they know: nothing of it is loaded from elsewhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    styles = (Path(page.__file__).parent / "page.css", HERE / "explore.css")
    environment = Environment(
        loader=FileSystemLoader(file.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["explained"] = explained
    name = file.name.partition(".")[0]
    scripts = SCRIPTS.get(name, (name,))
    return environment.get_template(file.name).render(
        nonce=nonce,
        style="".join(path.read_text(encoding="utf-8") for path in styles),
        script="\n".join(file.with_name(f"{part}.js").read_text(encoding="utf-8") for part in scripts),
        facts=json.dumps(jsonable(facts)).replace("<", "\\u003c"),  # inside a script
        **values,
    )


def _facts(explorer: Explorer) -> dict[str, Any]:
    """What the page's script knows of the run."""
    windows = {} if explorer.look.colour else explorer.look.modality.display_windows
    return {
        "sliders": [slider.facts() for slider in explorer.sliders.values()],
        "main": explorer.main,
        "start": explorer.first.start,
        "windows": {name: list(window) for name, window in windows.items()},
        "window": list(explorer.look.window),
        "unit": explorer.look.unit,
        "noun": explorer.look.modality.noun,
        "size": [explorer.image.height, explorer.image.width],
        "threshold": explorer.threshold if explorer.targets else None,
        "thumbnails": THUMBNAILS,
        "largest": LARGEST_FILE,
        "too_large": TOO_LARGE,
        "held_out": len(explorer.held_out),
        "layers": explorer.layers,
        "kept": read_kept(explorer.run.folder),
    }


def _in_words(numbers: dict[str, Any]) -> dict[str, Any]:
    """With how each number is written, under "said"."""
    for row in numbers["predictions"]:
        row["said"] = {end: number(row[end]) for end in ("original", "reconstruction", "moved") if end in row}
    for row in numbers["measurements"]:
        unit = row["unit"]
        row["said"] = {end: _with_unit(row[end], unit) for end in ("original", "reconstruction", "moved") if end in row}
        row["said"]["change"] = _with_unit(row["change"], unit, 2, sign=True)
        row["said"]["change_in_sd"] = number(row["change_in_sd"], 2, sign=True)
    if (distance := numbers["distance"]) is not None:
        distance["said"] = {name: number(distance[name]) for name in ("reconstruction", "moved", "limit")}
    return numbers


def _with_unit(value: float, unit: str, digits: int = 3, sign: bool = False) -> str:
    return with_unit(number(value, digits, sign), unit) if math.isfinite(value) else "–"


async def json_of(request: Request) -> dict[str, Any]:
    """What a request asks. Raises UserError where the body is no JSON object, or a large one."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise UserError(f"the request has more than {LARGEST} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError("the request is no JSON") from error
    if not isinstance(found, dict):
        raise UserError("the request is no JSON object")
    return found


def _refused(request: Request, error: Exception) -> Response:
    if request.method == "GET":  # a page, which a person opens
        return PlainTextResponse(f"medlat: {printable(str(error))}\n", 400)
    return JSONResponse({"error": printable(str(error))}, 400)


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "medlat failed; the terminal that it runs in says how"}, 500)
