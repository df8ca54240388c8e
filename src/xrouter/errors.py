"""The error tree. Each error is named by the boundary it crossed.

XRouterError
├── ConfigurationError        settings, catalog or command line: nothing was started
│   └── UnknownPriceError     a model without a price; unknown is never zero
├── RequestError              the caller's request (HTTP 400)
│   ├── ModelNotFoundError    no such model in the pool (404)
│   ├── BodyTooLargeError     request body over the limit (413)
│   ├── AccountNotFoundError   no such key, user, team or tag (404)
│   ├── AccountExistsError     there is one of that name already (409)
│   ├── GuardrailRefusal      a guardrail would not let the request or its answer pass (400)
│   ├── UnknownUrlError       no such path at the gateway (404)
│   └── MethodNotAllowedError the path is there, the method is not (405)
├── ProviderError             an upstream model endpoint (502)
│   ├── ProviderTimeoutError      no answer in time (504)
│   ├── ProviderRateLimitError    429 upstream; may carry retry_after_s (429)
│   │   └── ModelCoolingError     not called: its 429 was just now; carries retry_after_s (429)
│   ├── ProviderAuthError         the key was refused (502)
│   ├── ProviderRequestError      the upstream refused this request as invalid (400)
│   ├── ProviderUnavailableError  refused connection, 5xx (502)
│   │   └── CircuitOpenError      not called: it failed too often just now; never retried (502)
│   └── ProviderResponseError     an answer that cannot be read (502)
├── EpisodeError              an episode that ended without any answer
│   ├── BudgetExceededError   the cost cap leaves no call affordable (402)
│   ├── DeadlineExceededError the time limit passed before any answer (504)
│   └── NoAnswerError         every call failed (502)
├── InvalidActionError        a policy's output that is no action; its text is for the policy to read
├── CheckpointError           a policy file that cannot be loaded
├── RunStoppedError           a whole run (of training, say) cannot go on, whichever call came upon it
│   ├── RunBudgetError        its money is used up
│   └── RunBooksError         its file of answers and money cannot be read or written
├── DataError                 recorded outcomes or task files that do not fit their schema
├── LedgerError               the ledger could not be read or written (500)
│   └── BooksClosedError      it could not be written a moment ago, so nobody is asked anything (503)
├── GuardrailError            a guardrail failed or took too long, and such requests are to be refused (500)
├── StateError                the shared state could not be reached (503)
├── AccountsError             the store of keys and budgets could not be read or written (503)
├── AccessError               who asks may not (401)
│   ├── KeyRefusedError       no key, or one that is unknown, expired or revoked (401)
│   ├── NotAllowedError       a key that is not good for this model or path (403)
│   ├── QuotaExceededError    a budget has no room for the request (429)
│   └── RateLimitedError      too many requests or tokens (429); carries retry_after_s
└── ServerStoppingError       the gateway is shutting down (503)
"""

from __future__ import annotations

from typing import Any, ClassVar


class XRouterError(Exception):
    """Base of every error raised on purpose.

    `status` and `type` are what the gateway answers with; `param` names the offending field.
    """

    status: int = 500
    type: str = "internal_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ConfigurationError(XRouterError):
    code = "configuration_error"


class UnknownPriceError(ConfigurationError):
    code = "unknown_price"


class RequestError(XRouterError):
    status = 400
    type = "invalid_request_error"


class ModelNotFoundError(RequestError):
    status = 404
    code = "model_not_found"


class BodyTooLargeError(RequestError):
    status = 413
    code = "body_too_large"


class AccountNotFoundError(RequestError):
    status = 404
    code = "account_not_found"


class AccountExistsError(RequestError):
    status = 409
    code = "account_exists"


class GuardrailRefusal(RequestError):  # noqa: N818 - a verdict that a user's own hook hands down, not a fault
    """Raised by a user's own hook; its message goes to the client."""

    code = "guardrail_refused"


class UnknownUrlError(RequestError):
    status = 404
    code = "unknown_url"


