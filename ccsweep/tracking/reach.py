"""Does a tracking server or database answer at all?

MLflow retries an address that is not there for one to four minutes. One look beforehand turns that
into one line within seconds.
"""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import SplitResult, urlsplit

from ccsweep.errors import UserError
from ccsweep.tracking.mask import mask

SECONDS = 5.0
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_reachable(uri: str) -> None:
    """Return when the server behind ``uri`` answers; takes at most about 10 s.

    An HTTP server has to answer a request; a database has to accept a connection.

    Raises:
        UserError: nobody answers, or the URI has no host or a port that is no number.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    try:
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[scheme]
    except ValueError:
        host = None
    if not host:
        raise UserError(
            f"tracking.uri: {mask(uri)} names no host and port; expected for example "
            f"{scheme}://127.0.0.1:5000"
        )
    try:
        if scheme in ("http", "https"):
            _ask(parts)
        else:
            socket.create_connection((host, port), timeout=SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"tracking.uri: {mask(uri)} does not answer ({_reason(error)}); start that server, or "
            "leave tracking.uri out to use a local store"
        ) from error


def _ask(parts: SplitResult) -> None:
    """Send one request; any answer below 500 counts, for example a login page."""
    address = parts.netloc.rpartition("@")[2]
    url = f"{parts.scheme}://{address}{parts.path.rstrip('/')}/health"
    # Only asks whether someone is there, and sends no secret: MLflow checks the certificate.
    unchecked = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    try:
        # The opener goes through http_proxy and honours no_proxy, as MLflow's own requests do.
        urllib.request.build_opener(unchecked).open(url, timeout=SECONDS).close()
    except urllib.error.HTTPError as answer:
        answer.close()
        if answer.code >= 500:
            raise


def _reason(error: Exception) -> str:
    """Return the innermost cause in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {SECONDS:.0f} s"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
