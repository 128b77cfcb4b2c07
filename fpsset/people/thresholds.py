"""Thresholds kept in a store, by claimed rate."""

from fpsset.errors import InputError
from fpsset.people.decisions import Decider
from fpsset.people.store import Store

KINDS = ("far", "fpir")


def write_decider(store: Store, kind: str, decider: Decider) -> None:
    """Keeps thresholds, inside a change.

    Args:
      store: an open store.
      kind: 'far' for verification, 'fpir' for search.
      decider: takes the place of one for the same rate.
    """
    held = store.get(f"thresholds {kind}", {})
    store.put(f"thresholds {kind}", held | {f"{decider.everyone.rate:g}": decider.to_json()})


def read_decider(store: Store, kind: str, rate: float | None) -> Decider | None:
    """The thresholds for a claimed rate; None if nothing is calibrated and no rate is named.

    Args:
      store: an open store.
      kind: 'far' or 'fpir'.
      rate: which; None if there is only one.

    Raises:
      InputError: there is none for that rate, or several to choose from.
    """
    held = store.get(f"thresholds {kind}", {})
    if rate is None and not held:
        return None
    if rate is None and len(held) == 1:
        return Decider.from_json(next(iter(held.values())))
    if rate is None or f"{rate:g}" not in held:
        found = f"thresholds for {', '.join(held)}" if held else "no threshold"
        raise InputError(f"{store.path}: holds {found}; give one of them by --{kind}, or calibrate")
    return Decider.from_json(held[f"{rate:g}"])


def drop_thresholds(store: Store) -> None:
    """Removes all thresholds, which are of no use for other descriptors."""
    for kind in KINDS:
        store.put(f"thresholds {kind}", None)
