"""Private rounds for Flower's Message API: a mod for the ClientApp, and a wrapper for the ServerApp's grid.

    app = ClientApp(mods=[secure_mod(terms)])                               # on the nodes
    strategy.start(grid=SecureGrid(grid, strategy, terms), …)               # on the server

Strategy and training function stay as they are. Needs flwr 1.41 or newer (`pip install 'secureagg[flower]'`).
docs/flower.md says who trusts whom, docs/migrate-flower.md what replaces SecAgg+.
"""

from secureagg.adapters.flower.grid import SecureGrid
from secureagg.adapters.flower.mod import Rounding, secure_mod
from secureagg.adapters.flower.terms import Terms
from secureagg.plan import Committee

__all__ = ["Committee", "Rounding", "SecureGrid", "Terms", "secure_mod"]
