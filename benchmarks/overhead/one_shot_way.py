"""Ours, through the public calls: `contribute`, `admit`, `check`, `respond`, `open`, with a committee of five.

A client's seconds are those of `contribute`. Its stages: encryption ends with its last event, the proof with its own;
what comes before encryption (clip, rotate, round, noise) is interleaved with it frame by frame, so it is timed by
itself on a few clients and taken off. Dealing counts as "share" without proofs, and is part of "prove" with them.
"""

from __future__ import annotations

import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from benchmarks.overhead.cells import Cell, quorum
from benchmarks.overhead.figures import Figures, Refused, medians, peak_bytes
from benchmarks.overhead.updates import L2_CLIP, Updates, errors, shapes
from secureagg.dp.clipping import clip_factor
from secureagg.dp.rotation import Rotation
from secureagg.events import Event
from secureagg.exchange import Request
from secureagg.grid import GridUpdate
from secureagg.layout import Layout
from secureagg.ring import workers

__all__ = ["plan_of", "serve", "take_part"]

MEMBERS, VALUE_BITS, PREPARED = 5, 16, 3
EPSILON, DELTA = 8.0, 1e-5
# With noise, grids coarse enough that sums of noise fit fields of some 16 bits, and a proof its bound on the norm.
NOISY_BITS = {10**4: 8, 10**5: 7, 10**6: 5, 10**7: 2}

Model = list[NDArray[np.float32]]


def plan_of(cell: Cell) -> sa.RoundPlan:
    """Return the plan of all the cell's clients. Raises: Refused quoting the inequality if there can be none."""
    noisy, proofs = "DP" in cell.way, "proofs" in cell.way
    sizes = tuple((size,) for size in shapes(cell.values))
    try:
        return sa.RoundPlan(
            layout=Layout(sizes, ("float32",) * len(sizes)),
            clients=cell.clients,
            quorum=quorum(cell.clients) if noisy and not proofs else 2,  # the committee's noise does not depend on it
            l2_clip=L2_CLIP,
            value_bits=NOISY_BITS[cell.values] if noisy else VALUE_BITS,
            committee=sa.Committee(MEMBERS),
            noise=sa.DistributedGaussian(epsilon=EPSILON, delta=DELTA, rounds=1) if noisy else None,
            rotate=noisy,
            proofs=proofs,
        )
    except sa.ParameterError as error:
        raise Refused(str(error)) from error


def _session(cell: Cell, plan: sa.RoundPlan, roster: bytes, prekeys: list[bytes]) -> sa.Session:
    model = [np.zeros(size, np.float32) for size in shapes(cell.values)]
    return sa.Session(plan, sa.Roster.from_bytes(roster), prekeys=prekeys, round_number=1, model=model)


def take_part(cell: Cell, channel: Connection) -> None:
    """Play the clients, then the committee."""
    plan = sa.RoundPlan.from_bytes(channel.recv_bytes())
    identities = [sa.Identity.generate() for _ in range(cell.clients)]
    with tempfile.TemporaryDirectory() as folder:
        members = [sa.CommitteeMember(sa.Identity.generate(), journal=Path(folder) / str(n)) for n in range(MEMBERS)]
        roster = sa.Roster([each.public for each in identities], [each.public for each in members]).to_bytes()
        prekeys = [member.prekey(1) for member in members]
        channel.send((roster, prekeys))
        session = _session(cell, plan, roster, prekeys)
        sa.warm_up()
        updates, taken = Updates(cell.values), []
        for number in range(cell.contributions):
            payload, stages = _contribute(session, identities[number], updates.of(number))
            taken.append(stages)
            channel.send_bytes(payload)
            del payload
            channel.recv()
        peak = peak_bytes()
        prepared = [_prepare(session, updates.of(number)) for number in range(min(PREPARED, cell.contributions))]
        channel.send((taken, medians(prepared), peak))
        if channel.recv():
            _respond(session, members, channel)


def _contribute(session: sa.Session, identity: sa.Identity, update: Model) -> tuple[bytes, dict[str, float]]:
    """Return a contribution and its seconds: in all, until it is encrypted, and until it is proven."""
    ends: dict[str, float] = {}

    def observe(event: Event) -> None:
        ends[event.stage] = time.perf_counter()

    start = time.perf_counter()
    payload = sa.contribute(session, identity, update, observe=observe)
    seconds = {"client": time.perf_counter() - start, "encrypted": ends["encrypt"] - start}
    if "prove" in ends:
        seconds["prove"] = ends["prove"] - ends["encrypt"]
    return payload, seconds


