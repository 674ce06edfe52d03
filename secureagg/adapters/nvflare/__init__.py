"""Private sums in NVFlare 2.9: as filters and an aggregator under its own controllers, or by its collab API.

    EncryptUpdates(terms)      a client's task-result filter, for a training task
    PrivateAggregator(terms)   the server's aggregator, for ScatterAndGather and FedAvg
    PrivateSite, PrivateSum    the same by the collab API: subclass the one, call the other
    allow_list()               what a site's `class_allow_list` has to hold for jobs of the first kind;
                               `python -m secureagg.adapters.nvflare` puts it there, and makes a site's identity

Clients send encrypted updates; some sites are the committee, and answer once a round with what opens the sum alone.
Who they all are is pinned in each site's workspace (`home`), or collected once a job through the server (`Terms`).
"""

from secureagg.errors import MissingExtraError

try:
    import nvflare as _nvflare  # noqa: F401
except ImportError as error:
    raise MissingExtraError("nvflare", "nvflare") from error

from secureagg.adapters.nvflare.aggregator import PrivateAggregator
from secureagg.adapters.nvflare.allow_list import allow_list
from secureagg.adapters.nvflare.collab import PrivateSite, PrivateSum
from secureagg.adapters.nvflare.filters import EncryptUpdates
from secureagg.adapters.nvflare.home import Home, write_roster
from secureagg.adapters.nvflare.round import Outcome
from secureagg.adapters.nvflare.terms import Terms

__all__ = [
    "EncryptUpdates",
    "Home",
    "Outcome",
    "PrivateAggregator",
    "PrivateSite",
    "PrivateSum",
    "Terms",
    "allow_list",
    "write_roster",
]
