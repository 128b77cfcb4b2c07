"""A uniform sample of faces that arrive and are not kept."""

import numpy as np


class UniformSample:
    """The faces of the lowest keys, which are drawn at random: uniform in any order and after any merge."""

    def __init__(self, size: int, dim: int):
        """Of no faces, with `size` places."""
        self._held = 0
        self._faces, self._norms = np.zeros((size, dim), np.float32), np.zeros(size, np.float32)
        self._keys = np.zeros(size)

    @property
    def faces(self) -> np.ndarray:
        """[s, D] float32 unit rows, s at most the size."""
        return self._faces[: self._held]

    @property
    def norms(self) -> np.ndarray:
        """[s] float32."""
        return self._norms[: self._held]

    @property
    def keys(self) -> np.ndarray:
        """[s] float64."""
        return self._keys[: self._held]

    def state(self) -> dict[str, np.ndarray]:
        """What `of_state` makes an equal one of."""
        return {"faces": self.faces, "norms": self.norms, "keys": self.keys}

    @classmethod
    def of_state(cls, size: int, state: dict[str, np.ndarray]) -> "UniformSample":
        """One with the state that `state` gave."""
        made = cls(size, state["faces"].shape[1])
        made.add(state["faces"], state["norms"], state["keys"])
        return made

    def add(self, faces: np.ndarray, norms: np.ndarray, keys: np.ndarray) -> None:
        """Takes in faces [n, D] with norms [n], each by its key in [n]."""
        held, size = self._held, len(self._keys)
        every = np.concatenate([self.keys, keys])
        low = np.zeros(len(every), bool)
        low[np.argsort(every, kind="stable")[:size]] = True
        leaving, entering = np.flatnonzero(~low[:held]), np.flatnonzero(low[held:])
        places = np.concatenate([leaving, np.arange(held, size)])[: len(entering)]
        self._faces[places], self._norms[places] = faces[entering], norms[entering]
        self._keys[places], self._held = keys[entering], min(len(every), size)
