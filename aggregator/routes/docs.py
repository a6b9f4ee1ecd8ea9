"""The API's description for people: one page, no scripts, nobody else's servers, made from the OpenAPI document."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

router = APIRouter(include_in_schema=False)
_STYLE = """body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
code{font-size:.95em}h2{margin-top:2rem;text-transform:capitalize}dt{margin-top:1rem;font-weight:600}
.method{display:inline-block;min-width:4.5rem}table{border-collapse:collapse;margin:.3rem 0}
td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Describe every route."""
    document = request.app.openapi()
    return Response(page(document), media_type="text/html", headers={"Content-Security-Policy": _POLICY})


def page(document: dict[str, Any]) -> str:
    """Give the page of an OpenAPI document, routes by tag."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            tag = (route.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append(_route(path, method, route))
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>",
        "<p>For programs: <a href='openapi.json'>openapi.json</a></p>",
        *(f"<h2>{escape(tag)}</h2><dl>{''.join(routes)}</dl>" for tag, routes in by_tag.items()),
    ]
    return "\n".join(parts)


def _route(path: str, method: str, route: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{escape(one.get('description') or one.get('schema', {}).get('description') or '')}</td></tr>"
        for one in route.get("parameters", [])
    )
    table = f"<table>{rows}</table>" if rows else ""
    return (
        f"<dt><code><span class=method>{method.upper()}</span> {escape(path)}</code></dt>"
        f"<dd>{escape(route.get('description') or route.get('summary') or '')}{table}</dd>"
    )
