"""What an interrupted fit goes on from: files in the folder of `--keep` that stay until the fit has ended.

Each is written whole or not at all, and holds what its fit was asked for, so that no other fit goes on with it.
"""

import pickle
from enum import StrEnum
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

SUFFIX = ".unfinished"


class Keep:
    def __init__(self, folder: Path, asked: dict[str, object], stage: str = "") -> None:
        self.folder, self.asked, self.stage = folder, plain(asked), stage
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, stage: str) -> "Keep":
        """What belongs to one stage of the fit."""
        return Keep(self.folder, self.asked, stage)

    def file(self, name: str) -> Path:
        return self.folder / f"{self.stage}{'-' if self.stage else ''}{name}{SUFFIX}"

    def save(self, name: str, state: dict[str, Any]) -> None:
        file = self.file(name)
        written = file.with_name(f"{file.name}.writing")
        torch.save({"asked": self.asked, "state": state}, written)
        written.replace(file)

    def load(self, name: str) -> dict[str, Any] | None:
        file = self.file(name)
        if not file.exists():
            return None
        try:
            kept = torch.load(file, map_location="cpu", weights_only=True)
            asked, state = kept["asked"], kept["state"]
        except (RuntimeError, EOFError, KeyError, TypeError, BadZipFile, pickle.UnpicklingError):
            raise SystemExit(f"{file} is damaged: remove it to do its part of the fit again") from None
        if other := [
            f"{key} was {asked.get(key)}, now {self.asked.get(key)}"
            for key in sorted(asked.keys() | self.asked.keys())
            if asked.get(key) != self.asked.get(key)
        ]:
            raise SystemExit(
                f"{file} is of another fit: {'; '.join(other)}. Go on with the same arguments, "
                f"or remove {self.folder}/*{SUFFIX} to start anew"
            )
        return state

    def holds_something(self) -> bool:
        return any(self.folder.glob(f"*{SUFFIX}"))

    def clear(self) -> None:
        for file in self.folder.glob(f"*{SUFFIX}*"):
            file.unlink()


def plain(value: object) -> object:
    """With words in place of what torch.load refuses to make."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {plain(key): plain(of) for key, of in value.items()}
    return value


class KeepNothing(Keep):
    def __init__(self) -> None:
        pass

    def of(self, stage: str) -> Keep:
        return self

    def save(self, name: str, state: dict[str, Any]) -> None:
        pass

    def load(self, name: str) -> None:
        return None

    def holds_something(self) -> bool:
        return False

    def clear(self) -> None:
        pass


NOTHING = KeepNothing()
