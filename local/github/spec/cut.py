"""Cuts GitHub's own OpenAPI description (npm @octokit/openapi, MIT) down to the operations the emulator answers.

npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
python -m local.github.spec.cut package/generated/api.github.com.json
"""

import sys
from pathlib import Path
from typing import Any

import orjson

TARGET = Path(__file__).with_name("github.json")
OPERATIONS = {
    "/app": ("get",),
    "/app/installations/{installation_id}": ("get",),
    "/app/installations/{installation_id}/access_tokens": ("post",),
    "/orgs/{org}": ("get",),
    "/orgs/{org}/repos": ("post",),
    "/repos/{template_owner}/{template_repo}/generate": ("post",),
    "/repos/{owner}/{repo}": ("get", "delete"),
    "/repos/{owner}/{repo}/branches": ("get",),
    "/repos/{owner}/{repo}/branches/{branch}": ("get",),
    "/repos/{owner}/{repo}/branches/{branch}/protection": ("get", "put", "delete"),
    "/repos/{owner}/{repo}/compare/{basehead}": ("get",),
    "/repos/{owner}/{repo}/git/ref/{ref}": ("get",),
    "/repos/{owner}/{repo}/git/refs": ("post",),
    "/repos/{owner}/{repo}/git/refs/{ref}": ("delete",),
    "/repos/{owner}/{repo}/pulls": ("get", "post"),
    "/repos/{owner}/{repo}/pulls/{pull_number}": ("get",),
    "/repos/{owner}/{repo}/pulls/{pull_number}/merge": ("put",),
}
_PROSE = {"description", "example", "examples", "x-github", "externalDocs", "tags", "summary"}


def cut(full: dict[str, Any]) -> dict[str, Any]:
    """The chosen operations and everything they refer to, without prose and examples."""
    paths = {path: {method: full["paths"][path][method] for method in methods} for path, methods in OPERATIONS.items()}
    kept: dict[str, Any] = {"openapi": full["openapi"], "info": full["info"], "paths": _bare(paths), "components": {}}
    _collect(kept["paths"], full["components"], kept["components"])
    return kept


def _collect(node: Any, source: dict[str, Any], kept: dict[str, Any]) -> None:
    if isinstance(node, list):
        for item in node:
            _collect(item, source, kept)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            kind, name = reference.removeprefix("#/components/").split("/", 1)
            if name not in kept.setdefault(kind, {}):
                kept[kind][name] = _bare(source[kind][name])
                _collect(kept[kind][name], source, kept)
        for item in node.values():
            _collect(item, source, kept)


def _bare(node: Any) -> Any:
    """Without prose. A property may be called `description`, so the keys of `properties` are names, not keywords."""
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _bare(schema) for name, schema in value.items()} if key == "properties" else _bare(value)
        for key, value in node.items()
        if key not in _PROSE
    }


if __name__ == "__main__":
    TARGET.write_bytes(orjson.dumps(cut(orjson.loads(Path(sys.argv[1]).read_bytes()))) + b"\n")
    print(f"{TARGET}: {TARGET.stat().st_size // 1024} KB")
