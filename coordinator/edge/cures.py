"""What an operator can do about each limit of JetStream that stands in the ledger's way. It asks no server.

The error codes are those of nats-server's `errors.json`; the texts in the comments are the server's own.
"""

from typing import Final

from nats.errors import MaxPayloadError
from nats.js.errors import APIError, NoStreamResponseError

ANOTHER_WROTE: Final = {10071, 10164}
"""Wrong last sequence: the stream is well, and its newest revision is another."""

BUSY: Final = {10008, 10009}
"""A cluster without a leader for a moment: it may do the same write a second later."""

NOT_A_CLUSTER: Final = 10074
"""Replicas > 1 not supported in non-clustered mode."""

NAME_IN_USE: Final = 10058
"""Stream name already in use with a different configuration: another coordinator was faster."""

LOOK_AT_NATS: Final = "look into the log of the NATS server"

_STORE_FAILED: Final = 10077
"""The stream's own limit of bytes, or an error of the disk."""

_ACCOUNT: Final = "raise max_file of the NATS account, or delete other streams of it (nats account info)"
_STORE: Final = (
    "make room on the NATS server's volume, or raise its max_file_store; then its log says whether to restart it"
)
_MAX_BYTES: Final = "set IDENTIFY_KV_MAX_BYTES to what the account allows (nats account info)"
_LESS: Final = "lower IDENTIFY_KV_MAX_BYTES, or raise max_file of the account and max_file_store of the server"
_ENABLE: Final = "enable JetStream on the NATS server and for this account"

_CURES: Final = {
    10002: _ACCOUNT,  # resource limits exceeded for account
    10005: "set IDENTIFY_KV_REPLICAS to no more than the NATS servers with JetStream that are up",  # no suitable peers
    10023: _STORE,  # insufficient resources
    10027: "raise max_streams of the NATS account, or delete a stream of it (nats stream ls)",  # maximum streams
    10028: _STORE,  # insufficient memory resources available
    10039: _ENABLE,  # JetStream not enabled for account
    10047: _LESS,  # insufficient storage resources available
    10054: "nats stream edit {stream} --max-msg-size=-1",  # message size exceeds maximum allowed
    10074: "set IDENTIFY_KV_REPLICAS=1",  # replicas > 1 not supported in non-clustered mode
    10076: _ENABLE,  # JetStream not enabled
    10109: "the stream is sealed: back it up, delete it, and let a coordinator make it",  # sealed stream
    10113: "set IDENTIFY_KV_MAX_BYTES: the account requires one",  # account requires max bytes
    10122: _MAX_BYTES,  # stream max bytes exceeds account limit max stream bytes
}


def is_refusal(error: Exception) -> bool:
    """Whether the server refuses to store this, and would refuse it again at once."""
    if isinstance(error, APIError):
        return error.err_code not in ANOTHER_WROTE | BUSY
    return isinstance(error, MaxPayloadError | NoStreamResponseError)


def words_of(error: Exception) -> str:
    """Return the server's own words, or what the client library makes of its silence."""
    if isinstance(error, APIError) and error.description:
        return f"{error.description} ({error.err_code})"
    if isinstance(error, MaxPayloadError):
        return "the ledger is larger than the NATS server's max_payload"
    if isinstance(error, NoStreamResponseError):
        return "no stream takes the ledger"
    return str(error) or type(error).__name__


def cure_of(error: Exception, stream: str) -> str:
    """Return what to do about it, with the variable or the command."""
    if isinstance(error, APIError):
        if error.err_code == _STORE_FAILED:  # what failed is in the text
            is_limit = "maximum bytes" in (error.description or "")
            return f"nats stream edit {stream} --max-bytes=-1, or a larger number" if is_limit else _STORE
        return _CURES.get(error.err_code or 0, LOOK_AT_NATS).format(stream=stream)
    if isinstance(error, MaxPayloadError):
        return "raise max_payload of the NATS server"
    if isinstance(error, NoStreamResponseError):
        return f"let stream {stream} take the subjects of its KV bucket (nats stream info {stream})"
    return f"{LOOK_AT_NATS}: a disk that was full wants room, and then a restart of that server"
