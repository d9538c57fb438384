"""Seeds: everything random draws from a seed derived from names, never from a shared stream.

So item i does not depend on the number of items before it, the order in which they finish, or the number of
ranks (see ARCHITECTURE.md, "Reproducible to the bit").
"""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends only on the parts: `derive_seed(seed, "zero", step, id, sample)`."""
    # types and a separator keep ("1",), (1,) and ("a", "b"), ("ab",) apart
    key = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits
