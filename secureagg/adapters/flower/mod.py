"""The client mod: what a node does in place of sending its new weights.

Who sees plaintext: the app, and `contribute`, on the node. What leaves is what docs/wire-format.md describes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from secureagg.adapters.budgets import require_budget
from secureagg.adapters.flower import envelope
from secureagg.adapters.flower.coordinates import extended, layout_of, update_of, vector_of
from secureagg.adapters.flower.engine import Context, Message
from secureagg.adapters.flower.node import Node
from secureagg.adapters.flower.task import settings_of, task_of
from secureagg.adapters.flower.terms import Terms
from secureagg.checks import as_whole
from secureagg.client import contribute
from secureagg.errors import EncodingError, ParameterError, SecureAggError
from secureagg.events import Event
from secureagg.layout import Weights
from secureagg.roster import Label
from secureagg.session import Session

__all__ = ["Rounding", "secure_mod"]

App = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, App], Message]
Rounding = Callable[[Message, Context], np.random.Generator]
"""What seeds the stochastic rounding of a node's update, given the server's message; for runs that must repeat."""

_log = logging.getLogger("flwr")


def secure_mod(terms: Terms, *, rounding: Rounding | None = None) -> Mod:
    """Return the mod, which comes first: `ClientApp(mods=[secure_mod(terms), …])`.

    Every `train` message is answered with a contribution to a private round, or with an error that says why not: also
    one that asks for weights in the clear, as the older API's `get_parameters` does. Other messages pass. The app's
    function sees messages as the strategy made them. Of its reply nothing travels but the contribution: arrays, weight
    and the terms' metrics are in it. With noise the node debits its ledger first. Raises: ParameterError for `rounding`
    with noise, which counts on rounding that nobody can know.
    """
    if rounding is not None and terms.noise is not None:
        raise ParameterError("rounding with noise: whoever knew the seeds would see through the rounding; leave it out")

    def mod(message: Message, context: Context, call_next: App) -> Message:
        if not envelope.is_train(message) and not envelope.is_request_for_parameters(message):
            return call_next(message, context)
        try:
            return _answer(terms, rounding, message, context, call_next)
        except SecureAggError as error:
            return envelope.refusal(message, str(error))

    return mod


def _answer(terms: Terms, rounding: Rounding | None, message: Message, context: Context, app: App) -> Message:
    node, phase = Node(context), envelope.phase_of(message)
    if phase is None or envelope.is_request_for_parameters(message):
        raise ParameterError(
            "this node answers private rounds only, and the server asks for its weights in the clear; "
            "wrap the server's grid: SecureGrid(grid, strategy, terms)"
        )
    if phase == envelope.SETUP:
        return _setup(node, message, context)
    if phase == envelope.CONTRIBUTE:
        return _contribute(terms, rounding, node, message, context, app)
    if phase in (envelope.NOISE, envelope.CHECK, envelope.REVEAL):
        return _serve(terms, node, phase, message)
    raise EncodingError(f"phase {phase!r} is unknown; server and nodes need the same version")


def _setup(node: Node, message: Message, context: Context) -> Message:
    """Publish this node's identity, which run config it has, and prekeys if it is asked for them."""
    identity = node.enrol()
    enrolment = envelope.enrolment_of(identity.public, context.run_id, context.node_id)
    content = envelope.marked(
        envelope.SETUP,
        identity=identity.public,
        signature=identity.sign(Label.ENROLMENT, enrolment),
        confirmation=identity.confirm(envelope.part_in(message, "challenge"), enrolment),
        settings=settings_of(context.run_config),
        prekeys=_prekeys(node, message),
    )
    return Message(content, reply_to=message)


def _prekeys(node: Node, message: Message) -> list[bytes]:
    first, count = envelope.number_in(message, "first"), envelope.number_in(message, "count")
    as_whole("the number of prekeys asked for", count, 0, envelope.MAX_PREKEYS)
    if not count:
        return []
    member = node.member()
    return [member.prekey(number) for number in range(first, first + count)]


