"""Writes a track index, `.rvx`: entries as they come, the whole renamed into place. See index.py for the format."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from revisage.pipeline.errors import OutputError
from revisage.pipeline.parts import Part, open_part, sync_folder
from revisage.pipeline.vault import archive, keys
from revisage.pipeline.vault.document import (
    INDEX_ENTRY,
    MANIFEST_ENTRY,
    OWNED_AS,
    SIGNATURE_ENTRY,
    SIGNED_AS,
    Binding,
    Entry,
    IndexDocument,
    Manifest,
    Placement,
    SegmentSheet,
    TrackSheet,
    clip_name,
    placement_name,
    track_name,
)
from revisage.pipeline.vault.keys import OwnerKey, Recipient, SealSecret


class IndexWriter:
    """Writes one index: segments as they come, then `finish`, then `commit`.

    with IndexWriter(path, secret, recipients) as index:
        index.add_segment(3, 0, clip, placement)
        index.finish(document, video_digest)
        index.commit()      # first the index ...
        rename_the_video()  # ... then the video: an anonymized video without its index would have lost the originals

    Until `commit` nothing stands under `path` but what stood there before; leaving the block by an error before it
    leaves no trace. Where `path` is taken, `commit` gives the new index the name `next_path(path)`, and the end of the
    block moves it over the old one: until the video is replaced, the old pair is whole, and from then on the new one.
    After `commit` nothing is deleted on an error, since the video may be in place already. A block that ends well
    commits by itself.
    """

    def __init__(
        self,
        path: Path,
        secret: SealSecret,
        recipients: Sequence[Recipient],
        overwrite: bool = False,
        owner: OwnerKey | None = None,
    ) -> None:
        """`owner` signs; without one the index says that nobody did.

        Raises OutputError where `path` exists (without `overwrite`) or its folder cannot be written.
        """
        if not recipients:
            raise ValueError("an index for nobody would lose the originals")
        self._path, self._secret, self._recipients, self._overwrite = path, secret, tuple(recipients), overwrite
        self._owner = owner
        self._binding = Binding(secrets.token_hex(16), keys.verify_key(secret).hex())
        self._entries: list[Entry] = []
        self._segments: dict[int, int] = {}  # track -> how many
        self._finished = False
        self._committed = False
        self._waiting: Path | None = None  # the name of a committed index until the block ends
        self._file, self._part = self._create()
        self._archive = archive.ArchiveWriter(self._file)

    @property
    def video_id(self) -> str:
        """32 hex digits, random, new for every index."""
        return self._binding.video_id

    @property
    def size(self) -> int:
        """Bytes of all entries so far."""
        return sum(entry.size for entry in self._entries)

    def add_segment(self, track_id: int, number: int, clip: bytes, placement: Placement) -> None:
        """Seal one clip to track `track_id`; its segments come as number 0, 1, 2 …

        Raises OutputError where it cannot be written.
        """
        if number != self._segments.get(track_id, 0):
            raise ValueError(f"segment {number} of track {track_id} comes out of turn")
        sheet = SegmentSheet(placement, hashlib.sha256(clip).hexdigest())
        to = [keys.track_identity(self._secret, track_id).recipient]
        self._add(clip_name(track_id, number), keys.encrypt(clip, to))
        self._add(placement_name(track_id, number), keys.encrypt(sheet.to_json(self._binding, track_id, number), to))
        self._segments[track_id] = number + 1

    def finish(self, document: IndexDocument, video_digest: str) -> None:
        """Write everything else and bring it to the disk, still under a temporary name.

        `document` lists every track that was sealed; its `segments` and signer are filled in here. `video_digest`: hex
        SHA-256 over the video packets of the anonymized file. Raises OutputError where it cannot be written.
        """
        document = self._completed(document)
        for record in document.tracks:
            sheet = TrackSheet(record, document.settings, document.signer).to_json(self._binding)
            to = [keys.track_identity(self._secret, record.id).recipient]
            self._add(track_name(record.id), keys.encrypt(sheet, to))
        self._add(INDEX_ENTRY, keys.encrypt(document.to_json(self.video_id), self._recipients))
        head = self.video_id, video_digest, self._binding.verify_key
        manifest = Manifest(*head, tuple(self._entries), owned=self._owner is not None).to_json()
        owners = self._owner.sign(OWNED_AS + manifest) if self._owner is not None else b""
        signature = keys.signing_key(self._secret).sign(SIGNED_AS + owners + manifest) + owners
        with self._writing():
            self._close(manifest, signature)
        self._finished = True

    def commit(self) -> None:
        """Give the finished index its name. Raises OutputError; then nothing has changed under that name."""
        if not self._finished:
            raise ValueError("finish the index before it is committed")
        if self._committed:
            return
        with self._writing():
            self._publish()
        self._committed = True

    def discard(self) -> None:
        """Remove what was written, unless it is committed."""
        self._file.close()
        if not self._committed:
            self._part.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self.commit()
                self._settle()
        finally:
            self.discard()

    def _create(self) -> tuple[BinaryIO, Part]:
        if not self._overwrite and os.path.lexists(self._path):
            raise self._exists()
        with self._writing():
            part = open_part(self._path)
            return open(part.handle, "wb"), part  # noqa: PTH123 - a descriptor; `discard` closes it

    def _completed(self, document: IndexDocument) -> IndexDocument:
        if document.secret != self._secret:
            raise ValueError("the document belongs to another seal secret")
        if missing := self._segments.keys() - {record.id for record in document.tracks}:
            raise ValueError(f"the document does not list the sealed tracks {sorted(missing)}")
        records = sorted(document.tracks, key=lambda record: record.id)
        tracks = tuple(replace(r, segments=self._segments.get(r.id, 0)) for r in records)
        return replace(document, tracks=tracks, signer=self._owner.signer if self._owner is not None else None)

    def _add(self, name: str, content: bytes) -> None:
        if self._finished or self._file.closed:
            raise ValueError("the index is finished: nothing can be added")
        with self._writing():
            self._archive.add(name, content)
        self._entries.append(Entry(name, len(content), hashlib.sha256(content).hexdigest()))

    def _close(self, manifest: bytes, signature: bytes) -> None:
        self._archive.add(MANIFEST_ENTRY, manifest)
        self._archive.add(SIGNATURE_ENTRY, signature)
        self._archive.close()
        self._file.flush()
        os.fsync(self._file.fileno())

    def _publish(self) -> None:
        if not (self._overwrite and os.path.lexists(self._path)):
            self._part.publish(replace=False)
            return
        waiting = next_path(self._path)
        replace(self._part, final=waiting).publish(replace=True)
        self._waiting = waiting

    def _settle(self) -> None:
        """The video is in place: the new index takes the place of the old one."""
        if self._waiting is not None:
            with self._writing():
                self._waiting.replace(self._path)
            sync_folder(self._path.parent)

    def _exists(self) -> OutputError:
        return OutputError(f"{self._path.name} exists already: choose another name or allow overwriting")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what the system says into an OutputError."""
        try:
            yield
        except FileExistsError:
            raise self._exists() from None
        except OSError as error:
            why = (error.strerror or "unknown reason").lower()
            raise OutputError(f"cannot write {self._path.name} ({why}): check the folder and its free space") from None


def next_path(index: Path) -> Path:
    """Where the index of a video that is just being replaced waits for its place."""
    return index.with_name(f"{index.name}.next")