class MethodNotAllowedError(RequestError):
    """`allow`: the method that the path takes."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class ProviderError(XRouterError):
    """`model` is the pool's name of the model that failed; `retryable` is advice to the retry wrapper.

    `usage` is what the upstream reported for the failed call (a `messages.Usage`), None if nothing;
    `endpoint` which of the model's endpoints failed, None where it has only one.
    """

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        retry_after_s: float | None = None,
        usage: object | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.endpoint: str | None = None


class ProviderTimeoutError(ProviderError):
    status = 504
    code = "upstream_timeout"
    retryable = True


class ProviderRateLimitError(ProviderError):
    status = 429
    code = "upstream_rate_limit"
    retryable = True


class ModelCoolingError(ProviderRateLimitError):
    code = "model_cooling"
    retryable = False


class ProviderAuthError(ProviderError):
    code = "upstream_auth"


class ProviderRequestError(ProviderError):
    status = 400
    type = "invalid_request_error"
    code = "upstream_invalid_request"


class ProviderUnavailableError(ProviderError):
    code = "upstream_unavailable"
    retryable = True


class CircuitOpenError(ProviderUnavailableError):
    code = "circuit_open"
    retryable = False


class ProviderResponseError(ProviderError):
    code = "upstream_bad_response"


class EpisodeError(XRouterError):
    """`episode` is what was spent in vain (an `episodes.episode.Episode` that stopped as "failed"), to be booked.

    fault: what every call failed of, where that was one and the same; the client gets its status.
    """

    type = "episode_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        episode: Any = None,
        fault: ProviderError | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.episode = episode
        self.fault = fault
        if fault is not None:
            self.status, self.type, self.code = fault.status, fault.type, fault.code


class BudgetExceededError(EpisodeError):
    status = 402
    code = "budget_exceeded"


class DeadlineExceededError(EpisodeError):
    status = 504
    code = "deadline_exceeded"


class NoAnswerError(EpisodeError):
    status = 502
    code = "no_answer"


class InvalidActionError(XRouterError):
    """`decision` carries what the unreadable output cost (an `episodes.episode.Decision`), None if nothing.

    kind: what was wrong in one word, for counts: "unknown_tool", "bad_arguments", ...
    """

    code = "invalid_action"

    def __init__(
        self, message: str, *, param: str | None = None, decision: Any = None, kind: str = "invalid"
    ) -> None:
        super().__init__(message, param=param)
        self.decision = decision
        self.kind = kind


class CheckpointError(XRouterError):
    code = "bad_checkpoint"


class RunStoppedError(XRouterError):
    """Never an observation: it passes through episodes and ends what plays them."""

    code = "run_stopped"


class RunBudgetError(RunStoppedError):
    code = "run_budget_exhausted"


class RunBooksError(RunStoppedError):
    code = "run_books_error"


class DataError(XRouterError):
    code = "bad_data"


class LedgerError(XRouterError):
    code = "ledger_error"


class BooksClosedError(LedgerError):
    status = 503
    code = "ledger_unavailable"


class GuardrailError(XRouterError):
    code = "guardrail_failed"


class StateError(XRouterError):
    status = 503
    code = "state_unavailable"


class AccountsError(XRouterError):
    status = 503
    code = "accounts_unavailable"


class AccessError(XRouterError):
    status = 401
    type = "authentication_error"


class KeyRefusedError(AccessError):
    code = "invalid_api_key"


class NotAllowedError(AccessError):
    status = 403
    type = "permission_error"
    code = "not_allowed"


class QuotaExceededError(AccessError):
    """`kind`: whose budget it is, such as "key" or "team"."""

    status = 429
    type = "insufficient_quota"
    code = "budget_exhausted"

    def __init__(self, message: str, *, kind: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.kind = kind


class RateLimitedError(AccessError):
    """`retry_after_s`: seconds until there is room again; `kind`: of what there is too much, such as "requests"."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"

    def __init__(
        self, message: str, *, retry_after_s: float, kind: str = "requests", param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s
        self.kind = kind


class ServerStoppingError(XRouterError):
    status = 503
    type = "server_error"
    code = "server_stopping"
