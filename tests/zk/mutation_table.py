"""Removes the verifier's checks one at a time, in a copy of the tree, and finds the test that notices.

    python -m tests.zk.mutation_table

writes docs/proofs/mutations.md and fails if a mutant survives. The table as it is says where to look first. A few
minutes; not part of the test run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTATIONS", "Mutation"]

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "proofs" / "mutations.md"
COPIED = ("secureagg", "tests", "pyproject.toml")
TIMEOUT = 300  # seconds for one file of tests


@dataclass(frozen=True)
class Mutation:
    """A text of a module, what to put in its place, and the test file that should notice."""

    check: str
    module: str
    old: str
    new: str
    tests: str


def _off(check: str, module: str, condition: str, tests: str) -> Mutation:
    return Mutation(check, module, f"    if {condition}:\n", "    if False:\n", tests)


def _after(check: str, module: str, line: str, added: str, tests: str) -> Mutation:
    indent = " " * (len(line) - len(line.lstrip()))
    return Mutation(check, module, line, f"{line}\n{indent}{added}", tests)


def _gone(check: str, module: str, line: str, tests: str) -> Mutation:
    return Mutation(check, module, line + "\n", "", tests)


_BOUNDS, _RANGE, _DEALING = "attacks_bounds", "attacks_range", "attacks_dealing"
_ORACLES, _TRANSCRIPT, _BYTES = "attacks_oracles", "attacks_transcript", "attacks_bytes"
_HINDSIGHT = "attacks_hindsight"

_IOP = [
    _off("sum of a linear response", "iop", "_sum_on_h(shape, q, proof.linear[i]) != (test.target + int(proof.sums[i])) % q", "iop"),  # noqa: E501
    _off("linear response at the queries", "iop", "not np.array_equal(at_queries(proof.linear[i]), _total(q, [found, columns.squares(q, test), mask]))", "iop"),  # noqa: E501
    _off("product response at the queries", "iop", "not np.array_equal(fq.multiply(q, quotient, vanishing), columns.products(q, product))", "iop"),  # noqa: E501
    _off("proximity word at the queries", "iop", "not np.array_equal(at_queries(proof.proximity[i]), combined)", "iop"),
    _off("padding of a path", "iop", "any(opening.path[used:])", _BYTES),
]  # fmt: skip
for _kind, _name, _variable in (("linear", "test", 2), ("products", "product", 2), ("proximity", "row", 3)):
    for _skipped in range(_variable):
        _loop = f"    for i, {_name} in enumerate(challenges.{_kind}):"
        _IOP.append(_after(f"{_kind}, repetition {_skipped}", "iop", _loop, f"    if i == {_skipped}: continue", "iop"))
for _name, _other in (("first", "second"), ("second", "first")):
    _root = "merkle.root_of(shape.length, positions, leaves, opening.path[:used]) != root"
    _IOP.append(
        Mutation(f"root of the {_name} oracle", "iop", _root, f"which == '{_other}' and {_root}", _ORACLES),
    )
_IOP += [
    _gone("absorb second root", "iop", '    transcript.absorb("second root", root)', _TRANSCRIPT),
    _gone("absorb sums of masks", "iop", '    transcript.absorb("sums of masks", sums.tobytes())', _TRANSCRIPT),
    _gone("absorb responses", "iop", '    transcript.absorb("responses", proof.responses())', _HINDSIGHT),
    Mutation(
        "masks are in the proximity test", "iop",
        "        return cls(relations.linear_tests(linear)",
        "        drawn[:, -shape.second_rows + shape.rows.second : -PROXIMITY_REPETITIONS] = 0\n"
        "        return cls(relations.linear_tests(linear)", _ORACLES,
    ),
    Mutation(
        "rows of the first oracle are in the proximity test", "iop",
        "        return cls(relations.linear_tests(linear)",
        "        drawn[:, : shape.rows.first] = 0\n        return cls(relations.linear_tests(linear)", _ORACLES,
    ),
    Mutation(
        "proximity coefficients of repetitions are independent", "iop",
        "        return cls(relations.linear_tests(linear)",
        "        drawn[1] = drawn[0]\n        return cls(relations.linear_tests(linear)", "iop",
    ),
]  # fmt: skip

_ENCODING = [
    _off("length of a proof", "proof", "view.nbytes != proof_bytes(shape)", _BYTES),
    _off("padding of the elements", "proof", "out[0, 0, count:].any()", _BYTES),
    Mutation(
        "elements below q", "../ring/residues",
        "_refuse_if(int(residues_kernels.unpack(words[start:stop], q, out[start:stop])))",
        "residues_kernels.unpack(words[start:stop], q, out[start:stop])", _BYTES,
    ),
]  # fmt: skip
for _kept, _name in (
    ("(self.quotients, self.proximity)", "linear"),
    ("(self.linear, self.proximity)", "product"),
    ("(self.linear, self.quotients)", "proximity"),
):
    _old = "(self.linear, self.quotients, self.proximity))"
    _ENCODING.append(Mutation(f"absorb {_name} responses", "proof", _old, f"{_kept})", _HINDSIGHT))

_MERKLE = [
    _off("leaves: as many as positions, 32 bytes", "merkle", "len(leaves_at) != len(known) or any(len(each) != HASH_BYTES for each in leaves_at)", "merkle"),  # noqa: E501
    _off("length of a multiproof", "merkle", "len(proof) != expected", "merkle"),
    _off("at least one position", "merkle", "not known", "merkle"),
    _off("positions ascending, distinct, in range", "merkle", "known[0] < 0 or known[-1] >= n or any(low >= high for low, high in pairwise(known))", "merkle"),  # noqa: E501
    _off("size of a tree", "merkle", "n < 2 or n & (n - 1)", "merkle"),
    _off("salts of all leaves: 16 bytes", "merkle", "len(salts) != n * SALT_BYTES", _BYTES),
    Mutation("salt of a leaf: 16 bytes", "merkle", " or len(salt) != SALT_BYTES", "", _BYTES),
    Mutation("leaves differ from nodes", "merkle", r'_LEAF, _NODE = b"\x00", b"\x01"', r'_LEAF, _NODE = b"\x00", b"\x00"', "merkle"),  # noqa: E501
]  # fmt: skip

_SPLIT = "        shares = shares.reshape(s.threshold, SHARE_REPETITIONS)"
_BETA = "        bits, inverses = beta[: len(places.bits)], beta[len(places.bits) :].reshape(-1, EXTENSION)"
_FOLDED = "        folded = projection.transposed(self._projection_seed, positions, gammas, q)"
_STARTS = "s.shape.message_length * self._places.errors.start"
_RELATIONS = [
    _after(f"relation {name}", "relations", _SPLIT, f"{zeroed} = 0", tests)
    for name, zeroed, tests in (
        ("R1", "ciphertext[:]", _DEALING),
        ("R1, first coefficient", "ciphertext[:1]", _DEALING),
        ("R1, last coefficient", "ciphertext[-1:]", _DEALING),
        ("projection", "gammas[:]", _BOUNDS),
        ("projection, row 0", "gammas[0]", _BOUNDS),
        ("projection, row 64", "gammas[64]", _BOUNDS),
        ("projection, row 127", "gammas[127]", _BOUNDS),
        ("norm of v", "norms[0]", _BOUNDS),
        ("norm of e", "norms[1]", _BOUNDS),
        ("weight ≥ 1", "weight[0]", _BOUNDS),
        ("weight ≤ max_weight", "weight[1]", _BOUNDS),
        ("R5", "shares[:]", _DEALING),
        ("R5, the key", "shares[0]", _DEALING),
        ("R5, the last polynomial", "shares[-1]", _DEALING),
        ("R5, repetition 0", "shares[:, 0]", _DEALING),
        ("R5, repetition 1", "shares[:, 1]", _DEALING),
        ("R5, repetition 2", "shares[:, 2]", _DEALING),
        ("sum of inverses", "looked_up[:]", _RANGE),
        ("sum of inverses, component 0", "looked_up[0]", _RANGE),
        ("sum of inverses, component 1", "looked_up[1]", _RANGE),
        ("sum of inverses, component 2", "looked_up[2]", _RANGE),
    )
]
_RELATIONS += [
    _after(f"constraint {name}", "relations", _BETA, f"{zeroed} = 0", tests)
    for name, zeroed, tests in (
        ("bit² = bit", "bits[:]", _BOUNDS),
        ("bit² = bit, first row", "bits[:1]", _BOUNDS),
        ("bit² = bit, last row", "bits[-1:]", _BOUNDS),
        ("(α − v)·h = 1", "inverses[:]", _RANGE),
        ("(α − v)·h = 1, component 0", "inverses[:, 0]", _RANGE),
        ("(α − v)·h = 1, component 1", "inverses[:, 1]", _RANGE),
        ("(α − v)·h = 1, component 2", "inverses[:, 2]", _RANGE),
    )
]
_RELATIONS += [
    _after("projection covers the padding of v", "relations", _FOLDED,
           f"s = self._statement; folded[:, s.values : {_STARTS}] = 0", _BOUNDS),
    _after("projection covers the padding of e", "relations", _FOLDED,
           f"s = self._statement; folded[:, {_STARTS} + s.coefficients :] = 0", _BOUNDS),
    Mutation("linear coefficients of repetitions are independent", "relations",
             'drawn = field_elements(seed, f"repetition {repetition}", sum(counts)',
             'drawn = field_elements(seed, "repetition", sum(counts)', _TRANSCRIPT),
    Mutation("product coefficients of repetitions are independent", "relations",
             'beta = field_elements(seed, f"repetition {repetition}", count',
             'beta = field_elements(seed, "repetition", count', _TRANSCRIPT),
]  # fmt: skip

_ABSORBED = {
    "statement": "writer.getvalue()",
    "context": "instance.context",
    "polynomials": "instance.polynomials.identity",
    "ciphertext": "hashlib.sha256(np.ascontiguousarray(instance.ciphertext).data).digest()",
    "first root": "root",
    "combination": "np.ascontiguousarray(instance.combination).tobytes()",
    "check": "np.ascontiguousarray(instance.check).tobytes()",
}
_VALIDITY = [
    _gone(f"absorb {label}", "validity", f'    transcript.absorb("{label}", {absorbed})', _TRANSCRIPT)
    for label, absorbed in _ABSORBED.items()
]
_ROOT = '    transcript.absorb("first root", root)\n'
_OTHERS = "".join(f'    transcript.absorb("{each}", {_ABSORBED[each]})\n' for each in ("combination", "check"))
_ALPHA = (
    '    seed = transcript.challenge("projection")\n'
    '    alpha = field_elements(transcript.challenge("lookup"), "alpha", EXTENSION, s.prime)\n'
)
_VALIDITY += [
    Mutation("first root before α", "validity", _ROOT + _OTHERS + _ALPHA, _OTHERS + _ALPHA + _ROOT, _RANGE),
    _off("elements of an instance are below q", "validity",
         "any((part >= np.uint64(s.prime)).any() for part in "
         "(instance.ciphertext, instance.combination, instance.check))", _TRANSCRIPT),
    _off("a commitment is good for one proof", "validity", "not self._root", "zero_knowledge"),
    _gone("a commitment is good for one answer", "iop", "        self._first = None  # one answer a commitment: the "
          "columns of two would say more than the blinding hides", "zero_knowledge"),
    _off("arrays of an instance have the statement's shapes", "validity",
         "(instance.ciphertext.shape, instance.combination.shape, instance.check.shape) != expected", "statement"),
    _off("arrays of a witness have the statement's shapes", "validity",
         "(w.values.shape, w.errors.shape, w.polynomials.shape, w.masks.shape) != shapes", "statement"),
    _off("prover: values and errors within their norms", "validity",
         "_norm_squared(w.values) > s.norm_bound or _norm_squared(w.errors) > s.error_bound", "statement"),
    _off("prover: values within the limit", "validity",
         "s.table and max(int(w.values.max()), -int(w.values.min())) > s.value_limit", "statement"),
    _off("prover: weight", "validity", "not s.min_weight <= w.weight <= s.max_weight", "statement"),
]  # fmt: skip

_NUMBERS = [
    _off("a sum of squares does not wrap", "statement", "not proven + (1 << widest) < self.prime", "statement"),
    _off("values, weight and chunks fit", "statement",
         "self.values >= self.fields * self.coefficients or chunks > self.keys * self.chunks_per_key", "statement"),
    _off("max_weight does not wrap", "statement", "not 0 <= self.max_weight < 1 << 32", "statement"),
    Mutation("100 bits are required", "soundness", "REQUIRED_BITS = 100.0", "REQUIRED_BITS = 90.0", "soundness"),
    Mutation("two linear repetitions", "soundness",
             "LINEAR_REPETITIONS = PRODUCT_REPETITIONS = 2",
             "LINEAR_REPETITIONS = PRODUCT_REPETITIONS = 1", "soundness"),
    Mutation("three share-check repetitions", "soundness",
             "SHARE_REPETITIONS = 3", "SHARE_REPETITIONS = 2", "soundness"),
    Mutation("three proximity repetitions", "soundness",
             "PROXIMITY_REPETITIONS = 3", "PROXIMITY_REPETITIONS = 2", "soundness"),
    Mutation("factor of the projection lemma", "soundness",
             "_PROJECTION_FACTOR = 9", "_PROJECTION_FACTOR = 4", "soundness"),
    _off("α is outside of F_q", "lookup", "not (b1 or b2)", "lookup"),
    Mutation("labels are absorbed", "transcript",
             "digest = hashlib.sha256(self._state + _ABSORB + _prefixed(label.encode()))",
             "digest = hashlib.sha256(self._state + _ABSORB)", "transcript"),
    Mutation("lengths are absorbed", "transcript",
             '        digest.update(view.nbytes.to_bytes(8, "little"))\n', "", "transcript"),
    Mutation("challenges move on", "transcript",
             "        self._state = hashlib.sha256(self._state + _ADVANCE + named).digest()\n", "", "transcript"),
]  # fmt: skip

MUTATIONS = [*_IOP, *_ENCODING, *_MERKLE, *_RELATIONS, *_VALIDITY, *_NUMBERS]
_ALL = ["iop", _BOUNDS, _RANGE, _DEALING, _TRANSCRIPT, _HINDSIGHT, _BYTES, _ORACLES, "statement", "soundness", "lookup"]


def first_failure(tree: Path, tests: str) -> str | None:
    """Return the first of these tests that fails in the tree, without its parameters; None if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"tests/zk/{tests}"]
    try:
        run = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"{tests} (no end)"
    if "not found: " in run.stdout + run.stderr:
        return None
    found = re.search(r"^(?:FAILED|ERROR) tests/zk/(\S+?)(?:\[| |$)", run.stdout, flags=re.MULTILINE)
    if (run.returncode == 0) == bool(found):
        raise RuntimeError(run.stdout + run.stderr)
    return found[1] if found else None


