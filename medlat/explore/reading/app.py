"""The web application of a reader study: what a reader's browser may ask. No answer to it tells the truth of a case."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from medlat.core.errors import UserError, did_you_mean
from medlat.explore.app import guarded, json_of, template
from medlat.explore.reading.answers import Answers, reader_code
from medlat.explore.reading.cases import Case, order_of
from medlat.explore.reading.plan import Plan, Question
from medlat.report.sprites import data_uri

log = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "reading.html.j2"
LONGEST = 500  # letters of free text


def application(plan: Plan, cases: Sequence[Case], answers: Answers, token: str, hosts: Sequence[str]) -> ASGIApp:
    """hosts: as of `medlat.explore.app.application`."""
    reading = Reading(plan, cases, answers)
    routes = [Route("/", reading.page), *(Route(f"/{each.__name__}", each, methods=["POST"]) for each in reading.asked)]
    return guarded(routes, token, hosts)


class Reading:
    """Cases, in each reader's own order, and their answers. A request is JSON, and so is the answer to it."""

    def __init__(self, plan: Plan, cases: Sequence[Case], answers: Answers) -> None:
        self.plan, self.cases, self.answers = plan, cases, answers
        self.asked = (self.case, self.answer)

    async def page(self, request: Request) -> Response:
        about = {"title": self.plan.title, "longest": LONGEST, "phantom": self.answers.truth["phantom"]}
        return HTMLResponse(template(PAGE, request.state.nonce, **about))

    async def case(self, request: Request) -> Response:
        """{"reader"} -> the case that is next for a reader: its place in the reader's order from 1, of how many; how it
        is shown; pictures; and what is asked. place null: all are answered.
        """
        reader = reader_code((await json_of(request)).get("reader"))
        return JSONResponse(self._next(reader))

    async def answer(self, request: Request) -> Response:
        """{"reader", "place", "said": {question: answer}} -> the next case, once the answers are on the disk."""
        asked = await json_of(request)
        reader, place = reader_code(asked.get("reader")), asked.get("place")
        now = self._now(reader)
        if type(place) is not int or not 0 < place <= min(now, len(self.cases)):
            raise UserError(f"place={place}: that case was not shown yet; expected {now}")
        if place < now:
            return JSONResponse(self._next(reader))  # sent twice: the first answer stays
        number = self._number(reader)
        said = self._said(self.plan.asked_of(self.cases[number].shown), asked.get("said"))
        try:
            await run_in_threadpool(self.answers.add, reader, number, said)
        except OSError as error:
            log.error("an answer was not kept: %s", error.strerror)
            raise UserError(
                f"the answer was not kept ({error.strerror}); please tell who leads the study, and send it again"
            ) from error
        return JSONResponse(self._next(reader))

    def _now(self, reader: str) -> int:
        """The place of the case that is next."""
        return len(self.answers.done.get(reader, ())) + 1

    def _number(self, reader: str) -> int:
        """The first case in the reader's order that is not answered."""
        done = self.answers.done.get(reader, ())
        return next(number for number in order_of(self.plan.seed, len(self.cases), reader) if number not in done)

    def _next(self, reader: str) -> dict[str, Any]:
        place = self._now(reader)
        if place > len(self.cases):
            return {"reader": reader, "place": None, "of": len(self.cases)}
        case = self.cases[self._number(reader)]
        return {
            "reader": reader,
            "place": place,
            "of": len(self.cases),
            "shown": case.shown,
            "pictures": [data_uri(picture) for picture in case.pictures],
            "questions": [
                {"name": each.name, "ask": each.ask, "choices": list(each.choices)}
                for each in self.plan.asked_of(case.shown)
            ],
        }

    @staticmethod
    def _said(questions: Sequence[Question], found: Any) -> dict[str, str]:
        """Every question answered, and with something that can be said. Raises UserError where it is not."""
        if not isinstance(found, dict) or set(found) != {question.name for question in questions}:
            raise UserError(f"said: expected an answer to each of {', '.join(each.name for each in questions)}")
        for question in questions:
            text = found[question.name]
            if question.choices and text not in question.choices:
                raise UserError(f"{question.name}={text}: cannot be said{did_you_mean(str(text), question.choices)}")
            if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
                raise UserError(f"{question.name}: expected text of 1 to {LONGEST} letters")
        return found
