"""Enrolment: whose identity is whose, what is pinned once a job, and the messages by which that is agreed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import secureagg as sa
from secureagg.adapters.nvflare.enrolment import Batch, Enrolment, Invitation, Offer
from secureagg.adapters.nvflare.round import Replies
from secureagg.adapters.nvflare.site import Site
from secureagg.identity import KeyChallenge
from tests.adapters import common
from tests.adapters.nvflare.federation import SITES, Job, terms_of
from tests.adapters.nvflare.names import named, ordered
from tests.federation import same

# A site that enrols with what is not its own is named and left out; it does not end the job.


def enrolling(job: Job, site: str, change: Callable[[Invitation, Enrolment], Enrolment]) -> None:
    """Have a site change its enrolment."""
    honest = job.sites[site].enrol

    def enrol(message: bytes) -> bytes:
        return change(Invitation.from_bytes(message), Enrolment.from_bytes(honest(message))).to_bytes()

    job.sites[site].enrol = enrol  # type: ignore[method-assign]


def test_a_site_that_publishes_anothers_identity(job: Job) -> None:
    public = job.sites["site-1"]._identity.public
    enrolling(job, "site-4", lambda invited, mine: replace(mine, public=public))
    outcome = job.round_of(SITES[:3])
    assert outcome.refused == {"site-4": "the signature of this enrolment is wrong"}
    assert same(ordered(outcome.mean), common.expected_mean(range(3)))


def test_a_site_that_replays_anothers_enrolment(job: Job) -> None:
    others = job.sites["site-2"].enrol
    job.sites["site-4"].enrol = others  # type: ignore[method-assign]
    assert job.round_of(SITES[:3]).refused == {"site-4": "the signature of this enrolment is wrong"}


def test_an_enrolment_of_another_batch(job: Job) -> None:
    identity = job.sites["site-4"]._identity

    def of_another(invited: Invitation, mine: Enrolment) -> Enrolment:
        other = replace(invited, batch=replace(invited.batch, base=1))
        return Enrolment.signed(identity, "site-4", other, ())

    enrolling(job, "site-4", of_another)
    assert "signature" in job.round_of(SITES[:3]).refused["site-4"]


def test_of_two_sites_with_one_secret_one_is_left_out(folder: Path) -> None:
    job = Job(folder, terms_of(committee=SITES[:2]))
    identity = job.sites["site-3"]._identity
    enrolling(job, "site-4", lambda invited, _: Enrolment.signed(identity, "site-4", invited, ()))
    assert job.round_of(SITES[:3]).refused == {"site-4": "enrolled with a key of site-3"}


def test_a_site_that_takes_half_an_identity_of_a_member(folder: Path) -> None:
    job = Job(folder, terms_of(committee=SITES[1:]))
    mixed = sa.Identity.generate()
    mixed.public = mixed.public[:32] + job.sites["site-4"]._identity.public[32:]
    enrolling(job, "site-1", lambda invited, _: Enrolment.signed(mixed, "site-1", invited, ()))
    reason = "this identity's X25519 key is not confirmed; it may be somebody else's"
    assert job.round_of(SITES[1:]).refused == {"site-1": reason}


def test_a_confirmation_made_for_another_challenge(job: Job) -> None:
    identity, earlier = job.sites["site-4"]._identity, KeyChallenge().public
    enrolling(
        job, "site-4", lambda invited, _: Enrolment.signed(identity, "site-4", replace(invited, challenge=earlier), ())
    )
    assert "X25519 key is not confirmed" in job.round_of(SITES[:3]).refused["site-4"]


def test_a_challenge_that_is_no_key(job: Job) -> None:
    with pytest.raises(sa.EncodingError, match="the challenge is no X25519 key"):
        job.sites["site-4"].enrol(Invitation(Batch(job.convener._base, 1, 16), bytes(32)).to_bytes())


def test_another_identity_in_a_later_batch(folder: Path) -> None:
    job = Job(folder, terms_of(), batch=1)
    job.round(1)
    stranger = sa.Identity.generate()
    enrolling(job, "site-4", lambda invited, _: Enrolment.signed(stranger, "site-4", invited, ()))
    outcome = job.round(2)
    assert job.convener.absent == {"site-4": "enrolled with another identity than before in this job"}
    assert outcome.sites == SITES  # its first identity is the one that counts


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda invited, mine: replace(mine, prekeys=mine.prekeys[:-1]), "15 prekeys for a batch of 16 rounds"),
        (lambda invited, mine: replace(mine, prekeys=mine.prekeys[::-1]), "prekey 0 of the batch is of another"),
        (lambda invited, mine: replace(mine, prekeys=(b"x",) * invited.batch.count), "prekey: truncated"),
    ],
    ids=["too few", "other rounds", "no prekeys"],
)
def test_a_member_without_prekeys_is_named(
    job: Job, change: Callable[[Invitation, Enrolment], Enrolment], reason: str
) -> None:
    enrolling(job, "site-2", change)
    with pytest.raises(sa.QuorumError, match=rf"without prekeys: \['site-2'\]; site-2: {reason}"):
        job.convener.convene(1)


def test_a_member_with_the_prekeys_of_another(job: Job) -> None:
    invitation = Invitation(Batch(job.convener._base, 1, 16), KeyChallenge().public)
    others = Enrolment.from_bytes(job.sites["site-1"].enrol(invitation.to_bytes())).prekeys
    enrolling(job, "site-2", lambda invited, mine: replace(mine, prekeys=others))
    with pytest.raises(sa.QuorumError, match="site-2: prekey 0 of the batch is of another member"):
        job.convener.convene(1)


def test_what_a_site_says_is_printable_in_the_log(job: Job) -> None:
    assert Replies({}, {"site-4": "\x1b[2Jgone"}).why() == r"; site-4: \x1b[2Jgone"
    current = job.begin(1)
    current.refuse("site-4", "\x1b[2Jgone")
    assert current.refused["site-4"] == r"\x1b[2Jgone"


# What a site pins, it pins once a job.


def offered(job: Job) -> Offer:
    assert job.convener._convened is not None
    return job.convener._convened.offer


def restarted(job: Job, site: str) -> Site:
    """Return a site whose job process has started again."""
    return Site(job.home(site), job.terms, job.name)


@pytest.mark.parametrize("restart", [False, True])
def test_another_roster_within_a_job(job: Job, restart: bool) -> None:
    job.convener.convene(1)
    site = restarted(job, "site-1") if restart else job.sites["site-1"]
    pinned = offered(job)
    other = replace(pinned, publics=(*pinned.publics[:3], sa.Identity.generate().public))
    with pytest.raises(sa.ParameterError, match="another roster is pinned for this job"):
        site.pin(other.to_bytes())
    assert site.pin(pinned.to_bytes())


@pytest.mark.parametrize("restart", [False, True])
def test_another_base_of_round_numbers_within_a_job(job: Job, restart: bool) -> None:
    job.convener.convene(1)
    site = restarted(job, "site-4") if restart else job.sites["site-4"]
    with pytest.raises(sa.ParameterError, match="another base"):
        site.enrol(Invitation(Batch(7, 0, 1), KeyChallenge().public).to_bytes())
    with pytest.raises(sa.ParameterError, match="another base"):
        site.pin(replace(offered(job), batch=Batch(7, 1, 16)).to_bytes())


def test_other_prekeys_for_rounds_that_are_pinned(job: Job) -> None:
    job.convener.convene(1)
    pinned = offered(job)
    base, (first, *others) = pinned.batch.base, pinned.prekeys[0]
    other = sa.CommitteeMember(job.sites["site-1"]._identity, journal=job.root / "another").prekey(base + 1)
    assert other != first
    with pytest.raises(sa.ParameterError, match="other prekeys are pinned for these rounds already"):
        job.sites["site-4"].pin(replace(pinned, prekeys=((other, *others), *pinned.prekeys[1:])).to_bytes())
    overlapping = Offer(Batch(base, 1, 1), pinned.sites, pinned.publics, pinned.prekeys[:1])
    assert job.sites["site-4"].pin(overlapping.to_bytes())


@pytest.mark.parametrize("garbage", [b"", b"garbage"])
def test_prekeys_that_are_none(job: Job, garbage: bytes) -> None:
    job.convener.convene(1)
    offer = replace(offered(job), prekeys=tuple((garbage,) * len(keys) for keys in offered(job).prekeys))
    with pytest.raises(sa.EncodingError, match="prekey"):
        restarted(job, "site-4").pin(offer.to_bytes())


def test_one_contribution_a_round_also_after_a_restart(job: Job) -> None:
    current = job.begin(1)
    assert current.admit("site-4", job.contribution("site-4", 1))
    job.sites["site-4"] = site = restarted(job, "site-4")
    site.pin(offered(job).to_bytes())
    with pytest.raises(sa.ParameterError, match="this site has already contributed to round"):
        job.contribution("site-4", 1)
    assert job.begin(2).admit("site-4", job.contribution("site-4", 2))


def test_a_second_contribution_spends_no_budget(folder: Path) -> None:
    noise = sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2, noise_by="clients")
    job = Job(folder, terms_of(noise=noise, max_weight=1))
    job.begin(1)
    job.contribution("site-4", 1)
    job.sites["site-4"] = restarted(job, "site-4")
    job.sites["site-4"].pin(offered(job).to_bytes())
    with pytest.raises(sa.ParameterError, match="already contributed"):
        job.contribution("site-4", 1)
    begun = job.sites["site-4"].begin(2, named(common.MODEL))  # which asks for room for a second
    assert job.sites["site-4"].contribute(begun, named(common.update_of(3)))


def test_a_record_that_is_damaged(job: Job) -> None:
    job.convener.convene(1)
    kept = job.root / "site-4" / "local" / "secureagg" / "site-4" / "job" / "pinned"
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_bytes(b"x")
    with pytest.raises(sa.ParameterError, match="pinned is damaged"):
        restarted(job, "site-4").pin(offered(job).to_bytes())


# Messages.

OFFER = Offer(Batch(5, 1, 1), ("a", "b"), (bytes(64), b"\1" * 64), ((b"key", b""),))
MESSAGES = [
    Invitation(Batch(2**40, 3, 32), b"\3" * 32),
    Enrolment(bytes(64), (b"one", b"two"), b"\2" * 64, b"\4" * 32),
    OFFER,
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_are_canonical(message: Invitation | Enrolment | Offer) -> None:
    encoded = message.to_bytes()
    assert type(message).from_bytes(encoded) == message
    for broken in (encoded[:-1], encoded + b"\0", b"X" + encoded[1:]):
        with pytest.raises(sa.EncodingError):
            type(message).from_bytes(broken)


@pytest.mark.parametrize("batch", [Batch(2**62, 0, 1), Batch(0, 2**62, 1), Batch(0, 0, 0), Batch(0, 0, 1025)], ids=repr)
def test_a_batch_that_no_job_needs(batch: Batch) -> None:
    with pytest.raises(sa.EncodingError, match="not served"):
        Invitation.from_bytes(Invitation(batch, bytes(32)).to_bytes())


def test_a_site_stands_once_in_an_offer() -> None:
    with pytest.raises(sa.EncodingError, match="stands twice"):
        Offer.from_bytes(replace(OFFER, sites=("a", "a")).to_bytes())