def killer(tree: Path, mutation: Mutation, before: str | None) -> str | None:
    """Apply the mutation to the tree, return the test that fails, and take it back."""
    path = tree / "secureagg" / "zk" / f"{mutation.module}.py"
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.check}: found {text.count(mutation.old)} times in {path.name}: {mutation.old!r}")
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        names = [mutation.tests, *(name for name in _ALL if name != mutation.tests)]
        order = [before] * (before is not None) + [f"test_{name}.py" for name in names]
        return next((found for tests in order if (found := first_failure(tree, tests))), None)
    finally:
        path.write_text(text)


def known() -> dict[str, str]:
    """Return the tests of the table as it is, by what was taken out."""
    if not TARGET.exists():
        return {}
    rows = re.findall(r"^\| `\w+` \| (.+?) \| `(\w+)` \| `(\w+)` \|$", TARGET.read_text(), flags=re.MULTILINE)
    return {check: f"{tests}.py::{test}" for check, tests, test in rows}


def main() -> None:
    """Write the table; exit with 1 if a mutant survives."""
    rows, survivors, before = [], [], known()
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, tree / name)
        for mutation in MUTATIONS:
            found = killer(tree, mutation, before.get(mutation.check))
            module = mutation.module.removeprefix("../ring/")
            print(f"{module}: {mutation.check} → {found}", flush=True)
            file, _, test = (found or "").partition("::")
            rows.append(f"| `{module}` | {mutation.check} | `{file.removesuffix('.py')}` | `{test}` |")
            if found is None:
                survivors.append(mutation.check)
    if survivors:
        sys.exit(f"no test notices: {', '.join(survivors)}")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(_PAGE.format(count=len(rows), table="\n".join(rows)))


_PAGE = """# What removing a check of the proof breaks

Each line is one check, relation, constraint or absorbed item that was taken out of a copy of the code, for prover
and verifier alike, and the first test that failed then. Written by `python -m tests.zk.mutation_table`, which fails
if a mutant survives; {count} of them.

| module | what was taken out | tests | the first to break |
|---|---|---|---|
{table}
"""


if __name__ == "__main__":
    main()
