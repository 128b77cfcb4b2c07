"""Makes feature files of voices, for `accuracy.py`: an utterance is a medium, its windows are the frames.

python benchmarks/voices.py AUDIO WEIGHTS --out runs/voices
cd runs/voices && python ../../benchmarks/accuracy.py --train voices_train.npz --fars 1e-2 1e-3 \
    --evaluate voices_clean.npz voices_mixed.npz voices_poor.npz voices_sets.npz

Needs `pip install -e '.[bench]' librosa`, and two things that it does not download:

  AUDIO    a folder of LibriSpeech (CC BY 4.0): `audio_data` of github.com/resemble-ai/Resemblyzer, which has
           ten speakers of ten utterances and 251 of one. A file is named SPEAKER-CHAPTER-UTTERANCE.flac
  WEIGHTS  `resemblyzer/pretrained.pt` in the wheel of resemblyzer 0.1.4 (Apache-2.0), a speaker encoder:
           `pip download --no-deps resemblyzer` and unzip it

A window is 1.6 s long and begins .8 s after the one before it. Its embedding is the encoder's output and its
norm the length of that before the last normalisation, after the ReLU. Silence is left out, and what then is
shorter than a window. A poor window has white noise, from 15 dB below the voice to 5 dB above it, and lasts
1.6, .8 or .4 s.

A speaker of one utterance has two media, its halves, from one recording; every other one of these speakers is
for fitting, each window both as it is and poor; `--other-half` takes those that are otherwise left. All other
speakers are evaluated, by all pairs of templates:

  clean  a template per half, and per utterance of the speakers of several, four of each at most
  mixed  the same, three of five windows poor
  poor   the same, all windows poor
  sets   templates of two utterances, one of them poor, up to five of a speaker; the speakers of one utterance
         are only impostors, with both halves in a template
"""

import argparse
import pathlib
from typing import NamedTuple

import librosa
import numpy as np
import torch

from fpsset.data.feature_table import FeatureTable, make_table
from fpsset.data.files import write_features
from fpsset.training.neighbourhood import norm_signal

RATE = 16_000  # samples per second
WINDOW, STEP = int(1.6 * RATE), int(0.8 * RATE)
LENGTHS = (WINDOW, WINDOW // 2, WINDOW // 4)  # of poor windows
SNR = (-5.0, 15.0)  # dB, of poor windows
LOUDNESS = 10 ** (-30 / 20)  # root mean square that quieter utterances are brought to, as in training
MEL_WINDOW, MEL_STEP, MELS = RATE // 40, RATE // 100, 40
LAYERS = 3
BATCH = 256
POOR_OF_FIVE = 3  # windows, in `mixed`
MOST = 4  # media of a speaker of several utterances, in `clean`, `mixed` and `poor`
PER_TEMPLATE = 2  # utterances, in `sets`


class Medium(NamedTuple):
    """An utterance or a half of one."""

    speaker: int
    windows: np.ndarray  # [W, WINDOW]


class Encoder(torch.nn.Module):
    """The speaker encoder, up to its last normalisation."""

    def __init__(self, weights: pathlib.Path):
        """Reads the weights."""
        super().__init__()
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        dim, hidden = state["linear.weight"].shape
        self.lstm = torch.nn.LSTM(MELS, hidden, LAYERS, batch_first=True)
        self.linear = torch.nn.Linear(hidden, dim)
        own = self.state_dict()
        self.load_state_dict({name: value for name, value in state.items() if name in own})

    @torch.inference_mode()
    def embed(self, windows: np.ndarray) -> np.ndarray:
        """[N, samples] to [N, D], >= 0, batch by batch."""
        found = []
        for start in range(0, len(windows), BATCH):
            mel = librosa.feature.melspectrogram(
                y=windows[start : start + BATCH], sr=RATE, n_fft=MEL_WINDOW, hop_length=MEL_STEP, n_mels=MELS
            )
            mel = mel[:, :, : windows.shape[1] // MEL_STEP].swapaxes(1, 2)
            _, (hidden, _) = self.lstm(torch.tensor(mel, dtype=torch.float32))
            found.append(torch.relu(self.linear(hidden[-1])).numpy())
        return np.concatenate(found)


def voice(path: pathlib.Path) -> np.ndarray:
    """An utterance's samples, loud enough and without its silence."""
    wave, _ = librosa.load(path, sr=RATE)
    wave = wave * max(1.0, LOUDNESS / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-9))
    spoken = librosa.effects.split(wave, top_db=30, frame_length=2 * MEL_WINDOW, hop_length=MEL_STEP)
    return np.concatenate([wave[begin:end] for begin, end in spoken])


def windows_of(wave: np.ndarray) -> np.ndarray:
    """[samples] to [W, WINDOW]; none if it is shorter than one."""
    if len(wave) < WINDOW:
        return np.zeros((0, WINDOW), np.float32)
    return np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::STEP]


