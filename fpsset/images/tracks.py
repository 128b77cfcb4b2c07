"""Tracks: the faces of a video that follow each other, each of one person, and whose tracks are of one."""

import numpy as np

from fpsset.errors import InputError
from fpsset.images.detector import overlap
from fpsset.images.found_faces import FoundFaces

# Below this cosine the faces before and after a moment look like two people, whatever their boxes do.
APART = 0.3
STRANGER = 0.2  # the same for a single face against all others
POOR = 0.8  # a face of a norm below this times the median may look like nobody
# Above it, two tracks look like one person.
ALIKE = 0.5
_LEAST_SCORE = 0.1  # every face that the detector gives begins or continues a track
_LOST_SECONDS = 1.0
_NEVER = 1e6  # a distance that no average brings below any threshold
_TOUCHING = 0.05  # intersection over union of two boxes from which a swap cannot be excluded


def track_faces(faces: FoundFaces, frames: np.ndarray, scenes: np.ndarray, rate: float) -> np.ndarray:
    """Follows the faces of one video by ByteTrack (Zhang et al., ECCV 2022), and by how they look.

    A track ends where the scene changes, where two faces touch, and where it begins to look like someone
    else, so that a track is of one person.

    Args:
      faces: M faces, with embeddings.
      frames: [F] float64 seconds of all frames, increasing, those without a face included.
      scenes: [F] bool, whether a frame begins a scene.
      rate: frames a second.

    Returns:
      [M] int64 tracks, numbered from 0 in the order in which they begin.
    """
    tracker, supervision = _tracker(rate)
    rows_of = dict(_by_time(faces.time))
    names = _Names(len(faces))
    for time, begins in zip(frames, scenes, strict=True):
        if begins:
            tracker.reset()
            names.begin_scene()
        rows = rows_of.get(time, np.zeros(0, np.int64))
        names.add(time, rows, _followed(tracker, supervision, faces, rows), faces.boxes[rows])
    return _numbered(_split_by_looks(faces, names.joined(faces)))


