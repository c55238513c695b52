"""Which storage account: a connection string with its key, or one without, which the platform's identity opens."""

_KEYS = {"AccountKey", "SharedAccessSignature", "UseDevelopmentStorage"}


def identity_endpoint(connection_string: str, service: str) -> str | None:
    """Where `service` (`Table`, `Blob`) is when an identity opens it; None when the string says how itself.

    `AccountName=..[;EndpointSuffix=..]`, or each `<service>Endpoint=..`.
    """
    parts = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
    if _KEYS & parts.keys():
        return None
    if endpoint := parts.get(f"{service}Endpoint"):
        return endpoint
    if name := parts.get("AccountName"):
        return f"https://{name}.{service.lower()}.{parts.get('EndpointSuffix', 'core.windows.net')}"
    return None
