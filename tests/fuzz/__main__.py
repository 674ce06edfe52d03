"""`python -m tests.fuzz` runs the campaign and writes docs/fuzzing.md."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.fuzz.campaign import SEED, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fuzzing.md"
TEXT = """# What refuses a mutated message

Written by `python -m tests.fuzz`; `tests/fuzz` runs the same {total:,} mutations with every `make test`. The seed is
{seed}; keys, errors and boxes are fresh each time, so single counts vary by a few.

Every field of every message is mutated in every class. A mutation is delivered as it is, or (*signed*, {signed:,} of
them) with a proper signature by the party that would gain: client 2 for contributions and for dealings in requests,
member 1 for its noise, prekeys, share checks and answers. Tallies, rosters, plans and layouts are signed by nobody, so
a mutation reaches their parsers as it is. A client signs in three ways: digests and check polynomials made anew for
what it sends, digests alone, or the signature alone. With proofs (*proven contribution*; fields are those of the
header, the boxes and each section of the proof) it is digests alone, the signature alone, or, where ciphertext or boxes
were altered, share check and proof made anew as well: what is then refused, only the proof refuses.

Noise is mutated and signed as contributions are. *Noisy contribution* is a client's with Skellam noise of its own,
*member's noise* a committee member's discrete Gaussians beside the noise of the other three; of the two with proofs it
is the client that adds discrete Gaussians, and the member Skellam noise.

Rows above the line of `harmless` and `share check` entries are refusals by a named error that blames nobody but the
sender; the sum, the set of clients and the journal are then as before. Of those that were let in:

- *right sum with it*, *right sum without it*: the round was finished, and the mean was bit for bit what plain integers
  find in the ciphertexts that entered, by the bounds of docs/protocol.md. Where a member's noise is left out, it is the
  member that is named, and the others open the sum, which holds theirs. *residual* counts those that the same integers
  say must not be opened. One complaint of four members leaves nobody out; with proofs clients are judged by three
  members, all of whom are needed, so what one of them refuses is left out.
- *same answer*: the alteration was to what the receiver does not read (another member's box in a broadcast request).
- *names another set*: client 2 signed two different contributions; members shown different ones sign different
  digests, and their answers do not add up.
- *its own complaint*: a member may complain about whom it likes; alone it decides nothing.
- *another session*, *another layout*: a different valid object, whose session refuses what was made for the first.

No mutation was answered with a wrong sum, with an error of another type, or by blaming somebody else.

"""


def main() -> int:
    """Run, write the page, and say what failed."""
    start = time.perf_counter()
    campaign = run()
    for failure in campaign.failures[:50]:
        print(failure, file=sys.stderr)
    print(f"{campaign.total:,} mutations, {campaign.signed:,} signed, {time.perf_counter() - start:.0f} s")
    if not campaign.failures:
        page = TEXT.format(total=campaign.total, signed=campaign.signed, seed=SEED) + "\n".join(campaign.table())
        PAGE.write_text(page.rstrip() + "\n")
    return int(bool(campaign.failures))


if __name__ == "__main__":
    sys.exit(main())
