"""docs/benchmarks.md, made of the committed results: every figure on the page is read from a file that names its run.

python -m benchmarks.page     # writes the page, and from overhead.json the overhead suite's report
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overhead.page import page, round_seconds
from benchmarks.report import results

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"

Results = dict[str, Any]


def main() -> None:
    """Write the page."""
    (_ROOT / "docs" / "benchmarks.md").write_text("\n".join(_page()) + "\n", encoding="utf-8")
    if (measured := results("overhead")) is not None:
        (_RESULTS / "overhead.html").write_text(page(measured), encoding="utf-8")


def _page() -> Iterator[str]:
    yield from (
        "# Benchmarks",
        "",
        "Every figure here is read from a committed file under `benchmarks/results/`, which names commit, machine and "
        "versions;",
        "`python -m benchmarks.page` writes the page. Run them again, from a clean tree, with",
        "",
        "```console",
        "make bench",
        "```",
        "",
        "`make bench-quick` takes two minutes: a few cells of the overhead suite, as ratios to the committed run; it",
        "fails if a contribution has more bytes than it had.",
    )
    for name, section in _SECTIONS.items():
        path = _RESULTS / f"{name}.json"
        if path.exists():
            yield from ("", *section(json.loads(path.read_text(encoding="utf-8"))))


def _one_shot(r: Results) -> Iterator[str]:
    yield from _heading("One-shot summation beside TenSEAL and the plain mean", "one_shot", r)
    yield "Ten clients, 10^6 float32 values each, 16-bit grid, three members; TenSEAL as NVFlare uses it ([60, 40, 40],"
    yield "N = 8192, 2^40, secret key)."
    rows = [
        [
            way,
            f"{f['upload_bytes'] / r['request']['values']:.3f}",
            *(_ms(f, s) for s in ("contribute", "admit", "open")),
        ]
        for way, f in r["figures"].items()
    ]
    yield from _table(["way, tensors", "bytes a value", "client ms", "server ms a client", "open ms"], rows)
    yield from _verdicts(r)


def _proofs(r: Results) -> Iterator[str]:
    yield from _heading("Proofs of validity", "proofs", r)
    yield f"T, TenSEAL's time to encrypt and serialise 10^6 values in the same run: {r['tenseal_seconds']:.3f} s."
    yield "Client and server times are those of all of `contribute` and of all of `admit`."
    rows = [
        [way, _ms(f, "contribute"), _ms(f, "admit"), f"{f['proof_bytes'] / 1e3:.0f}", f"{f['soundness_bits']:.1f}",
         f"{f['peak_mb']:.0f}"]
        for way, f in r["figures"].items()
    ]  # fmt: skip
    yield from _table(["values, way", "client ms", "server ms", "proof KB", "bits", "peak MB"], rows)
    yield from ("", "![Seconds over values](../benchmarks/results/proofs.svg)", "")
    yield "What other systems' authors report, for other statements, on their machines; nothing was measured again:"
    rows = [
        [p["system"], p["statement"], f"{p['values']:,}", f"≤ {p['seconds_at_most']}" if p["seconds_at_most"] else "",
         p["hardware"], p["source"]]
        for p in r["published"]
    ]  # fmt: skip
    yield from _table(["system", "statement", "values", "seconds", "hardware", "source"], rows)
    yield from _verdicts(r)


def _scale(r: Results) -> Iterator[str]:
    yield from _heading("How it grows", "one_shot_scale", r)
    yield "One process a row; memory is its peak resident set. Two clients file to file, `N2048_Q52`; then a server"
    yield "that admits contributions of 10^5 values from files into a spool, on one thread."
    rows = [
        [f"{int(n):,}", *(f"{f[s]:.3f}" for s in ("contribute", "admit", "open")), f"{f['rss'] / 1e6:.0f}"]
        for n, f in r["sizes"].items()
    ]
    yield from _table(["values", "contribute s", "admit s", "open s", "peak MB"], rows)
    rows = [
        [n, f"{f['seconds']:.2f}", f"{1e3 * f['seconds'] / int(n):.2f}", f"{f['rss'] / 1e6:.1f}"]
        for n, f in r["clients"].items()
    ]
    yield from _table(["clients", "admit all s", "a client ms", "peak MB"], rows)
    yield from _verdicts(r)


def _reference(r: Results) -> Iterator[str]:
    yield from _heading("The TenSEAL path beside TenSEAL as NVFlare uses it", "ckks_reference", r)
    yield f"Ratios to TenSEAL, at precision {r['request']['precision']:g}."
    columns = ("upload_bytes", "client", "server", "decrypt", "error")
    rows = [[way, *(f"{f[column]:.3f}" for column in columns)] for way, f in r["ratios"].items()]
    yield from _table(["key, tensors", "bytes", "client", "server", "decrypt", "error"], rows)
    yield from _verdicts(r)


def _private_mean(r: Results) -> Iterator[str]:
    yield from _heading("Noise inside the encrypted sum beside a central Gaussian", "private_mean", r)
    clients, delta = r["request"]["clients"], r["request"]["delta"]
    yield f"{clients} clients, δ = {delta:g}, whole rounds. Ratio: mean squared error to"
    yield "the central Gaussian's of the same ε; last column: the ratio if noise had to hide the rounded norm."
    rows = [
        [
            f["mechanism"],
            f"{f['values']:,}",
            f"{f['epsilon']:g}",
            str(f["field_bits"]),
            f"{f['ratio']:.3f}",
            "" if f["rounded_norm_ratio"] is None else f"{f['rounded_norm_ratio']:.3f}",
        ]
        for f in r["figures"].values()
    ]
    yield from _table(["noise", "values", "ε", "field bits", "ratio", "rounded norm"], rows)
    yield ""
    yield from (f"- {key}: no grid has sums that fit" for key in r["without_grid"])
    yield from _verdicts(r)


def _private_training(r: Results) -> Iterator[str]:
    yield from _heading("Private training beside float noise without encryption", "private_training", r)
    request = r["request"]
    yield f"MNIST, {request['clients']} clients, {request['rounds']} rounds; accuracy of the last "
    yield f"{request['late_rounds']} rounds, over {len(request['seeds'])} seeds. The float noise claims no privacy."
    rows = [
        [
            f"ε = {request['budgets'][unit]:g}, one {unit}",
            *(f"{f[lane]:.2%}" for lane in ("plain", "floating", "private")),
        ]
        for unit, f in r["figures"].items()
    ]
    yield from _table(["budget", "in the clear", "in the clear, float noise", "encrypted, private"], rows)
    yield from ("", "![Accuracy over ε](../benchmarks/results/private_training.svg)")
    yield from _verdicts(r)


def _ray(r: Results) -> Iterator[str]:
    yield from _heading("Admission over Ray", "ray_admission", r)
    cores = r["request"]["cores"]
    yield f"Contributions of {r['request']['values']:,} values, stored as files: in this process, one after the other"
    yield f"on {cores} cores; over a local Ray cluster of as many; and what of the latter is left to this process, to"
    yield f"merge what others verified and summed. The cluster took {r['start_seconds']:.1f} s to start and"
    yield f"{r['warm_seconds']:.1f} s until its workers had loaded their kernels, neither of which is in the rows."
    yield "Run again with `make bench-ray`."
    rows = [
        [name, *(f"{f[way]:.3f}" for way in ("streaming", "ray", "merge")), f"{f['ray'] / f['streaming']:.2f}"]
        for name, f in r["figures"].items()
    ]
    yield from _table(["clients", "one by one s", "Ray s", "merge s", "Ray to one by one"], rows)
    yield from _verdicts(r)


def _nvflare(r: Results) -> Iterator[str]:
    yield from _heading("Private sums in NVFlare beside its own HE", "nvflare_he", r)
    request = r["request"]
    values = request["values"] * request["sites"]
    yield f"One job in its simulator: {request['sites']} sites, {request['values']:,} float32 values in "
    yield f"{request['layers']} tensors, {request['members']} committee sites. Bytes both ways on the server's sockets;"
    yield "seconds without the simulator's waits between polls. The overhead is what a round takes beyond the plain"
    yield "one, and at least the 0.01 s between two looks of the controller, below which it cannot be told from none."
    rows = [
        [way, f"{f['received'] / values:.3f}", f"{f['sent'] / values:.3f}", f"{f['busy']:.3f}"]
        for way, f in r["figures"].items()
    ]
    yield from _table(["way", "up, bytes a value", "down, bytes a value", "round s"], rows)
    yield from _verdicts(r)


def _plan_audit(r: Results) -> Iterator[str]:
    yield from _heading("Audits of plans", "plan_audit", r)
    canaries, epsilon = r["request"]["canaries"], r["request"]["epsilon"]
    yield f"Lower bounds on ε = {epsilon:g} by {canaries:,} canaries in the same sums, and each in sums of its own;"
    yield "seconds of both."
    rows = [
        [way, f"{f['together']:.2f}", f"{f['alone']:.2f}", f"{f['seconds']:.1f}"] for way, f in r["figures"].items()
    ]
    yield from _table(["noise", "together", "alone", "seconds"], rows)
    yield from _verdicts(r)


def _overhead(r: Results) -> Iterator[str]:
    yield from _heading("The overhead of each kind of protection", "overhead", r)
    yield "[The report](../benchmarks/results/overhead.html) has all cells and stages, and says what each way is."
    yield "Here 100 clients: a client's time, the server's for a whole round, bytes a client sends for a value, the"
    yield "server's peak memory, and the error of the mean to the mean's own size, both root mean square. `measured` of"
    yield "the clients took part; the parameters and the round's time are those of all. Where too few to open the sum"
    yield "took part, it has neither time nor error."
    rows = [
        [
            row["way"],
            f"{row['values']:,}",
            f"{row['contributions']:,}",
            f"{1e3 * row['client']:.1f}",
            "" if (whole := round_seconds(row)) is None else f"{whole:.2f}",
            f"{row['upload_bytes'] / row['values']:.2f}",
            f"{row['server_peak_bytes'] / 1e6:.0f}",
            f"{e['rms_error'] / e['rms_mean']:.1e}" if (e := row["errors"]) else "",
        ]
        for row in r["figures"].values()
        if row["clients"] == 100 and "skipped" not in row
    ]
    heads = ["way", "values", "measured", "client ms", "server s", "bytes a value", "server MB", "error"]
    yield from _table(heads, rows)
    skipped = {key: row["skipped"] for key, row in r["figures"].items() if "skipped" in row}
    if skipped:
        yield ""
        yield from (f"- skipped: {key}: {reason}" for key, reason in skipped.items())


def _plain(title: str, name: str) -> Any:
    """Return a section of verdicts alone; the file holds the rest."""

    def section(r: Results) -> Iterator[str]:
        yield from _heading(title, name, r)
        yield str(r["question"])
        yield from _verdicts(r)

    return section


def _flower(r: Results) -> Iterator[str]:
    yield from _heading("Private rounds in Flower beside its SecAgg+", "flower_secaggplus", r)
    yield f"Ten clients, 10^6 float32 values each, one array; flwr {r['provenance']['flwr (peer)']}. A client's seconds"
    yield "are those of its mod in all exchanges of a round, the server's those of a round without the nodes' own."
    rows = [
        [
            way,
            f"{f['upload_bytes'] / r['request']['values']:.3f}",
            *(_ms(f, stage) for stage in ("client", "slowest_client", "server")),
            f"{f['extra_exchanges']:.0f}",
            f"{f['error']:.1e}",
        ]
        for way, f in r["figures"].items()
    ]
    heads = ["way", "bytes a value", "client ms", "slowest client ms", "server ms", "extra exchanges", "error"]
    yield from _table(heads, rows)
    yield from _verdicts(r)


_SECTIONS = {
    "overhead": _overhead,
    "one_shot": _one_shot,
    "proofs": _proofs,
    "one_shot_scale": _scale,
    "ray_admission": _ray,
    "ckks_reference": _reference,
    "private_mean": _private_mean,
    "private_training": _private_training,
    "nvflare_he": _nvflare,
    "flower_secaggplus": _flower,
    "noise": _plain("Exact noise", "noise"),
    "dpsgd": _plain("DP-SGD", "dpsgd"),
    "plan_audit": _plan_audit,
}


def _heading(title: str, name: str, r: Results) -> Iterator[str]:
    p = r["provenance"]
    versions = "".join(f", {key} {p[key]}" for key in ("tenseal", "tensorflow") if key in p)
    yield from (f"## {title}", "")
    machine = f"{p['machine']}, {p['cores']} cores, Python {p['python']}{versions}"
    yield f"`{name}.json`: commit `{p['commit'][:12]}`, {machine}."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield from ("", f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}")
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _verdicts(r: Results) -> Iterator[str]:
    yield ""
    yield from (f"- {verdict}" for verdict in r["verdicts"])


def _ms(figures: dict[str, float], stage: str) -> str:
    return f"{1e3 * figures[stage]:.1f}" if stage in figures else ""


if __name__ == "__main__":
    main()