def _prepare(session: sa.Session, update: Model) -> dict[str, float]:
    """Return the seconds of what `contribute` does before it packs and encrypts."""
    plan = session.plan
    start = time.perf_counter()
    layout, vector = plan.layout.joined, plan.layout.join(update)
    clip = clip_factor(layout, vector, plan.l2_clip)
    if plan.rotate:
        flat = Rotation(layout.size, session.sid).apply(layout.gather(vector, 0, layout.size))
        layout, vector = Layout.of([flat]), [flat]
    grid = GridUpdate(plan, layout, vector, clip, 1, None)
    frames = [plan.packing.frame_coordinates(frame) for frame in plan.packing.frames]

    def fill(first: int, last: int) -> None:
        for coordinates in frames[first:last]:
            grid.between(*coordinates)

    workers.run(fill, len(frames))
    return {"prepare": time.perf_counter() - start}


def _respond(session: sa.Session, members: list[sa.CommitteeMember], channel: Connection) -> None:
    """Send the members' noise, check the shares and answer, as far as the plan asks for it; then the seconds."""
    seconds = [0.0] * len(members)
    if session.plan.noise_members:
        for number, member in enumerate(members):
            start = time.perf_counter()
            noise = member.add_noise(session)
            seconds[number] += time.perf_counter() - start
            channel.send_bytes(noise)
    robust = session.plan.committee.mode == "robust"
    for act in ("check", "respond") if robust else ("respond",):
        for number, member in enumerate(members):
            request = channel.recv_bytes()
            start = time.perf_counter()
            answer = getattr(member, act)(session, request)
            seconds[number] += time.perf_counter() - start
            channel.send_bytes(answer)
    channel.send(max(seconds))


def serve(cell: Cell, channel: Connection) -> Figures:
    """Admit what arrives, ask the committee, and open."""
    plan = plan_of(cell)
    channel.send_bytes(plan.to_bytes())
    session = _session(cell, plan, *channel.recv())
    sa.warm_up()
    aggregator = sa.Aggregator(session)
    admitted = []
    for _ in range(cell.contributions):
        payload = channel.recv_bytes()
        start = time.perf_counter()
        aggregator.admit(payload)
        admitted.append({"admit": time.perf_counter() - start})
        del payload
        channel.send(None)
    taken, prepared, client_peak = channel.recv()
    stages = _client_stages(medians(taken), prepared["prepare"]) | medians(admitted)
    enough = cell.contributions >= plan.quorum
    channel.send(enough)
    notes, found = [], {}
    if enough and cell.contributions < cell.clients:
        notes.append("open, respond: over the dealings of the measured clients alone, not scaled to all")
    if enough:
        opened, responded, mean = _open(plan, aggregator, channel)
        stages |= {"open": opened, "respond": responded}
        found = errors(mean, cell.values, cell.contributions)
    else:
        notes.append(f"not opened: {cell.contributions} clients are measured, the quorum is {plan.quorum}")
    return Figures(
        client=medians(taken)["client"],
        stages=stages,
        upload_bytes=plan.bytes_per_client,
        client_peak_bytes=client_peak,
        server_peak_bytes=peak_bytes(),
        errors=found,
        notes=notes,
    )


def _client_stages(found: dict[str, float], prepared: float) -> dict[str, float]:
    """Return the stages of a client, of seconds in all, until it has encrypted, and for its proof."""
    prepared = min(prepared, found["encrypted"])  # of tiny models it may take as long, timed by itself
    stages = {"prepare": prepared, "protect": found["encrypted"] - prepared}
    rest = found["client"] - found["encrypted"]
    if "prove" in found:
        return stages | {"prove": rest}
    return stages | {"share": rest}


def _open(plan: sa.RoundPlan, aggregator: sa.Aggregator, channel: Connection) -> tuple[float, float, Model]:
    """Return the server's seconds once a round, those of the slowest member, and the mean."""
    seconds = 0.0
    for _ in range(plan.noise_members):
        payload = channel.recv_bytes()
        start = time.perf_counter()
        aggregator.admit(payload)
        seconds += time.perf_counter() - start

    def ask(request: Request) -> list[bytes]:
        nonlocal seconds
        answers = []
        for member in range(MEMBERS):
            start = time.perf_counter()
            asked = request.for_member(member)
            seconds += time.perf_counter() - start
            channel.send_bytes(asked)
            answers.append(channel.recv_bytes())
        return answers

    reports = ask(aggregator.share_check()) if plan.committee.mode == "robust" else None
    start = time.perf_counter()
    request = aggregator.close(reports)
    seconds += time.perf_counter() - start
    answers = ask(request)
    start = time.perf_counter()
    mean = aggregator.open(answers).mean
    seconds += time.perf_counter() - start
    return seconds, channel.recv(), mean
