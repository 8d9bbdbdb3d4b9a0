"""Asking a slow black box no more than needed: answers are kept by what the image is, in memory and in a file.

What was answered once is not asked again, by whichever step or run of one store. A part of a batch that holds an image
without an answer is asked as a whole: then what comes out does not depend on how far an interrupted run had come.
"""

import hashlib
import logging
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from medlat.classifiers.black_box import BlackBox, Task

log = logging.getLogger(__name__)

DIGEST = 16  # bytes of an image's hash
EVERY_S = 30.0  # between two lines on how far asking has come


class Answers:
    """The answers of one program with one set of settings: hash of an image -> its predictions [K].

    path: of the file that they are kept in; None: in memory alone. Its records are a hash, K float32 and a checksum;
    one that a disk has changed, or that was not written to its end, is left out.

    asked, calls, seconds: images, batches and time that asking has taken; found: images whose answer was there.
    expected: images that will be asked for in all, where that is known.
    """

    def __init__(self, outputs: int, path: Path | None = None) -> None:
        self.record = np.dtype([("image", f"V{DIGEST}"), ("answer", "<f4", (outputs,)), ("checksum", "<u4")])
        self.path, self.known = path, dict[bytes, np.ndarray]()
        self.asked = self.calls = self.found = 0
        self.seconds, self.expected, self.said = 0.0, 0, time.monotonic()
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = len(content) // self.record.itemsize
        for row in np.frombuffer(content, self.record, whole):
            image, answer = row["image"].tobytes(), row["answer"].copy()
            if zlib.crc32(image + answer.tobytes()) == row["checksum"]:
                self.known[image] = answer

    def count(self, images: int, seconds: float) -> None:
        """One call more; says now and then how far it has come."""
        self.asked, self.calls, self.seconds = self.asked + images, self.calls + 1, self.seconds + seconds
        if time.monotonic() - self.said < EVERY_S:
            return
        self.said, left = time.monotonic(), max(0, self.expected - self.asked)
        more = f" of at most {self.expected:,}, {left * self.seconds / self.asked:.0f} s of asking left" if left else ""
        log.info("asking the classifier: %s images in %s calls%s", f"{self.asked:,}", f"{self.calls:,}", more)

    def add(self, fresh: Mapping[bytes, np.ndarray]) -> None:
        """Answers to images that had none; what cannot be written is kept in memory."""
        self.known |= fresh
        if self.path is None or not fresh:
            return
        rows = np.zeros(len(fresh), self.record)
        for row, (image, answer) in zip(rows, fresh.items(), strict=True):
            row["image"], row["answer"] = np.void(image), answer
            row["checksum"] = zlib.crc32(image + answer.astype("<f4").tobytes())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"), open(self.path, "ab") as file:
                file.truncate(file.tell() // self.record.itemsize * self.record.itemsize)  # of one that was killed
                file.write(rows.tobytes())
        except OSError as error:
            log.warning("answers of the classifier are not kept in %s (%s)", self.path, error.strerror)
            self.path = None


class Asked:
    """A `BlackBox` around another that is asked once for each image. Where gradients are wanted it is asked itself.

    batch: images that it is asked for together.
    """

    def __init__(self, black_box: BlackBox, answers: Answers, batch: int) -> None:
        self.black_box, self.answers, self.batch = black_box, answers, batch
        self.task: Task = black_box.task
        self.classes, self.outputs = black_box.classes, black_box.outputs
        self.differentiable = black_box.differentiable

    def __call__(self, images: Tensor) -> Tensor:
        if self.differentiable and torch.is_grad_enabled() and images.requires_grad:
            return self.black_box(images)
        return torch.cat([self._answers(part) for part in images.detach().split(self.batch)]).to(images.device)

    def _answers(self, images: Tensor) -> Tensor:
        answers, known, rows = self.answers, self.answers.known, images.cpu().contiguous().numpy()
        keys = [hashlib.blake2b(row.tobytes(), digest_size=DIGEST).digest() for row in rows]
        if all(key in known for key in keys):
            answers.found += len(keys)
        else:
            start = time.monotonic()
            found = self.black_box(images).detach().float().cpu().numpy()
            answers.count(len(keys), time.monotonic() - start)
            pairs = zip(keys, found, strict=True)
            answers.add({key: answer.copy() for key, answer in pairs if key not in known})
        return torch.from_numpy(np.stack([known[key] for key in keys]))