def read(folder: pathlib.Path) -> tuple[list[Medium], list[Medium]]:
    """(Halves of the speakers of one utterance, utterances of the others), by speaker."""
    speakers: dict[int, list[pathlib.Path]] = {}
    for path in sorted(folder.rglob("*.flac")):
        speakers.setdefault(int(path.name.split("-")[0]), []).append(path)
    if not speakers:
        raise SystemExit(f"{folder}: holds no .flac files; see --help for where they are from")
    halves, utterances = [], []
    for speaker, paths in sorted(speakers.items()):
        waves = [voice(path) for path in paths]
        parts = np.array_split(waves[0], 2) if len(waves) == 1 else waves
        media = [Medium(speaker, windows_of(part)) for part in parts]
        (halves if len(waves) == 1 else utterances).extend(m for m in media if len(m.windows))
    return halves, utterances


def made_poor(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Windows with white noise."""
    ratio = 10 ** (rng.uniform(*SNR, (len(windows), 1)) / 20)
    power = np.sqrt(np.mean(np.square(windows), axis=1, keepdims=True))
    return windows + power / ratio * rng.standard_normal(windows.shape).astype(np.float32)


class Voices:
    """Windows of media, as they are and poor, embedded.

    Attributes:
      speaker: [N], of each window.
      medium: [N], its number among the media.
      vectors: [2, N, D] before their normalisation; the second are the poor ones.
    """

    speaker: np.ndarray
    medium: np.ndarray
    vectors: np.ndarray

    def __init__(self, encoder: Encoder, media: list[Medium], seed: int):
        """Embeds the windows of some media."""
        rng = np.random.default_rng(seed)
        counts = [len(one.windows) for one in media]
        self.speaker = np.repeat([one.speaker for one in media], counts)
        self.medium = np.repeat(np.arange(len(media)), counts)
        windows = np.concatenate([one.windows for one in media])
        clean = encoder.embed(windows)
        poor, length = np.zeros_like(clean), rng.choice(LENGTHS, len(windows))
        noisy = made_poor(windows, rng)
        for one in LENGTHS:
            poor[length == one] = encoder.embed(noisy[length == one, :one])
        self.vectors = np.stack([clean, poor])

    def table(self, poor: np.ndarray, rows: np.ndarray, name: str, template=None) -> FeatureTable:
        """The feature table of some windows, numbered by speaker; `poor` [n] int says which are."""
        vectors = self.vectors[poor, rows]
        norms = np.linalg.norm(vectors, axis=1)
        columns = {
            "embeddings": vectors / np.maximum(norms, 1e-12)[:, None],
            "norms": norms,
            "subject": np.unique(self.speaker, return_inverse=True)[1][rows],
            "media": self.medium[rows],
        }
        return make_table(columns if template is None else columns | {"template": template[rows]}, name)


def tables(encoder: Encoder, folder: pathlib.Path, first: int) -> dict[str, FeatureTable]:
    """The feature tables that the module docstring describes; `first` is 0, or 1 for the other half."""
    halves, utterances = read(folder)
    singles = sorted({one.speaker for one in halves})
    fit = Voices(encoder, [one for one in halves if one.speaker in singles[first::2]], seed=0)
    every = np.arange(len(fit.speaker))
    doubled = np.concatenate([np.zeros_like(every), np.ones_like(every)])
    found = {"train": fit.table(doubled, np.concatenate([every, every]), "voices_train")}

    others = [one for one in halves if one.speaker in singles[1 - first :: 2]]
    held = Voices(encoder, others + utterances, seed=1)
    media, begins = np.unique(held.medium, return_index=True)
    starts = {speaker: media[held.speaker[begins] == speaker].min() for speaker in set(held.speaker)}
    place = held.medium - np.array([starts[speaker] for speaker in held.speaker])  # of the speaker's media
    position = np.arange(len(place)) - begins[held.medium]  # in the medium
    few = np.flatnonzero(place < MOST)
    for name, share in (("clean", 0), ("mixed", POOR_OF_FIVE), ("poor", 5)):
        poor = (position[few] * POOR_OF_FIVE % 5 < share).astype(int)
        found[name] = held.table(poor, few, f"voices_{name}", held.medium)
    template = held.medium - place % PER_TEMPLATE
    every = np.arange(len(place))
    found["sets"] = held.table(place % PER_TEMPLATE, every, "voices_sets", template)
    return found


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audio", type=pathlib.Path)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/voices"))
    parser.add_argument("--other-half", action="store_true")
    arguments = parser.parse_args()
    for name, table in tables(Encoder(arguments.weights), arguments.audio, int(arguments.other_half)).items():
        write_features(arguments.out / f"{table.name}.npz", table)
        print(
            f"{name}: {len(table):,} windows of {len(np.unique(table.subject))} speakers, "
            f"norms {np.quantile(table.norms, 0.05):.2f} to {np.quantile(table.norms, 0.95):.2f}, "
            f"rank correlation with the cosine to the speaker's other media {norm_signal(table):+.2f}"
        )


if __name__ == "__main__":
    main()
