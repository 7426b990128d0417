"""Every error that nearvote raises on purpose.

NearvoteError
├── InvalidInput                a request that can't be right, whatever the state of the service
│   ├── TextTooLong
│   ├── TooManyTexts
│   ├── KOutOfRange
│   ├── InvalidPageToken
│   ├── InvalidExample
│   ├── UnknownLabel
│   ├── InvalidTask
│   └── InvalidField
├── NotFound
│   ├── TaskNotFound
│   ├── ExampleNotFound
│   ├── FitNotFound
│   ├── JobNotFound
│   ├── ShadowNotFound
│   ├── ExplanationNotFound
│   └── FeedbackNotFound
├── TaskExists
├── FeedbackKeyReused
├── FeedbackRateReached
├── StateConflict               right in itself, but not in this state
│   ├── TaskNotEmpty
│   ├── LabelInUse
│   ├── LimitReached
│   ├── FitRunning
│   ├── CannotFit
│   ├── FeedbackNotPending
│   ├── TaskChanged
│   ├── CannotBackUp
│   ├── StoreNotEmpty
│   └── CannotReindex
├── Overloaded
├── Draining
├── SpaceSwitching
├── Interrupted
├── AccessDenied                who calls is not known, or may not do this
│   ├── CredentialsMissing
│   ├── CredentialsUnknown
│   ├── PermissionDenied
│   └── TooManyAttempts
├── InvalidBackup
├── StoreUnavailable
│   ├── StoreRefused
│   ├── StoreTooSlow
│   ├── StoreFull
│   └── StoreReadOnly
└── StartupError                the service does not start; `startup_errors.py` has these

The message of each says what is wrong and what to do, and repeats no text. `rpc/status.py` alone knows the gRPC codes.
"""

from typing import ClassVar


