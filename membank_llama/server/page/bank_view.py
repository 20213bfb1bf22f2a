"""The view *Bank*: how large it is, level by level, whether it is whole, backups, imports, and the last changes.

What concerns all namespaces is for those who may see all of them; others see their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from membank_llama.core.types import Progress
from membank_llama.store.maintenance.backup_directory import BackupDirectory

from ..asgi import NAMESPACE, WireError
from ..face_context import CALLER, FaceContext
from .import_view import PageImports
from .memory_list import day_names
from .page_jobs import PageJob, PageJobs
from .page_requests import PageHandler, PageRequest, page_route

BACKUPS = "backups"
"""The directory beside the bank that the page puts backups into."""
VERIFY, BACK_UP = "verify", "backup"
_LEVELS = {2: "coarse: where a search begins", 1: "finer: what it keeps", 0: "full: what it is judged by"}
_FILES = {
    "database": "texts and tables",
    "activations": "vectors",
    "tokens": "states of tokens",
    "index": "search graphs",
}
_KINDS = {"forget": "forgotten", "correct": "corrected", "pin": "pinned", "unpin": "unpinned"}


def bank_routes(context: FaceContext, jobs: PageJobs, imports: PageImports) -> list[Route]:
    """What the view is made of."""

    def with_jobs(handler: Any) -> PageHandler:
        return lambda asked: handler(asked, jobs)

    return [
        page_route(context, "/membank/page/bank", lambda asked: show_bank(asked, jobs, imports)),
        page_route(context, "/membank/page/bank/changes", show_changes),
        page_route(context, "/membank/page/bank/verify", with_jobs(begin_verify), "POST"),
        page_route(context, "/membank/page/bank/verify", with_jobs(show_verify)),
        page_route(context, "/membank/page/bank/backup", with_jobs(begin_backup), "POST"),
        page_route(context, "/membank/page/bank/backup", with_jobs(show_backups)),
    ]


def show_bank(asked: PageRequest, jobs: PageJobs, imports: PageImports) -> Response:
    """The whole view."""
    mine, sees_all = asked.mine, asked.context.may_see_all(asked.scope)
    return asked.show(
        "bank.html",
        title="Bank",
        view="bank",
        count=mine.bank.count(mine.namespace),
        encoder=mine.bank.adapter.name if mine.bank.adapter is not None else None,
        made_by=mine.bank.model.name,
        read_only=mine.bank.read_only,
        sees_all=sees_all,
        signed_in=asked.context.opens is not None,
        facts=_facts(asked) if sees_all else None,
        verify=_told(asked, jobs.get(VERIFY)),
        backup=_told(asked, jobs.get(BACK_UP)),
        backups=_backups(asked) if sees_all else [],
        changes=_changes(asked),
        imports_said="",
        **imports.state(asked),
    )


def _facts(asked: PageRequest) -> dict[str, Any]:
    stats = asked.mine.bank.stats()
    files = [(name, int(stats["bytes"][kind])) for kind, name in _FILES.items() if stats["bytes"].get(kind)]
    levels = stats["level_bytes"]
    most = max(levels.values(), default=1) or 1
    largest = max((size for _, size in files), default=1)
    caller = asked.scope[CALLER]
    return {
        "memories": stats["memories"],
        "bytes": sum(size for _, size in files),
        "kv_bytes": stats["kv_bytes"],
        "files": [{"name": name, "bytes": size, "width": 100 * size / largest} for name, size in files],
        "levels": [
            {
                "level": level,
                "name": name,
                "bytes": levels[level],
                "all": levels[level] * stats["memories"],
                "width": 100 * levels[level] / most,
            }
            for level, name in _LEVELS.items()
            if level in levels
        ],
        "dim": stats["model"]["dim"],
        "token_dim": stats["model"]["token_dim"],
        "namespaces": sorted(stats["namespaces"].items(), key=lambda pair: (-pair[1], pair[0])),
        "may_go_there": caller.opened is None,
        "here": str(asked.scope[NAMESPACE]),
    }


# -- verify


def begin_verify(asked: PageRequest, jobs: PageJobs) -> Response:
    """Hold every stored byte against the registry."""
    _for_all(asked)
    bank = asked.mine.bank

    def verify(progress: Progress) -> Mapping[str, Any]:
        report = bank.verify(progress)
        return {"checked": report.checked, "problems": list(report.problems)}

    jobs.begin(VERIFY, verify)
    return show_verify(asked, jobs)


def show_verify(asked: PageRequest, jobs: PageJobs) -> Response:
    """How far it is."""
    _for_all(asked)
    return asked.show("bank_verify.html", verify=_told(asked, jobs.get(VERIFY)))


# -- backups


def begin_backup(asked: PageRequest, jobs: PageJobs) -> Response:
    """Copy the bank into the directory beside it."""
    _for_all(asked)
    bank, dest = asked.mine.bank, _backups_of(asked)
    jobs.begin(BACK_UP, lambda progress: bank.backup(dest, progress=progress).path.name)
    return show_backups(asked, jobs)


def show_backups(asked: PageRequest, jobs: PageJobs) -> Response:
    """The backups, and how far one is that is being made."""
    _for_all(asked)
    return asked.show("bank_backups.html", backup=_told(asked, jobs.get(BACK_UP)), backups=_backups(asked))


def _backups_of(asked: PageRequest) -> Path:
    return asked.mine.bank.path.absolute().parent / BACKUPS


def _backups(asked: PageRequest) -> list[dict[str, Any]]:
    where, name, days = _backups_of(asked), asked.mine.bank.path.absolute().name, day_names(asked.zone)
    if not where.is_dir():
        return []
    return [
        {"name": path.name, "at": days.whole(note.created), "memories": note.memories}
        for path, note in BackupDirectory(where).backups()
        if note.name == name
    ]


# -- changes


def show_changes(asked: PageRequest) -> Response:
    """What was done and can be undone."""
    return asked.show("bank_changes.html", changes=_changes(asked))


def _changes(asked: PageRequest) -> list[dict[str, Any]]:
    mine, days = asked.mine, day_names(asked.zone)
    changes = mine.bank.changes(mine.namespace)
    known = mine.bank.store.registry.get(memory_id for change in changes for memory_id in change.ids[:1])
    return [
        {
            "id": change.id,
            "what": _KINDS.get(change.kind, change.kind),
            "at": days.whole(change.at),
            "count": len(change.ids),
            "text": known[change.ids[0]].text if change.ids and change.ids[0] in known else "",
            "until": days.clock(change.until) if change.until is not None else "",
        }
        for change in changes
    ]


# -- parts


def _told(asked: PageRequest, job: PageJob | None) -> dict[str, Any] | None:
    """Some work as the templates want it."""
    if job is None:
        return None
    share = 100 * job.done / job.total if job.total else 0.0
    at = "" if job.ended is None else day_names(asked.zone).whole(job.ended)
    return {
        "runs": job.runs,
        "label": job.label,
        "done": job.done,
        "total": job.total,
        "share": min(100.0, share),
        "result": job.result,
        "error": job.error,
        "at": at,
    }


def _for_all(asked: PageRequest) -> None:
    """Let nobody do what concerns namespaces that they may not see.

    Raises:
        WireError: 403.
    """
    if not asked.context.may_see_all(asked.scope):
        raise WireError(403, "this concerns the whole bank: it takes an administrator's token")