def _contribute(
    terms: Terms, rounding: Rounding | None, node: Node, message: Message, context: Context, app: App
) -> Message:
    """Let the app train, and contribute the difference it made."""
    _, record = envelope.the_arrays(envelope.stripped(message.content), "the server's message")
    names, received = list(record.keys()), [array.numpy() for array in record.values()]
    session = _rebuilt(terms, node, names, received, message, task_of(message, settings_of(context.run_config)))
    identity = node.identity()
    session.client_id(identity.public)  # before the work of training
    with node.ledger(session.plan) as ledger:
        require_budget(session.plan, ledger)
    message.content = envelope.stripped(message.content)
    generator = None if rounding is None else rounding(message, context)
    reply = app(message, context)
    if reply.has_error():
        return reply
    _, trained = envelope.the_arrays(reply.content, "the app's reply")
    if set(trained.keys()) != set(names):
        raise ParameterError("the app's reply has other arrays than the server sent")
    update = update_of(names, received, [trained[name].numpy() for name in names])
    metrics = envelope.the_metrics(reply.content)
    weight = _weight(terms, session, metrics)
    vector = vector_of(terms, session.plan, update, metrics)
    node.claim(session)
    with node.ledger(session.plan) as ledger:
        payload = contribute(
            session, identity, vector, weight, rounding_rng=generator, ledger=ledger, observe=_note_clipping
        )
    return Message(envelope.attached(envelope.marked(envelope.CONTRIBUTE), payload), reply_to=message)


def _rebuilt(terms: Terms, node: Node, names: list[str], received: Weights, message: Message, task: bytes) -> Session:
    """Return the session over the model and the task that came with the message.

    Raises: ParameterError if the plan is less than the terms, or the roster not to be trusted; EncodingError if the
    server's record is of others.
    """
    offered = _offered(terms, node, message)
    layout = terms.layout(layout_of(names, received))
    layout.require_same(offered.plan.layout)
    session = Session(
        offered.plan,
        offered.roster,
        prekeys=[prekey.to_bytes() for prekey in offered.prekeys],
        round_number=offered.round_number,
        model=extended(terms, received),
        task=task,
    )
    if session.sid != offered.sid:
        raise EncodingError(
            "the session that the server announced is bound to another model, or to other settings, than it sent"
        )
    return session


def _offered(terms: Terms, node: Node, message: Message) -> Session:
    """Return the announced session, its plan and roster found acceptable."""
    offered = Session.from_bytes(envelope.part_in(message, "session"))
    terms.accept(offered.plan)
    node.trust(offered.roster)
    return offered


def _weight(terms: Terms, session: Session, metrics: dict[str, object]) -> int:
    if session.plan.max_weight == 1:
        return 1
    value = metrics.get(terms.weighted_by)
    if not isinstance(value, int | float):
        raise ParameterError(f"the app reported no number as {terms.weighted_by!r}, which weighs its update")
    return as_whole(f"{terms.weighted_by} (at most the terms' max_weight)", value, 1, session.plan.max_weight)


def _note_clipping(event: Event) -> None:
    """Tell the node's own log, and nobody else, that the update was too long for the terms."""
    if event.clip_factor is not None and event.clip_factor < 1:
        _log.warning("secureagg: this node's update was longer than l2_clip and scaled by %.3g", event.clip_factor)
    if event.clamped:
        _log.warning("secureagg: %d coordinates of this node's update were clamped to value_bound", event.clamped)


def _serve(terms: Terms, node: Node, phase: str, message: Message) -> Message:
    """Answer as a committee member. The model is not at hand here: its digest is taken from the server's record."""
    session, member = _offered(terms, node, message), node.member()
    if phase == envelope.NOISE:
        return Message(envelope.attached(envelope.marked(phase), member.add_noise(session)), reply_to=message)
    request = envelope.payload_in(message)
    if phase == envelope.CHECK:
        content = envelope.attached(envelope.marked(phase), member.check(session, request))
    else:
        answer = member.respond(session, request)
        if session.round_number:  # rounds that were given up: the server has gone on
            member.retire(session.round_number - 1)
        content = envelope.attached(envelope.marked(phase, prekeys=_prekeys(node, message)), answer)
    return Message(content, reply_to=message)
