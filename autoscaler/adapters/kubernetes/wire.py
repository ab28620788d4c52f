"""The fields that are read off the wire. What is not named here is skipped by the decoder, and costs nothing to keep."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec


class Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What every object has."""

    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}


class Object(msgspec.Struct, frozen=True, gc=False):
    """Any object. Subclasses add the fields that they need, and may widen ``metadata``."""

    metadata: Metadata


T = TypeVar("T", bound=Object)


class ListMetadata(msgspec.Struct, gc=False):
    """A list's own version, and the token of its next page."""

    resource_version: str = msgspec.field(name="resourceVersion")
    next_page: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, Generic[T], gc=False):
    """A page of a list; some servers write null for no items."""

    metadata: ListMetadata
    items: list[T] | None = None


class Event(msgspec.Struct, gc=False):
    """A line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, each with an object of its own type."""

    type: str
    object: msgspec.Raw


class Version(msgspec.Struct, gc=False):
    """A bookmark's metadata."""

    resource_version: str = msgspec.field(name="resourceVersion")


class Bookmark(msgspec.Struct, gc=False):
    """The object of a BOOKMARK: nothing but a version."""

    metadata: Version
