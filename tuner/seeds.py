"""Seeds as a function of what they are for, so that nothing depends on what was drawn before."""

from __future__ import annotations

import hashlib


def seed_for(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on `parts` alone: `seed_for('order', data_seed, epoch)`."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