class NearvoteError(Exception):
    """Base of all errors here.

    Attributes:
        reason: Stable name for programs, in UPPER_SNAKE_CASE.
        field: The request's field at fault, as a path such as `texts[3]`; empty when it is none in particular.
        retry_seconds: When it may be tried again; None where that depends on more than time.
    """

    reason: ClassVar[str] = "INTERNAL"
    retry_seconds: float | None = None

    def __init__(self, message: str, *, field: str = "", retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = self.retry_seconds if retry_seconds is None else retry_seconds
        self.message = message
        self.field = field

    def at(self, prefix: str) -> "NearvoteError":
        """The same error, its field seen from further out: `label` at `examples[2]` is `examples[2].label`."""
        self.field = f"{prefix}.{self.field}" if self.field else prefix
        return self


class InvalidInput(NearvoteError):
    """A request that can't be right, whatever the state of the service."""

    reason = "INVALID_INPUT"


class TextTooLong(InvalidInput):
    """A text is longer than the service takes."""

    reason = "TEXT_TOO_LONG"


class TooManyTexts(InvalidInput):
    """A batch is empty or larger than the service takes."""

    reason = "TOO_MANY_TEXTS"


class KOutOfRange(InvalidInput):
    """A number of neighbours is out of range."""

    reason = "K_OUT_OF_RANGE"


class InvalidPageToken(InvalidInput):
    """A page token is not one of the service's, or belongs to another query."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidExample(InvalidInput):
    """An example has no text, no label, too many labels, or a weight out of range."""

    reason = "INVALID_EXAMPLE"


class UnknownLabel(InvalidInput):
    """A label is not one of its task's."""

    reason = "UNKNOWN_LABEL"


class InvalidTask(InvalidInput):
    """A task's name, labels or policy can't be right."""

    reason = "INVALID_TASK"


class InvalidField(InvalidInput):
    """Any other field of a request can't be right."""

    reason = "INVALID_FIELD"


class NotFound(NearvoteError):
    """What was named does not exist."""

    reason = "NOT_FOUND"


class TaskNotFound(NotFound):
    """There is no task of this name."""

    reason = "TASK_NOT_FOUND"


class ExampleNotFound(NotFound):
    """There is no example of this id in the task."""

    reason = "EXAMPLE_NOT_FOUND"


class FitNotFound(NotFound):
    """There is no such fit of the task."""

    reason = "FIT_NOT_FOUND"


class ShadowNotFound(NotFound):
    """Nothing is tried for the task."""

    reason = "SHADOW_NOT_FOUND"


class JobNotFound(NotFound):
    """There is no job of this id."""

    reason = "JOB_NOT_FOUND"


class ExplanationNotFound(NotFound):
    """Nothing is known of an answer, or nothing any more."""

    reason = "EXPLANATION_NOT_FOUND"


class FeedbackNotFound(NotFound):
    """There is no feedback of this id in the task."""

    reason = "FEEDBACK_NOT_FOUND"


class TaskExists(NearvoteError):
    """There is a task of this name already."""

    reason = "TASK_EXISTS"


class FeedbackKeyReused(NearvoteError):
    """There is feedback of other content under this key."""

    reason = "FEEDBACK_KEY_REUSED"


class FeedbackRateReached(NearvoteError):
    """A source has submitted as much in this hour as it may."""

    reason = "FEEDBACK_RATE_REACHED"


class StateConflict(NearvoteError):
    """Right in itself, but not in the state that the service is in."""

    reason = "STATE_CONFLICT"


class TaskNotEmpty(StateConflict):
    """A task that has examples was to be deleted without `force`."""

    reason = "TASK_NOT_EMPTY"


class LabelInUse(StateConflict):
    """A label that has examples was to be taken away."""

    reason = "LABEL_IN_USE"


class LimitReached(StateConflict):
    """There are as many of these as the service takes."""

    reason = "LIMIT_REACHED"


class FitRunning(StateConflict):
    """The task is being fitted already."""

    reason = "FIT_RUNNING"


class CannotFit(StateConflict):
    """There is too little to learn from in the task's examples."""

    reason = "CANNOT_FIT"


class FeedbackNotPending(StateConflict):
    """Feedback that was rejected or revoked is not promoted."""

    reason = "FEEDBACK_NOT_PENDING"


class TaskChanged(StateConflict):
    """Somebody else changed the task in between."""

    reason = "TASK_CHANGED"


class Overloaded(NearvoteError):
    """There is more to do than the service can get done."""

    reason = "OVERLOADED"
    retry_seconds = 1.0


class Draining(NearvoteError):
    """The service is about to stop, and takes nothing new."""

    reason = "DRAINING"


class SpaceSwitching(NearvoteError):
    """Another encoder's vectors come to be served, or have just come to be."""

    reason = "SPACE_SWITCHING"
    retry_seconds = 1.0


class Interrupted(NearvoteError):
    """What takes long was interrupted, since the service stops or nobody waits for it any more."""

    reason = "INTERRUPTED"


class AccessDenied(NearvoteError):
    """Who calls is not known, or may not do this."""

    reason = "ACCESS_DENIED"


class CredentialsMissing(AccessDenied):
    """The caller shows neither a key nor a certificate."""

    reason = "CREDENTIALS_MISSING"


class CredentialsUnknown(AccessDenied):
    """The caller's key or certificate is nobody's."""

    reason = "CREDENTIALS_UNKNOWN"


class PermissionDenied(AccessDenied):
    """The caller's role does not do for this."""

    reason = "PERMISSION_DENIED"


class TooManyAttempts(AccessDenied):
    """From the caller's address came too many keys or certificates that are nobody's."""

    reason = "TOO_MANY_ATTEMPTS"
    retry_seconds = 1.0


class CannotBackUp(StateConflict):
    """The store is not in a state to be backed up."""

    reason = "CANNOT_BACK_UP"


class StoreNotEmpty(StateConflict):
    """A backup was to be restored into a store that has something."""

    reason = "STORE_NOT_EMPTY"


class CannotReindex(StateConflict):
    """There is nothing to embed, switch or go back to; or it is not ready, or being done already."""

    reason = "CANNOT_REINDEX"


class InvalidBackup(NearvoteError):
    """A file is damaged, cut short, or no backup."""

    reason = "INVALID_BACKUP"


class StoreUnavailable(NearvoteError):
    """The store did not answer."""

    reason = "STORE_UNAVAILABLE"


class StoreRefused(StoreUnavailable):
    """The store answered that it will not do it, and would not tomorrow: a wrong key, or no store at all."""

    reason = "STORE_REFUSED"


class StoreTooSlow(StoreUnavailable):
    """The store did not answer in the time that the caller left it, less than it may take. It need not be ill."""

    reason = "DEADLINE_TOO_SHORT"


class StoreFull(StoreUnavailable):
    """There is too little room on the disk to write safely. Reading goes on."""

    reason = "STORE_FULL"


class StoreReadOnly(StoreUnavailable):
    """The data folder can't be written to. Reading goes on."""

    reason = "STORE_READ_ONLY"
