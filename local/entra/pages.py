"""The pages a person sees: account picker, error, signed out. Every value is escaped here."""

from html import escape

from starlette.responses import HTMLResponse

from local.entra.config import User

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_STYLE = """
:root { color-scheme: light dark; --page: #eef1f6; --card: #fff; --text: #1b1f29; --quiet: #5c6577; --line: #e1e5ed;
  --hover: #f4f6fb; --accent: #2f5fd0; --shadow: 0 1px 2px rgb(20 30 60 / 8%), 0 12px 32px rgb(20 30 60 / 10%); }
@media (prefers-color-scheme: dark) { :root { --page: #11141b; --card: #1a1f29; --text: #e9ecf3; --quiet: #9aa4b8;
  --line: #2b3240; --hover: #222938; --accent: #8fb0ff; --shadow: 0 12px 32px rgb(0 0 0 / 45%); } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px; background: var(--page);
  color: var(--text); font: 15px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 440px; padding: 36px 36px 28px; background: var(--card); border-radius: 14px;
  box-shadow: var(--shadow); }
.badge { display: inline-flex; gap: 8px; align-items: center; color: var(--quiet); font-size: 13px; }
.badge svg { width: 16px; height: 16px; }
h1 { margin: 14px 0 4px; font-size: 24px; font-weight: 650; letter-spacing: -.01em; }
p { margin: 0 0 20px; color: var(--quiet); overflow-wrap: anywhere; }
ul { list-style: none; margin: 0 -12px; padding: 0; }
li + li { border-top: 1px solid var(--line); }
button { font: inherit; color: inherit; cursor: pointer; border: 0; background: none; }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.account { display: flex; gap: 14px; align-items: center; width: 100%; padding: 14px 12px; text-align: left;
  border-radius: 10px; }
.account:hover, .account.hinted { background: var(--hover); }
.avatar { flex: none; width: 42px; height: 42px; border-radius: 50%; display: grid; place-items: center; color: #fff;
  font-weight: 600; letter-spacing: .02em; }
.who { min-width: 0; flex: 1; }
.who strong, .who span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.who span { color: var(--quiet); font-size: 13.5px; }
.role { flex: none; font-size: 12px; color: var(--quiet); border: 1px solid var(--line); border-radius: 99px;
  padding: 2px 10px; }
footer { display: flex; justify-content: space-between; align-items: center; margin-top: 20px; color: var(--quiet);
  font-size: 12.5px; gap: 16px; }
.cancel { padding: 8px 16px; border: 1px solid var(--line); border-radius: 8px; }
.cancel:hover { background: var(--hover); }
code { font: 13px/1.5 ui-monospace, "Cascadia Mono", Menlo, monospace; }
"""

_LOGO = (
    '<svg viewBox="0 0 16 16" aria-hidden="true"><path fill="#2f5fd0" d="M8 1 2 8l6 3.6L14 8z"/>'
    '<path fill="#7aa2ff" d="m2 8 6 7 6-7-6 3.6z"/></svg>'
)
_COLOURS = ("#2f5fd0", "#0d7f6b", "#8a3fb5", "#b4541a", "#a8325a")


def pick_account(users: tuple[User, ...], client_id: str, hint: str) -> HTMLResponse:
    """One button for each account; the hinted one comes first and has the focus."""
    order = sorted(enumerate(users), key=lambda item: item[1].username != hint)
    tiles = "".join(_tile(user, _COLOURS[index % len(_COLOURS)], user.username == hint) for index, user in order)
    return _page(
        "Pick an account",
        f"<p>to continue to <strong>{escape(client_id)}</strong></p>"
        f'<form method="post"><ul>{tiles}</ul>'
        "<footer><span>Local emulator: no password, no real account.</span>"
        '<button class="cancel" name="account" value="">Cancel</button></footer></form>',
    )


def refused(description: str, status: int = 400) -> HTMLResponse:
    """An error that must not be sent to a redirect URI nobody vouches for."""
    return _page("Sign-in cannot go on", f"<p><code>{escape(description)}</code></p>", status)


def signed_out() -> HTMLResponse:
    return _page("You signed out", "<p>You can close this page.</p>")


def _tile(user: User, colour: str, hinted: bool) -> str:
    return (
        f'<li><button class="account{" hinted" if hinted else ""}" name="account" value="{escape(user.username)}"'
        f"{' autofocus' if hinted else ''}>"
        f'<span class="avatar" style="background:{colour}" aria-hidden="true">{escape(user.initials)}</span>'
        f'<span class="who"><strong>{escape(user.name)}</strong><span>{escape(user.username)}</span></span>'
        f'<span class="role">{escape(user.role)}</span></button></li>'
    )


def _page(heading: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{heading} — Entra ID emulator</title><style>{_STYLE}</style></head>"
        f'<body><main><div class="badge">{_LOGO} Entra ID emulator</div><h1>{heading}</h1>{body}</main></body></html>',
        status,
        headers=_HEADERS,
    )
