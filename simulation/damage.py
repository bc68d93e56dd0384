"""Damage: what a bad disk makes of a store while nobody runs on it."""

from counter.store.memory import MemoryStore

KINDS = ("invalid video", "larger count", "smaller count", "lost row", "junk")
"""The kinds of damage; the last one is done to a fact, the others to a vector."""
_MUCH = 1000


def damage(store: MemoryStore, kind: str, at: float) -> str:
    """Damage something, `at` between 0 and 1 says which; return its name, "" for nothing."""
    names = (
        sorted(store.facts) if kind == "junk" else sorted(v for v, c in store.counts.items() if c)
    )
    if not names:
        return ""
    name = names[int(at * len(names))]
    if kind == "junk":
        store.facts[name] = "\x00junk " + store.facts[name][1:]
        return name
    counts = store.counts[name]
    video = sorted(counts)[int(at * 7919 % len(counts))]
    match kind:
        case "invalid video":
            counts["not a video"] = counts[video]
        case "larger count":
            counts[video] += _MUCH
        case "smaller count":
            counts[video] = max(1, counts[video] - 1)
        case "lost row":
            del counts[video]
    return name
