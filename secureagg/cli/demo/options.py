"""The demo's options, in the panels of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secureagg.cli.demo.settings import Attack, DatasetName, ModelName, Scheme
from secureagg.cli.options import L2_CLIP, MAGNITUDE, ONE_SHOT, PRECISION, TENSEAL, VALUE_BITS, flag, option

__all__ = [
    "AbsentMembersOption",
    "AttackOption",
    "BudgetRoundsOption",
    "ClientsOption",
    "DataDirOption",
    "DatasetOption",
    "DeltaOption",
    "DpSgdEpsilonOption",
    "DropOption",
    "EpsilonOption",
    "FiguresOption",
    "L2ClipOption",
    "LedgerOption",
    "MagnitudeOption",
    "MaliciousOption",
    "ModelOption",
    "NoReportOption",
    "PartitionOption",
    "PrecisionOption",
    "ProofsOption",
    "ReportOption",
    "ResumeOption",
    "RoundsOption",
    "SchemeOption",
    "SeedOption",
    "StateDirOption",
    "ValueBitsOption",
]

_RUN, _SUM, _OUTPUT = "What is trained", "How it is summed", "What comes out"
_ATTACK, _PRIVACY = "Under attack", "Differential privacy"

DatasetOption = Annotated[
    DatasetName, typer.Option(help="Real data; digits and breast-cancer are bundled.", rich_help_panel=_RUN)
]
DataDirOption = Annotated[
    Path | None, option("DIR", "MNIST's four IDX files, gzipped or not; else Keras's cache.", _RUN)
]
ClientsOption = Annotated[
    int | None,
    option("N", "Clients, all of them in every round.", _RUN, least=1, default="10, or 100 with --epsilon"),
]
RoundsOption = Annotated[
    int | None,
    option(
        "N",
        "Rounds.",
        _RUN,
        least=1,
        default="40; 15 with an attack, 20 with --epsilon, 30 with --dp-sgd-epsilon",
    ),
]
PartitionOption = Annotated[
    str | None,
    option(
        "iid|dirichlet:ALPHA|shards:LABELS",
        "Who holds what: at random, skewed (the more, the smaller ALPHA), or LABELS labels a client.",
        _RUN,
        default="dirichlet:0.5, or iid with a privacy budget",
    ),
]
ModelOption = Annotated[
    ModelName | None,
    typer.Option(
        help="Keras model.",
        show_default="cnn for images, else mlp; mlp with a privacy budget",
        rich_help_panel=_RUN,
    ),
]
SeedOption = Annotated[int, option("N", "Of everything but keys and noise.", _RUN, least=0)]
DropOption = Annotated[
    float | None,
    option(
        "P",
        "Chance that a client vanishes in a round.",
        _RUN,
        least=0.0,
        most=1.0,
        default="0.3; 0 with an attack, 0.1 with a privacy budget",
    ),
]

SchemeOption = Annotated[Scheme, typer.Option(help="Encryption; plain trains in the clear only.", rich_help_panel=_SUM)]

L2ClipOption = Annotated[float | None, option("X", L2_CLIP, ONE_SHOT, default="10, or 1 with --epsilon")]
ValueBitsOption = Annotated[int | None, option("B", VALUE_BITS, ONE_SHOT, default="16, or 8 with --epsilon")]
AbsentMembersOption = Annotated[int, option("N", "Members that never answer.", ONE_SHOT, least=0)]
ProofsOption = Annotated[
    bool, flag("--proofs", "Clients prove what they send; noise is then the committee's.", ONE_SHOT)
]

EpsilonOption = Annotated[
    float | None, option("E", "ε for one client, over all rounds, by noise inside the encrypted sum.", _PRIVACY)
]
DpSgdEpsilonOption = Annotated[
    float | None,
    option("E", "ε for one example of a client, over all rounds, by DP-SGD as it trains.", _PRIVACY),
]
DeltaOption = Annotated[float, option("D", "δ that goes with ε.", _PRIVACY)]
BudgetRoundsOption = Annotated[
    int | None,
    option("N", "Rounds the noise is made for; training stops after so many.", _PRIVACY, least=1, default="--rounds"),
]
LedgerOption = Annotated[
    Path | None,
    option(
        "PATH",
        "Keep the aggregator's ledger in this file, or with --dp-sgd-epsilon the clients' in this folder. What is "
        "spent in it stays spent.",
        _PRIVACY,
        default="in --state-dir, else nowhere",
    ),
]

MagnitudeOption = Annotated[float, option("X", MAGNITUDE, TENSEAL)]
PrecisionOption = Annotated[float | None, option("X", PRECISION, TENSEAL, default="1e-6 of the magnitude")]

AttackOption = Annotated[
    Attack,
    typer.Option(
        help="What malicious clients do; the run then compares no attack, no proofs, and proofs.",
        rich_help_panel=_ATTACK,
    ),
]
MaliciousOption = Annotated[float, option("SHARE", "Share of the clients, drawn by the seed.", _ATTACK)]

ReportOption = Annotated[Path, option("FILE", "Where to write the report with its curves.", _OUTPUT)]
NoReportOption = Annotated[bool, flag("--no-report", "Write none.", _OUTPUT)]
FiguresOption = Annotated[bool, flag("--json", "Print all figures as one JSON object.", _OUTPUT)]
StateDirOption = Annotated[Path | None, option("DIR", "Save the run here after every round.", _OUTPUT)]
ResumeOption = Annotated[bool, flag("--resume", "Go on with the run saved in --state-dir.", _OUTPUT)]
