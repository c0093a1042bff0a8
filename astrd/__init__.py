"""Asteroid taxonomy from visible reflectance spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrd.spectrum import Spectrum as Spectrum

__all__ = ["Spectrum"]


def __getattr__(name: str) -> Any:
    if name == "Spectrum":  # imported when it is asked for: `import astrd` itself brings nothing
        from astrd.spectrum import Spectrum

        return Spectrum
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
