"""The gateways that ours is measured beside, each in an environment of its own below bench/.peers."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.install import PYTHON, UV

PEERS = Path(__file__).with_name(".peers")
LITELLM, PORTKEY, HONO = "1.106.2", "1.15.2", "1.13.8"
_KEY = "sk-bench"


class Missing(Exception):
    """A peer cannot run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A gateway to be started. `argv` listens at `port`; `headers` are what its clients send."""

    name: str
    argv: list[str]
    port: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    path: str = "/v1/messages"
    env: Mapping[str, str] = field(default_factory=dict[str, str])


async def litellm(folder: Path, port: int, upstream: str) -> Subject:
    environment = PEERS / f"litellm-{LITELLM}"
    binary = environment / "bin" / "litellm"
    if not binary.exists():
        await _run("uv", "venv", "-q", "-p", str(PYTHON), str(environment))
        await _run("uv", "pip", "install", "-q", "-p", str(environment / "bin/python"), f"litellm[proxy]=={LITELLM}")
    config = folder / "litellm.json"
    parameters = {"model": "anthropic/claude-sonnet-5-5", "api_base": upstream, "api_key": _KEY}
    models = [{"model_name": "claude-sonnet-5-5", "litellm_params": parameters}]
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": _KEY}}))
    argv = [str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "HOME": str(folder)}
    return Subject(f"LiteLLM {LITELLM}", argv, port, {"x-api-key": _KEY}, env=env)


async def portkey(folder: Path, port: int, upstream: str) -> Subject:
    """Streams only with an older server library than it asks for."""
    environment = PEERS / f"portkey-{PORTKEY}"
    start = environment / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not start.exists():
        environment.mkdir(parents=True, exist_ok=True)
        package = {"private": True, "dependencies": {"@portkey-ai/gateway": PORTKEY, "@hono/node-server": HONO}}
        (environment / "package.json").write_text(json.dumps(package | {"overrides": {"@hono/node-server": HONO}}))
        await _run("npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(environment))
    headers = {"x-portkey-provider": "anthropic", "x-portkey-custom-host": f"{upstream}/v1", "x-api-key": _KEY}
    argv = ["node", str(start), f"--port={port}", "--headless"]
    env = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    return Subject(f"Portkey {PORTKEY}", argv, port, headers, env=env)


async def nginx(folder: Path, port: int, upstream: str) -> Subject:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise Missing("nginx is not installed (Debian: apt-get install nginx-light)")
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000;
  upstream model {{ server {upstream.removeprefix("http://")}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
""")
    version = (await _run(binary, "-v")).rpartition("/")[2].split()[0]
    return Subject(f"nginx {version}", [binary, "-c", str(config), "-p", str(folder)], port)


async def _run(*argv: str) -> str:
    """What it printed. Raises Missing with the end of that when it fails."""
    first = str(UV) if argv[0] == "uv" else argv[0]
    process = await asyncio.create_subprocess_exec(
        first, *argv[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise Missing(f"{' '.join(argv[:3])} failed: {out.decode(errors='replace')[-200:].strip()}")
    return out.decode(errors="replace")
