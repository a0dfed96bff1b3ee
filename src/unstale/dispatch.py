"""Looking at torch's operations as they are called."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Recorder"]


class Recorder(TorchDispatchMode):
    """A dispatch mode that does not bring torch's compiler along."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No compiler is at work while this records, and loading it to say so would take seconds."""
        return False