class _Names:
    """Names short tracks by what the tracker says, so that each is of one person, and joins them by looks."""

    def __init__(self, count: int):
        self._short = np.full(count, -1, np.int64)  # tracks that no touch and no cut interrupts
        self._followed: list[tuple[int, int]] = []  # of each short track: the scene, and the tracker's id
        self._scene = 0
        self.begin_scene()

    def begin_scene(self) -> None:
        """Forgets all that the tracker followed."""
        self._scene += 1
        self._now: dict[int, int] = {}  # the short track of each of the tracker's ids
        self._touching: set[int] = set()
        self._seen: dict[int, tuple[float, np.ndarray]] = {}  # when and where each was last
        self._unnamed: list[tuple[int, np.ndarray]] = []

    def add(self, time: float, rows: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> None:
        """Adds the faces of a frame: their rows, the tracker's ids or -1, and their boxes."""
        self._seen = {mark: last for mark, last in self._seen.items() if time - last[0] <= _LOST_SECONDS}
        # Someone who is not seen may be hidden behind a face that is where they were.
        hidden = [box for mark, (_, box) in self._seen.items() if mark not in ids]
        others = np.concatenate([boxes, np.reshape(hidden, (-1, 4))])
        overlaps = overlap(boxes[:, None], others)
        np.fill_diagonal(overlaps, 0)  # with themselves
        touches = overlaps.max(axis=1, initial=0) > _TOUCHING
        earlier, self._unnamed = self._unnamed, []
        for row, mark, box, touching in zip(rows, ids.tolist(), boxes, touches, strict=True):
            if mark < 0:  # the tracker names a face when it has seen it twice
                self._unnamed.append((row, box))
                self._begin(row, mark)
                continue
            if mark not in self._now:
                self._begin(row, mark)
                self._name_earlier(row, box, earlier)
            elif touching or mark in self._touching:
                self._begin(row, mark)
            self._short[row] = self._now[mark]
            (self._touching.add if touching else self._touching.discard)(mark)
            self._seen[mark] = time, box

    def joined(self, faces: FoundFaces) -> np.ndarray:
        """[M] tracks: those of one id that look like one person, wherever they touched another."""
        means = mean_vectors(faces, self._short, len(self._followed))
        tracks = np.arange(len(self._followed))
        groups: dict[tuple[int, int], list[int]] = {}
        sums = means * np.bincount(self._short, minlength=len(means))[:, None]
        for short, followed in enumerate(self._followed):
            if followed[1] < 0:
                continue
            own = groups.setdefault(followed, [])
            cosines = [float(sums[t] @ means[short]) / max(np.linalg.norm(sums[t]), 1e-12) for t in own]
            if own and max(cosines) >= ALIKE:
                best = own[int(np.argmax(cosines))]
                tracks[short] = best
                sums[best] += sums[short]
            else:
                own.append(short)
        return tracks[self._short]

    def _begin(self, row: int, mark: int) -> None:
        self._short[row] = len(self._followed)
        if mark >= 0:
            self._now[mark] = len(self._followed)
        self._followed.append((self._scene, mark))

    def _name_earlier(self, row: int, box: np.ndarray, earlier: list[tuple[int, np.ndarray]]) -> None:
        """Adds to a new track the face of the frame before from which the tracker began it."""
        overlaps = overlap(box, np.reshape([other for _, other in earlier], (-1, 4)))
        if overlaps.max(initial=0) > 0:
            self._short[earlier.pop(int(np.argmax(overlaps)))[0]] = self._short[row]


def same_people(faces: FoundFaces, tracks: np.ndarray) -> np.ndarray:
    """Which tracks of one video look like one person: average linkage of their mean embeddings.

    Tracks that are seen at one time are never joined. Takes memory for all pairs of tracks.

    Args:
      faces: M faces.
      tracks: [M] int64, from 0 on.

    Returns:
      [T] int64 people, numbered from 0.
    """
    count = int(tracks.max(initial=-1)) + 1
    means = mean_vectors(faces, tracks, count)
    cosines = means @ means.T
    apart = np.zeros((count, count), bool)
    for _, rows in _by_time(faces.time):
        apart[np.ix_(tracks[rows], tracks[rows])] = True
    if count < 2:
        return np.zeros(count, np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage

    distances = np.where(apart, _NEVER, 1 - cosines)[np.triu_indices(count, 1)]
    groups = fcluster(linkage(distances, "average"), 1 - ALIKE, "distance")
    return _numbered(groups)


def mean_vectors(faces: FoundFaces, groups: np.ndarray, count: int) -> np.ndarray:
    """The norm-weighted mean of each group's embeddings: [count, D] float32 unit rows, zero where none."""
    sums = np.zeros((count, faces.embeddings.shape[1]), np.float32)
    np.add.at(sums, groups, faces.embeddings.astype(np.float32) * faces.norms[:, None])
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def require_tracker() -> None:
    """Raises InputError unless faces can be followed."""
    _tracker(1.0)


def _tracker(rate: float):
    try:
        import supervision
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise InputError("following faces in videos needs trackers; pip install 'fpsset[video]'") from error
    tracker = ByteTrackTracker(
        lost_track_buffer=round(30 * _LOST_SECONDS),
        frame_rate=rate,
        track_activation_threshold=_LEAST_SCORE,
        high_conf_det_threshold=_LEAST_SCORE,
        minimum_consecutive_frames=1,
    )
    return tracker, supervision


def _followed(tracker, supervision, faces: FoundFaces, rows: np.ndarray) -> np.ndarray:
    """The tracker's id of each row; -1 for a face that begins no track."""
    left, top, width, height = faces.boxes[rows].T if len(rows) else np.zeros((4, 0))
    seen = supervision.Detections(
        xyxy=np.stack([left, top, left + width, top + height], axis=1),
        confidence=faces.scores[rows],
        class_id=np.arange(len(rows)),  # tells which row is which, since the tracker reorders them
    )
    found = tracker.update(seen)
    ids = np.full(len(rows), -1, np.int64)
    if len(rows) and len(found):
        ids[found.class_id] = found.tracker_id
    return ids


def _split_by_looks(faces: FoundFaces, tracks: np.ndarray) -> np.ndarray:
    """Splits tracks where what comes before and after a moment looks like two people."""
    parts = []
    waiting = [np.flatnonzero(tracks == t) for t in np.unique(tracks)]
    while waiting:
        rows = waiting.pop()
        weighed = faces.embeddings[rows].astype(np.float32) * faces.norms[rows, None]
        before = np.cumsum(weighed, axis=0)
        halves = _cosines(before, before[-1] - before)[1:-2]  # two faces on either side at least
        if len(halves) and halves.min() < APART:
            at = 2 + int(np.argmin(halves))
            waiting += [rows[:at], rows[at:]]
            continue
        # A tracker changes over where a face comes or goes; a single odd face in between is a poor one.
        odd = _cosines(weighed, before[-1] - weighed) < STRANGER
        odd &= faces.norms[rows] >= POOR * np.median(faces.norms[rows])
        odd[1:-1] = False
        odd[:1] &= len(rows) > 2
        odd[-1:] &= len(rows) > 1
        parts += [rows[~odd], *(rows[i : i + 1] for i in np.flatnonzero(odd))]
    found = np.empty(len(tracks), np.int64)
    for number, rows in enumerate(parts):
        found[rows] = number
    return found


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(lengths, 1e-12)


def _numbered(groups: np.ndarray) -> np.ndarray:
    """Groups numbered from 0 in the order in which they begin."""
    ids, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    ranks = np.empty(len(ids), np.int64)
    ranks[np.argsort(first, kind="stable")] = np.arange(len(ids))
    return ranks[codes.reshape(-1)]


def _by_time(time: np.ndarray):
    """(time, rows) of each moment."""
    moments, codes = np.unique(time, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(moments) + 1))
    for number, moment in enumerate(moments):
        yield moment, order[bounds[number] : bounds[number + 1]]
