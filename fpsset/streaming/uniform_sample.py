"""A uniform random sample of a stream of faces, without keeping the rest."""

import numpy as np


class UniformSample:
    """The faces with the smallest random keys: a uniform sample in any order and after any merge."""

    def __init__(self, size: int, dim: int):
        """Creates an empty sample with room for `size` faces [D], D = `dim`."""
        self._held = 0
        self._faces, self._norms = np.zeros((size, dim), np.float32), np.zeros(size, np.float32)
        self._keys = np.zeros(size)

    @property
    def faces(self) -> np.ndarray:
        """[s, D] float32 unit rows, s <= size."""
        return self._faces[: self._held]

    @property
    def norms(self) -> np.ndarray:
        """[s] float32, the norms of the faces."""
        return self._norms[: self._held]

    @property
    def keys(self) -> np.ndarray:
        """[s] float64, the random keys of the faces."""
        return self._keys[: self._held]

    def state(self) -> dict[str, np.ndarray]:
        """The state, for `of_state`."""
        return {"faces": self.faces, "norms": self.norms, "keys": self.keys}

    @classmethod
    def of_state(cls, size: int, state: dict[str, np.ndarray]) -> "UniformSample":
        """Restores the state that `state` returned."""
        made = cls(size, state["faces"].shape[1])
        made.add(state["faces"], state["norms"], state["keys"])
        return made

    def add(self, faces: np.ndarray, norms: np.ndarray, keys: np.ndarray) -> None:
        """Adds faces.

        Args:
          faces: [n, D] float32 unit rows.
          norms: [n] float32.
          keys: [n] float64, drawn uniformly from [0, 1).
        """
        held, size = self._held, len(self._keys)
        every = np.concatenate([self.keys, keys])
        low = np.zeros(len(every), bool)
        low[np.argsort(every, kind="stable")[:size]] = True
        leaving, entering = np.flatnonzero(~low[:held]), np.flatnonzero(low[held:])
        places = np.concatenate([leaving, np.arange(held, size)])[: len(entering)]
        self._faces[places], self._norms[places] = faces[entering], norms[entering]
        self._keys[places], self._held = keys[entering], min(len(every), size)
