"""Classes and levels are words to everybody outside: in answers, in filters and in the API's description.

Inside and on the wire they are numbers, and msgspec would write them so.
"""

from typing import Any, Final, Literal

import msgspec

from schemas.verbosity import Level, RowClass

LevelWord = Literal["essential", "standard", "detailed", "debug"]
"""`schemas.verbosity.Level` as filters take it."""
ClassWord = Literal["telemetry", "log", "event", "capability"]
"""`schemas.verbosity.RowClass` as filters take it."""

_REF: Final = "#/$defs/"
_WORDS: Final = {
    kind.__name__: {"type": "string", "enum": [one.word for one in kind], "description": (kind.__doc__ or "").strip()}
    for kind in (Level, RowClass)
}


def worded(value: Any) -> Any:
    """Give an answer as plain values, with words where it holds classes and levels."""
    if isinstance(value, (Level, RowClass)):
        return value.word
    if isinstance(value, msgspec.Struct):
        kept = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
        omits = value.__struct_config__.omit_defaults
        return {field.encode_name: worded(own) for field, own in kept if not (omits and own == field.default)}
    if isinstance(value, dict):
        return {key: worded(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [worded(own) for own in value]
    return value


def gives(kind: Any) -> dict[str, Any]:
    """Describe a route that answers with `worded(kind)`: what FastAPI takes as `openapi_extra`."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF + "{name}")
    content = {"application/json": {"schema": _inlined(schema, {**components, **_WORDS})}}
    return {"responses": {"200": {"description": "As asked.", "content": content}}}


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    """Put what is referred to in its place: none of the answers' types holds itself."""
    if isinstance(schema, list):
        return [_inlined(one, components) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(components[schema["$ref"].removeprefix(_REF)], components)
    kept = {key: one for key, one in schema.items() if key != "discriminator"}  # it names what is referred to
    return {key: _inlined(one, components) for key, one in kept.items()}
