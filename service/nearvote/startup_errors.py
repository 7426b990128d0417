"""Why the service does not start.

StartupError
├── StoreLocked
├── StoreTooNew
├── EncoderMismatch
├── WeightsMismatch
├── ModelNotFound
├── ExportFailed
├── ExportMismatch
└── InvalidSetting
"""

from nearvote.errors import NearvoteError


class StartupError(NearvoteError):
    """The service does not start."""

    reason = "STARTUP"


class StoreLocked(StartupError):
    """Another process has the data folder open."""

    reason = "STORE_LOCKED"


class StoreTooNew(StartupError):
    """A later version has laid the store out."""

    reason = "STORE_TOO_NEW"


class EncoderMismatch(StartupError):
    """The stored vectors are of another encoder."""

    reason = "ENCODER_MISMATCH"


class WeightsMismatch(StartupError):
    """A model's weights are not those that were asked for."""

    reason = "WEIGHTS_MISMATCH"


class ModelNotFound(StartupError):
    """There is no model of this name at hand."""

    reason = "MODEL_NOT_FOUND"


class ExportFailed(StartupError):
    """A model can't be exported, or can't be written in 8 bits."""

    reason = "EXPORT_FAILED"


class ExportMismatch(StartupError):
    """An exported model does not compute what the original does."""

    reason = "EXPORT_MISMATCH"


class InvalidSetting(StartupError):
    """A setting can't be right."""

    reason = "INVALID_SETTING"
