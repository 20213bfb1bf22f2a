"""Bringing a history, in the view *Bank*: a file is sent, shown as what would be stored of it, and then stored or left.

The file lies in a directory of its own while it is read, and not longer. What it brings goes into the namespace that
the page shows, whatever it says itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Progress
from membank_llama.memory.bank import MemBank
from membank_llama.memory.imports.export_kinds import TITLES
from membank_llama.memory.imports.import_plan import ImportPlan, read_place
from membank_llama.memory.imports.import_records import ImportRecord, import_record, import_records, undo_import
from membank_llama.memory.imports.import_report import ReasonCount
from membank_llama.memory.imports.import_run import ImportOutcome, plan_for, run_import, sort_out

from ..face_context import FaceContext
from .memory_list import DayNames, day_names
from .page_jobs import PageJobs
from .page_requests import PageRequest, answered, page_route
from .upload_folders import UploadFolders, no_room

MOST_UPLOADED = 1024 * 1024 * 1024
"""Bytes of a file; what is read of it is bounded by the readers."""
LONGEST_NAME = 100
_PATH = "/membank/page/import"


def import_routes(context: FaceContext, imports: PageImports) -> list[Route]:
    """What this part of the view is made of."""
    return [
        Route(_PATH, imports.upload, methods=["POST"]),
        page_route(context, _PATH, imports.show),
        page_route(context, f"{_PATH}/store", imports.store, "POST"),
        page_route(context, f"{_PATH}/leave", imports.leave, "POST"),
        page_route(context, f"{_PATH}/{{number:int}}/undo", imports.undo, "POST"),
    ]


class PageImports:
    """What a page imports: at most one file a namespace at a time."""

    def __init__(self, context: FaceContext, jobs: PageJobs) -> None:
        self._context = context
        self._jobs = jobs
        self.folders = UploadFolders()

    async def upload(self, request: Request) -> Response:
        """Take a file in and begin to read it."""
        return await answered(self._context, request, self._uploaded, self._received)

    async def _received(self, request: Request) -> Path:
        """A file as it was sent, in a directory of its own."""
        folder = await run_in_threadpool(self.folders.make)
        path = folder / _plain_name(request.query_params.get("name", ""))
        try:
            with path.open("wb") as file:
                async for part in self._context.body_budget.parts(request.receive, MOST_UPLOADED):
                    await run_in_threadpool(file.write, part)
        except OSError as exc:
            self.folders.remove(folder)
            raise no_room(exc) from exc
        except BaseException:
            self.folders.remove(folder)
            raise
        return path

    def _uploaded(self, asked: PageRequest, path: Path) -> Response:
        mine = asked.mine

        def read(progress: Progress) -> Mapping[str, Any]:
            try:
                return _previewed(mine.bank, mine.namespace, path, progress)
            finally:
                self.folders.remove(path.parent)

        try:
            self._jobs.begin(_reading(asked), read)
        except InvalidInputError:
            self.folders.remove(path.parent)
            raise
        self._jobs.drop(_storing(asked))
        return self.show(asked)

    def store(self, asked: PageRequest) -> Response:
        """Store what was shown."""
        read = self._jobs.get(_reading(asked))
        if read is None or read.result is None:
            raise InvalidInputError("there is nothing to import any more; choose the file again")
        plan: ImportPlan = read.result["plan"]
        mine = asked.mine

        def store(progress: Progress) -> ImportOutcome:
            done = run_import(mine.bank, plan, namespace=mine.namespace, progress=progress)
            # what could not be stored stays, and can be tried again
            self._jobs.drop(_reading(asked))
            return done

        self._jobs.begin(_storing(asked), store)
        return self.show(asked)

    def leave(self, asked: PageRequest) -> Response:
        """Store nothing of it."""
        self._jobs.drop(_reading(asked))
        self._jobs.drop(_storing(asked))
        return self.show(asked)

    def undo(self, asked: PageRequest) -> Response:
        """Forget what an import brought."""
        mine = asked.mine
        number = int(asked.scope["path_params"]["number"])
        record = import_record(mine.bank, number)
        if record.namespace != mine.namespace:
            raise InvalidInputError(f"there is no import {number} here")
        count = undo_import(mine.bank, record)
        self._jobs.drop(_storing(asked))
        return self.show(asked, said=f"{count:,} forgotten for good.")

    def show(self, asked: PageRequest, said: str = "") -> Response:
        """How far it is."""
        return asked.show("bank_import.html", **self.state(asked), imports_said=said)

    def state(self, asked: PageRequest) -> dict[str, Any]:
        """As the template wants it."""
        reading, storing = self._jobs.get(_reading(asked)), self._jobs.get(_storing(asked))
        runs = next((job for job in (reading, storing) if job is not None and job.runs), None)
        failed = next((job.error for job in (reading, storing) if job is not None and job.error), None)
        days = day_names(asked.zone)
        outcome: ImportOutcome | None = None if storing is None else storing.result
        return {
            "importing": None
            if runs is None
            else {
                "label": runs.label or ("reading" if runs is reading else "storing"),
                "done": runs.done,
                "total": runs.total,
                "share": min(100.0, 100 * runs.done / runs.total) if runs.total else 0.0,
            },
            "import_failed": failed,
            "preview": _shown(reading.result, days) if reading is not None and reading.result else None,
            "outcome": outcome,
            "imports": [
                {
                    "id": record.id,
                    "file": record.file,
                    "at": days.whole(record.when),
                    "new": record.new,
                    "from": _from(record),
                    "done": record.done,
                }
                for record in reversed(import_records(asked.mine.bank))
                if record.namespace == asked.mine.namespace
            ],
        }


def _previewed(bank: MemBank, namespace: str, path: Path, progress: Progress) -> Mapping[str, Any]:
    plan = plan_for(bank, read_place(str(path)), namespace)
    return {"plan": plan, "new": len(sort_out(bank, plan.memories, progress).new)}


def _shown(result: Mapping[str, Any], days: DayNames) -> dict[str, Any]:
    plan: ImportPlan = result["plan"]
    return {
        "file": plan.file,
        "new": result["new"],
        "known": len(plan.memories) - result["new"],
        "kinds": [
            {
                "title": kind.title,
                "conversations": kind.conversations,
                "messages": kind.messages,
                "first": "" if kind.first is None else days.day(kind.first),
                "last": "" if kind.last is None else days.day(kind.last),
            }
            for kind in plan.kinds.values()
        ],
        "left_out": _reasons(plan.report.left_out),
        "remarks": _reasons(plan.report.remarks),
        "examples": [memory.text[:160] for memory in plan.memories[:3]],
    }


def _reasons(tallies: Mapping[str, ReasonCount]) -> list[dict[str, Any]]:
    return [{"reason": reason, "count": one.count, "examples": one.examples} for reason, one in tallies.items()]


def _from(record: ImportRecord) -> str:
    return ", ".join(TITLES.get(kind, kind) for kind in record.kinds)


def _reading(asked: PageRequest) -> str:
    return f"read {asked.mine.namespace}"


def _storing(asked: PageRequest) -> str:
    return f"store {asked.mine.namespace}"


def _plain_name(name: str) -> str:
    """A file's own name without anything that leads elsewhere."""
    plain = re.sub(r"[^\w. ()+-]+", "_", Path(name.replace("\\", "/")).name)[-LONGEST_NAME:].strip(". ")
    return plain or "history"
