"""What the fixture server offers, as plain JSON: the names and contents that the conformance suite looks for.

Owns data only. Deliberately no behaviour; that is ``fixture_server``'s. Invariant: every value here is JSON.
"""

from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
"""One pixel."""
WAV: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
"""One sample."""

NOTHING: Final[Json] = {"type": "object", "properties": {}}
"""The schema of a tool without arguments."""

NAME: Final[Json] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
COLOR: Final[Json] = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
CONFIRM: Final[Json] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
CONTEXT: Final[Json] = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
RESPONSE: Final[Json] = {
    "type": "object",
    "properties": {"response": {"type": "string", "description": "The user's response"}},
    "required": ["response"],
}

DEFAULTS: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": True},
    },
}

ENUMS: Final[Json] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": "value1", "title": "First Option"},
                {"const": "value2", "title": "Second Option"},
                {"const": "value3", "title": "Third Option"},
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                    {"const": "value3", "title": "Third Choice"},
                ]
            },
        },
    },
}

SCHEMA_2020_12: Final[Json] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""Every keyword here must arrive at the client as it is."""

HEADER_ARGUMENTS: Final[Json] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "description": "Mirrored into a header", "x-mcp-header": "Region"},
    },
}


def text(value: str) -> Json:
    return {"type": "text", "text": value}


def image() -> Json:
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri: str, mime_type: str, value: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": value}}


FIXED_TOOLS: Final[dict[str, tuple[str, list[Json]]]] = {
    "test_simple_text": ("Answers with a text.", [text("This is a simple text response for testing.")]),
    "test_image_content": ("Answers with an image.", [image()]),
    "test_audio_content": ("Answers with audio.", [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]),
    "test_embedded_resource": (
        "Answers with an embedded resource.",
        [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")],
    ),
    "test_multiple_content_types": (
        "Answers with a text, an image and a resource.",
        [
            text("Multiple content types test:"),
            image(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ],
    ),
}
"""Tools that always answer the same: description and content."""

RESOURCES: Final[list[Json]] = [
    {
        "uri": "test://static-text",
        "name": "static-text",
        "description": "A text that never changes.",
        "mimeType": "text/plain",
    },
    {
        "uri": "test://static-binary",
        "name": "static-binary",
        "description": "An image that never changes.",
        "mimeType": "image/png",
    },
    {
        "uri": "test://watched-resource",
        "name": "watched-resource",
        "description": "A text that clients subscribe to.",
        "mimeType": "text/plain",
    },
]

TEMPLATES: Final[list[Json]] = [
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "Data for any id.",
        "mimeType": "application/json",
    }
]

PROMPTS: Final[list[Json]] = [
    {"name": "test_simple_prompt", "description": "A prompt without arguments."},
    {
        "name": "test_prompt_with_arguments",
        "description": "A prompt with two arguments.",
        "arguments": [
            {"name": "arg1", "description": "First test argument", "required": True},
            {"name": "arg2", "description": "Second test argument", "required": True},
        ],
    },
    {
        "name": "test_prompt_with_embedded_resource",
        "description": "A prompt that embeds a resource.",
        "arguments": [{"name": "resourceUri", "description": "URI of the resource to embed", "required": True}],
    },
    {"name": "test_prompt_with_image", "description": "A prompt with an image."},
    {"name": "test_input_required_result_prompt", "description": "A prompt that asks for its context first."},
]

COMPLETIONS: Final = ("paris", "park", "party", "peru")
"""What the arguments of prompts and templates complete to."""
