"""Seeds: every random act draws from a seed derived from names, never from a shared stream.

So item i does not depend on how many items came before it, on the order they finish in, or on the
number of ranks (see ARCHITECTURE.md, "Reproducible to the bit").
"""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends on the parts alone: `derive_seed(seed, "zero", step, id, sample)`."""
    key = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
