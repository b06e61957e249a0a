"""Certificates of an authority that nobody else knows, for a receiver that is reached by TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
import trustme

__all__ = ["Authority"]


class Authority:
    """One authority, and what it has signed, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._client = self._authority.issue_cert("agent@example.org")
        self._certificate, self._key, self._chain = (
            folder / name for name in ("authority.pem", "client.key", "client.pem")
        )
        self._authority.cert_pem.write_to_path(self._certificate)
        self._client.private_key_pem.write_to_path(self._key)
        self._client.cert_chain_pems[0].write_to_path(self._chain)

    def server(self, *, asks_clients: bool = False) -> ssl.SSLContext:
        """Of a server at 127.0.0.1.

        :param asks_clients: it takes only clients that this authority has signed.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1").configure_cert(context)
        if asks_clients:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def grpc_server(self, *, asks_clients: bool = False) -> grpc.ServerCredentials:
        """The same for a server that speaks gRPC."""
        shown = self._authority.issue_cert("127.0.0.1")
        chain = b"".join(pem.bytes() for pem in shown.cert_chain_pems)
        return grpc.ssl_server_credentials(
            [(shown.private_key_pem.bytes(), chain)],
            root_certificates=self._authority.cert_pem.bytes(),
            require_client_auth=asks_clients,
        )

    @property
    def trusted(self) -> dict[str, str]:
        """The standard variable by which a server of this authority is believed."""
        return {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(self._certificate)}

    @property
    def signed(self) -> dict[str, str]:
        """The standard variables by which a client has a certificate of its own."""
        return {
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(self._key),
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(self._chain),
        }
