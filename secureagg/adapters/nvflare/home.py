"""What a site keeps in its workspace: its identity, the roster it has pinned, a record a job, and its ledger.

| in <workspace>/local/secureagg | |
|---|---|
| roster.json | the public identity of every site: {"site-1": "<128 hex digits>", …} |
| <site>/identity | this site's seed, 32 bytes, readable by its owner alone |
| <site>/<job>/ | what it keeps of a job (`record`) |
| <site>/ledger | what this site has spent of its privacy budget, in all jobs with noise |

`local` is the part of a workspace that the site's own administrator fills; NVFlare sends nothing of it anywhere.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path

from secureagg.adapters.budgets import ledger_of
from secureagg.adapters.nvflare.record import JobRecord
from secureagg.dp.ledger import Ledger
from secureagg.durable import make_directory, make_once
from secureagg.errors import ParameterError
from secureagg.identity import Identity
from secureagg.plan import RoundPlan
from secureagg.roster import PublicIdentity

__all__ = ["Home", "write_roster"]


class Home:
    """The directory of site `site` in `workspace`, made if it is not there."""

    def __init__(self, workspace: str | os.PathLike[str], site: str) -> None:
        _require_part("a site's name", site)
        self._shared = _shared(workspace)
        self._own = self._shared / site
        self.site = site
        make_directory(self._own)

    def identity(self) -> Identity:
        """Return this site's identity, made on first use and the same from then on."""
        path = self._own / "identity"
        make_once(path, Identity.generate().to_seed())
        try:
            return Identity(path.read_bytes())
        except ParameterError as error:
            raise ParameterError(f"{path} holds no identity: it is damaged") from error

    def roster(self) -> dict[str, bytes] | None:
        """Return the pinned public identity of every site, or None if there is no roster file.

        Raises: ParameterError if the file is not such a roster.
        """
        path = self._shared / "roster.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {str(site): PublicIdentity(bytes.fromhex(public)).encoded for site, public in found.items()}
        except FileNotFoundError:
            return None
        except (ParameterError, ValueError, TypeError, AttributeError) as error:
            raise ParameterError(f'{path} is no roster; it holds {{"site": "128 hex digits", …}}') from error

    def job(self, job: str) -> JobRecord:
        """Return the record of a job."""
        _require_part("a job's id", job)
        return JobRecord(self._own / job)

    def ledger(self, plan: RoundPlan) -> AbstractContextManager[Ledger | None]:
        """Return this site's ledger, one for all its jobs, as `budgets.ledger_of`."""
        return ledger_of(plan, self._own / "ledger", "all examples of this site")

    def __repr__(self) -> str:
        return f"Home({str(self._own)!r})"


def write_roster(workspace: str | os.PathLike[str], publics: dict[str, bytes]) -> Path:
    """Write the roster file of a workspace and return its path; the same file goes to every site."""
    path = _shared(workspace) / "roster.json"
    make_directory(path.parent)
    text = json.dumps({site: public.hex() for site, public in sorted(publics.items())}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _require_part(what: str, name: str) -> None:
    if Path(name).name != name or name in ("", ".", ".."):
        raise ParameterError(f"{what} is one part of a path")


def _shared(workspace: str | os.PathLike[str]) -> Path:
    return Path(workspace) / "local" / "secureagg"
