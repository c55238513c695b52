"""Usage as teams ask for it: by day, team, workspace, card, run, model or key."""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from shared.core import ids, usage
from shared.core.access import Access, Principal
from shared.core.boards import BoardRepository, RunRecord
from shared.core.clock import Clock
from shared.core.errors import Invalid, NotFound
from shared.core.permissions import Action
from shared.core.ports import Documents, Json
from shared.core.resources import Usage
from shared.core.teams import TeamRecord, team_partition
from shared.core.usage import Dimension
from shared.llm.requests import Outcomes, UsageReport, UsageRow

_LONGEST_DAYS = 366
_DAYS = 30
_NOWHERE = "It does not exist, or you are not a member of its team."


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage, of which days; None for any. Without days: the last thirty."""

    group_by: Dimension = "day"
    first: date | None = None
    last: date | None = None
    team_id: str | None = None
    workspace_id: str | None = None
    card_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    key_id: str | None = None


class UsageService:
    def __init__(self, documents: Documents, boards: BoardRepository, access: Access, clock: Clock) -> None:
        self._documents, self._boards, self._access, self._clock = documents, boards, access, clock

    async def report(self, principal: Principal, question: Question) -> UsageReport:
        """Of all the caller's teams, or of one. Raises NotFound for another's, Invalid for days that do not fit."""
        first, last = self._days(question)
        teams = await self._teams(principal, question)
        cells = [cell for team in teams for cell in await self._cells(team, question, first, last)]
        grouped: defaultdict[str, list[Json]] = defaultdict(list)
        for cell in cells:
            grouped[str(cell[_FIELDS[question.group_by]] or "")].append(cell)
        total = usage.from_sums(usage.added(cells))
        return UsageReport(
            first=first,
            last=last,
            group_by=question.group_by,
            total=total,
            rows=_ordered(
                [UsageRow(key=key, usage=usage.from_sums(usage.added(group))) for key, group in grouped.items()],
                question.group_by,
            ),
            outcomes=await self._outcomes(teams, question, cells, total),
        )

    def _days(self, question: Question) -> tuple[str, str]:
        last = question.last or self._clock.now().date()
        first = question.first or last - timedelta(days=_DAYS - 1)
        if not 0 <= (last - first).days < _LONGEST_DAYS:
            raise Invalid(f"from: choose a day before or at `to`, at most {_LONGEST_DAYS} days of both.")
        return first.isoformat(), last.isoformat()

    async def _teams(self, principal: Principal, question: Question) -> list[TeamRecord]:
        if question.team_id is not None:
            if not ids.is_plain(question.team_id):
                raise NotFound(_NOWHERE)
            await self._access.require(principal, question.team_id, Action.READ)
            wanted = [question.team_id]
        else:
            docs = await self._documents.query(f"portal/user/{principal.user_id}", "team/")
            wanted = [doc.body["team_id"] for doc in docs]
        found: list[TeamRecord] = []
        for team_id in wanted:
            doc = await self._documents.get(team_partition(team_id), "team")
            if doc and await self._access.role(principal.user_id, team_id):
                found.append(TeamRecord.model_validate_json(doc.raw))
        if question.workspace_id is None:
            return found
        found = [team for team in found if team.workspace_id == question.workspace_id]
        if not found:
            raise NotFound(_NOWHERE)
        return found

    async def _cells(self, team: TeamRecord, question: Question, first: str, last: str) -> list[Json]:
        asked = {
            name: value
            for name in ("card_id", "run_id", "model", "key_id")
            if (value := getattr(question, name)) is not None
        }
        found = await usage.cells(self._documents, team.id, first, last)
        place = {"team_id": team.id, "workspace_id": team.workspace_id}
        return [cell | place for cell in found if all(cell[name] == value for name, value in asked.items())]

    async def _outcomes(
        self, teams: Sequence[TeamRecord], question: Question, cells: Sequence[Json], total: Usage
    ) -> Outcomes:
        """Of the runs and cards that used anything, what became of them until today."""
        runs, cards = ({cell[name] for cell in cells} - {None} for name in ("run_id", "card_id"))
        succeeded = done = merged = 0
        for team in teams:
            try:
                board, _ = await self._boards.board(team.scope)
            except NotFound:  # it has none yet, or no more
                continue
            ends = {column.id for column in board.columns if column.kind == "done"}
            theirs = [run for run in await self._boards.runs(team.scope) if run.id in runs]
            succeeded += sum(run.status == "succeeded" for run in theirs)
            merged += len({number for run in theirs if (number := _merged(run)) is not None})
            lines = await self._boards.lines(team.scope)
            done += sum(line.id in cards and line.column_id in ends for line in lines)
        whole = {question.run_id, question.model, question.key_id} == {None}
        return Outcomes(
            runs=len(runs),
            runs_succeeded=succeeded,
            cards_done=done,
            cost_per_successful_run_usd=total.cost_usd / succeeded if succeeded else None,
            cost_per_done_card_usd=total.cost_usd / done if done else None,
            merged_pull_requests=merged if whole else None,
            cost_per_merged_pull_request_usd=total.cost_usd / merged if whole and merged else None,
        )


def _merged(run: RunRecord) -> int | None:
    """Number of its pull request, which several runs of a card may share, when that was merged."""
    pull_request = run.result.pull_request if run.result else None
    return pull_request.number if pull_request and pull_request.state == "merged" else None


_FIELDS: dict[Dimension, str] = {
    "day": "date",
    "team": "team_id",
    "workspace": "workspace_id",
    "card": "card_id",
    "run": "run_id",
    "model": "model",
    "key": "key_id",
}


def as_csv(report: UsageReport) -> str:
    """One line for each row; a text that a spreadsheet would take for a formula is quoted."""
    names = list(Usage.model_fields)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([report.group_by, *names])
    for row in report.rows:
        figures = row.usage.model_dump()
        writer.writerow([_harmless(row.key), *(figures[name] for name in names)])
    return text.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _ordered(rows: list[UsageRow], by: Dimension) -> list[UsageRow]:
    """Days as they come, everything else the dearest first."""
    if by == "day":
        return sorted(rows, key=lambda row: row.key)
    return sorted(rows, key=lambda row: (-row.usage.cost_usd, row.key))
