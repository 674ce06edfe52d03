"""A job's sites and server, without NVFlare between them: equal sums, and who is refused for what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import secureagg as sa
from secureagg.adapters.nvflare.enrolment import Offer
from secureagg.adapters.nvflare.site import SiteRound
from secureagg.dp.mechanisms import Mechanism
from tests.adapters import common
from tests.adapters.nvflare.federation import SITES, Job, terms_of
from tests.adapters.nvflare.names import named, ordered
from tests.federation import same


def test_the_sum_is_every_adapters(job: Job) -> None:
    outcome = job.round()
    found = common.sums_in(ordered(outcome.mean), outcome.total_weight)
    assert common.digest_of(found, outcome.total_weight) == common.EXPECTED
    assert same(ordered(outcome.mean), common.expected_mean())
    assert outcome.sites == SITES
    assert not outcome.refused
    assert not outcome.faults


def test_one_exchange_a_round_without_proofs(job: Job) -> None:
    for number in (1, 2):
        assert same(ordered(job.round(number).mean), common.expected_mean(round_number=number))
    assert job.asked == ["enrol", "pin", "respond", "respond"]


def test_two_exchanges_a_round_with_proofs(folder: Path) -> None:
    job = Job(folder, terms_of(proofs=True))
    outcome = job.round()
    assert common.digest_of(common.sums_in(ordered(outcome.mean), outcome.total_weight), 75) == common.EXPECTED
    assert job.asked == ["enrol", "pin", "check", "respond"]


@pytest.mark.parametrize(
    ("noise", "proofs", "asked"),
    [
        (sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2), False, ["respond"]),
        (sa.Skellam(epsilon=8, delta=1e-5, rounds=2, noise_by="committee"), False, ["noise", "respond"]),
        (sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2), True, ["noise", "check", "respond"]),
        (sa.CentralGaussian(epsilon=8, delta=1e-5, rounds=2), False, ["respond"]),
    ],
    ids=["clients", "committee", "proven", "aggregator"],
)
def test_noise_in_the_sum(folder: Path, noise: Mechanism, proofs: bool, asked: list[str]) -> None:
    job = Job(folder, terms_of(noise=noise, max_weight=1, proofs=proofs))
    outcome = job.round()
    assert job.asked == ["enrol", "pin", *asked]
    assert (outcome.sites, outcome.faults) == (SITES, {})
    exact = np.mean([common.update_of(client)[0] for client in range(common.CLIENTS)], axis=0)
    error = np.abs(outcome.mean["a.kernel"] - exact)
    assert 1e-2 < error.max() < 10 * common.L2_CLIP
    terms = (folder / "site-1" / "local" / "secureagg" / "site-1" / "ledger").read_text().splitlines()[0]
    assert f'"adversary":"{noise.adversary}"' in terms


def test_a_member_without_noise_is_named(folder: Path) -> None:
    noise = sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2, noise_by="committee")
    job = Job(folder, terms_of(noise=noise, max_weight=1))
    current = job.begin(1)
    for site in SITES:
        current.admit(site, job.contribution(site, 1))
    job.between = lambda verb, site, message: b"x" if (verb, site) == ("noise", "site-1") else message
    with pytest.raises(sa.QuorumError, match="site-1: a request for noise is empty"):
        current.finish()


@pytest.mark.parametrize("proofs", [False, True])
def test_a_member_without_noise_is_asked_for_nothing_else(folder: Path, proofs: bool) -> None:
    noise = sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2, noise_by="committee")
    job = Job(folder, terms_of(noise=noise, max_weight=1, committee=SITES, proofs=proofs))
    asked: dict[str, list[str]] = defaultdict(list)

    def withholding(verb: str, site: str, message: bytes) -> bytes:
        asked[verb].append(site)
        return b"x" if (verb, site) == ("noise", "site-1") else message

    job.between = withholding
    outcome = job.round()
    assert outcome.sites == SITES and outcome.faults == {"site-1": "a request for noise is empty"}
    assert asked["respond"] == list(SITES[1:]) and asked["check"] == (list(SITES[1:]) if proofs else [])


def test_a_site_that_has_spent_its_budget_sends_nothing_and_still_answers(folder: Path) -> None:
    """Its ledger is one for all jobs: two rounds are planned, and whichever jobs they are in."""
    noise = sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2, noise_by="clients")
    terms = terms_of(noise=noise, max_weight=1)
    assert Job(folder, terms).round().sites == SITES
    second = Job(folder, terms, name="second")
    second.begin(1)
    second.contribution("site-1", 1)
    third = Job(folder, terms, name="third")
    current = third.begin(1)
    with pytest.raises(sa.BudgetExhausted, match="2 rounds are debited of ε = 8"):
        third.contribution("site-1", 1)
    again = third.sites["site-1"]
    with pytest.raises(sa.BudgetExhausted):  # were training to go on all the same
        again.contribute(cast(SiteRound, again._round), named(common.update_of(0)))
    for site in SITES[1:]:
        assert current.admit(site, third.contribution(site, 1))
    outcome = current.finish()
    assert outcome.sites == SITES[1:] and not outcome.faults
    kept = folder / "site-1" / "local" / "secureagg" / "site-1" / "ledger"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_ledger_is_for_rounds_of_one_cost(folder: Path) -> None:
    noise = sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=2, noise_by="clients")
    Job(folder, terms_of(noise=noise, max_weight=1)).round()
    dearer = Job(folder, terms_of(noise=replace(noise, epsilon=9.0), max_weight=1), name="dearer")
    dearer.begin(1)
    with pytest.raises(sa.ParameterError, match="made with other terms"):
        dearer.contribution("site-1", 1)


def test_prekeys_come_in_batches_and_go_with_the_job(folder: Path) -> None:
    job = Job(folder, terms_of(), batch=2)
    for number in range(5):
        job.round(number)
    assert job.asked.count("enrol") == 3
    keys = list(folder.rglob("*.key"))
    assert len(keys) == 3  # of the round that was prepared and not run, one a member
    for site in job.sites.values():
        site.end()
    assert not list(folder.rglob("*.key"))


def test_a_site_that_vanishes_is_left_out(job: Job) -> None:
    job.begin(1)
    job.away = {"site-4"}
    outcome = job.round()
    assert outcome.sites == SITES[:3]
    assert outcome.refused == {"site-4": "sent no contribution"}
    assert same(ordered(outcome.mean), common.expected_mean(range(3)))


def test_a_site_that_never_enrolled_is_not_on_the_roster(folder: Path) -> None:
    job = Job(folder, terms_of(), away={"site-4"})
    outcome = job.round()
    assert outcome.sites == SITES[:3]
    assert outcome.refused == job.convener.absent == {"site-4": "no reply"}


def test_a_member_that_vanishes_is_named_and_not_needed(folder: Path) -> None:
    job = Job(folder, terms_of(committee=SITES))
    current = job.begin(1)
    for site in SITES:
        current.admit(site, job.contribution(site, 1))
    job.away = {"site-2"}
    outcome = current.finish()
    assert outcome.faults == {"site-2": "no reply"}
    assert same(ordered(outcome.mean), common.expected_mean())


def test_too_few_members_end_the_round_with_their_names(job: Job) -> None:
    current = job.begin(1)
    for site in SITES:
        current.admit(site, job.contribution(site, 1))
    job.away = {"site-2"}
    with pytest.raises(sa.QuorumError, match=r"2 of 3 needed answers.*site-2: no reply"):
        current.finish()


def test_a_committee_site_that_is_away_at_the_start(folder: Path) -> None:
    job = Job(folder, terms_of(), away={"site-3"})
    with pytest.raises(sa.QuorumError, match=r"without prekeys: \['site-3'\]; site-3: no reply"):
        job.convener.convene(0)


# What the server refuses, each time by the site's name.


def test_bytes_that_are_no_contribution(job: Job) -> None:
    current = job.begin(1)
    assert not current.admit("site-4", b"")
    assert not current.admit("site-3", {"plain": np.zeros(3)})
    assert current.refused["site-3"] == "sent no contribution"
    assert "expected" in current.refused["site-4"]


def test_a_changed_contribution(job: Job) -> None:
    current = job.begin(1)
    for site in SITES:
        payload = bytearray(job.contribution(site, 1))
        payload[-1] ^= site == "site-2"
        current.admit(site, bytes(payload))
    outcome = current.finish()
    assert outcome.sites == ("site-1", "site-3", "site-4")
    assert list(outcome.refused) == ["site-2"]


def test_a_contribution_of_another_round(job: Job) -> None:
    job.begin(1)
    old = job.contribution("site-1", 1)
    assert not job.begin(2).admit("site-1", old)


def test_a_second_contribution(job: Job) -> None:
    current = job.begin(1)
    payload = job.contribution("site-1", 1)
    assert current.admit("site-1", payload)
    assert not current.admit("site-1", payload)
    assert "already admitted" in current.refused["site-1"]


# What a site refuses.


def tampered(job: Job, verb: str, change: Callable[[Offer], Offer]) -> None:
    job.between = lambda v, site, message: (
        change(Offer.from_bytes(message)).to_bytes() if (v, site) == (verb, "site-1") else message
    )


def test_a_server_that_gives_one_site_another_identity(job: Job) -> None:
    stranger = sa.Identity.generate().public
    tampered(job, "pin", lambda offer: replace(offer, publics=(stranger, *offer.publics[1:])))
    with pytest.raises(sa.QuorumError, match=r"site-1: the roster offered does not hold this site"):
        job.convener.convene(1)


def test_a_server_that_shows_sites_different_rosters(job: Job) -> None:
    stranger = sa.Identity.generate().public
    tampered(job, "pin", lambda offer: replace(offer, publics=(*offer.publics[:3], stranger)))
    with pytest.raises(sa.QuorumError, match=r"3 sites, 2 of them on the committee, pinned the roster"):
        job.convener.convene(1)


def test_a_roster_without_the_committee(job: Job) -> None:
    tampered(job, "pin", lambda offer: replace(offer, sites=("site-1", "x", *offer.sites[2:])))
    with pytest.raises(sa.QuorumError, match=r"site-1: committee sites \['site-2'\] are not in the roster"):
        job.convener.convene(1)


def test_prekeys_of_another_committee(job: Job) -> None:
    tampered(job, "pin", lambda offer: replace(offer, prekeys=tuple(keys[:2] for keys in offer.prekeys)))
    with pytest.raises(sa.QuorumError, match="site-1: 2 prekeys a round offered, the committee has 3"):
        job.convener.convene(1)


def test_another_model_than_the_others_were_given(job: Job) -> None:
    current = job.begin(1)
    site = job.sites["site-1"]
    begun = site.begin(1, named([tensor + 1 for tensor in common.MODEL]))
    payload = site.contribute(begun, named(common.update_of(0)), 3)
    assert not current.admit("site-1", payload)
    assert "session" in current.refused["site-1"]


def test_an_update_of_a_round_that_is_no_longer_the_current_one(job: Job) -> None:
    """A server could otherwise have what was trained on another model summed in a round of this one."""
    job.convener.convene(1)
    current = job.begin(2)
    site = job.sites["site-1"]
    earlier = site.begin(1, named([tensor + 1 for tensor in common.MODEL]))
    later = site.begin(2, named(common.MODEL))
    with pytest.raises(sa.ParameterError, match="another round has begun at this site"):
        site.contribute(earlier, named(common.update_of(0)), 3)
    assert current.admit("site-1", site.contribute(later, named(common.update_of(0)), 3))


def test_a_member_asked_about_a_round_it_is_not_in(job: Job) -> None:
    job.convener.convene(1)
    with pytest.raises(sa.ParameterError, match="no round has begun"):
        job.sites["site-1"].respond(b"")


def test_a_site_off_the_committee(job: Job) -> None:
    with pytest.raises(sa.ParameterError, match="not on the committee"):
        job.sites["site-4"].respond(b"")


def test_a_round_that_is_not_pinned(job: Job) -> None:
    with pytest.raises(sa.ParameterError, match="pinned for round 1"):
        job.sites["site-1"].begin(1, named(common.MODEL))


@pytest.mark.parametrize("weight", [0, common.MAX_WEIGHT + 1, 2.5, float("inf")])
def test_a_weight_out_of_range(job: Job, weight: float) -> None:
    job.begin(1)
    site = job.sites["site-1"]
    begun = site.begin(1, named(common.MODEL))
    with pytest.raises(sa.ParameterError, match="weight"):
        site.contribute(begun, named(common.update_of(0)), weight)


def test_an_update_of_other_tensors(job: Job) -> None:
    job.begin(1)
    site = job.sites["site-1"]
    begun = site.begin(1, named(common.MODEL))
    with pytest.raises(sa.ParameterError, match=r"differ in the tensors \['d'\]"):
        site.contribute(begun, named(common.update_of(0)) | {"d": np.zeros(1, np.float32)}, 3)


def test_an_update_of_other_shapes(job: Job) -> None:
    job.begin(1)
    site = job.sites["site-1"]
    begun = site.begin(1, named(common.MODEL))
    with pytest.raises(sa.ParameterError, match=r"tensor 'b.scale' has the shape \(1,\), in the model \(\)"):
        site.contribute(begun, named(common.update_of(0)) | {"b.scale": np.zeros(1)}, 3)


def test_a_wider_update_is_cast_to_the_model(job: Job) -> None:
    current = job.begin(1)
    site = job.sites["site-1"]
    begun = site.begin(1, named(common.MODEL))
    wider = {name: tensor.astype(np.float64) for name, tensor in named(common.update_of(0)).items()}
    with pytest.raises(sa.ParameterError, match="infinity"):
        site.contribute(begun, wider | {"c.bias": np.full(17, 1e300)}, 3)
    assert current.admit("site-1", site.contribute(begun, wider, 3))


def test_an_unknown_verb(job: Job) -> None:
    with pytest.raises(sa.EncodingError, match="unknown kind"):
        job.sites["site-1"].serve("train", b"")


# Pinned rosters.


def test_a_pinned_roster(folder: Path) -> None:
    job = Job(folder, terms_of(roster="pinned"))
    job.pin()
    assert same(ordered(job.round().mean), common.expected_mean())


def test_without_a_roster_file_a_pinned_job_does_not_start(folder: Path) -> None:
    job = Job(folder, terms_of(roster="pinned"))
    with pytest.raises(sa.QuorumError, match="site-1: this site has no roster file"):
        job.convener.convene(0)


def test_a_site_that_is_not_in_the_roster_file(folder: Path) -> None:
    job = Job(folder, terms_of(roster="pinned"))
    job.pin(SITES[:3])
    with pytest.raises(sa.QuorumError, match="'site-4' is offered, which is not in this site's roster file"):
        job.convener.convene(0)


@pytest.mark.parametrize("roster", ["pinned", "collected"])
def test_a_site_with_another_identity_than_pinned(folder: Path, roster: str) -> None:
    job = Job(folder, terms_of(roster=roster))
    job.pin()
    (folder / "site-4" / "local" / "secureagg" / "site-4" / "identity").unlink()
    job.sites["site-4"] = type(job.sites["site-4"])(job.home("site-4"), job.terms, "job")
    with pytest.raises(sa.QuorumError, match="'site-4' is offered with another identity than this site has pinned"):
        job.convener.convene(0)
