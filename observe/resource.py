"""Who tells: the one OpenTelemetry resource of a node, which its metrics and its spans share.

Decides what a node is called. Does not decide what it tells or where that goes.
"""

from __future__ import annotations

import socket

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

__all__ = ["DEFAULT_SERVICE_NAME", "node_resource"]

DEFAULT_SERVICE_NAME = "cluster-app"

_SERVICE_NAME = "service.name"


def node_resource(
    node_id: str, session: str, *, host: str | None = None, namespace: str | None = None
) -> Resource:
    """The resource of a node, by this process's environment.

    ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` name the service, else it is ``cluster-app``. All other
    attributes of ``OTEL_RESOURCE_ATTRIBUTES`` are kept, but for those that tell one node from another: variables are
    often the same on all nodes, and then two nodes would write over each other's series.

    :param node_id: Ray's id of the node; also the ``service.instance.id``.
    :param session: the name of Ray's session: the same on all nodes of one cluster, another after its restart.
    :param host: the machine's name; by default what the machine says.
    :param namespace: what tells one of several clusters on one Ray from the others; None for the usual one. It is the
        ``service.namespace``, whatever the variables say: their series must not be one.
    """
    own = {
        "service.instance.id": node_id,
        "host.name": host or socket.gethostname(),
        "ray.node.id": node_id,
        "ray.cluster.session": session,
    }
    if namespace is not None:
        own["service.namespace"] = namespace
    if not OTELResourceDetector().detect().attributes.get(_SERVICE_NAME):
        own[_SERVICE_NAME] = DEFAULT_SERVICE_NAME
    return Resource.create(own)
