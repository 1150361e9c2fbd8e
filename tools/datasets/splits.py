"""Which part of the data a picture belongs to, decided by names alone: adding pictures moves none that was there."""

import hashlib

TRAIN, VALIDATION, HELDOUT_OBJECT, HELDOUT_COMPOSITION = "train", "validation", "heldout_object", "heldout_composition"
ALL = [TRAIN, VALIDATION, HELDOUT_OBJECT, HELDOUT_COMPOSITION]

VALIDATION_SHARE = 0.04
OBJECT_SHARE = 0.08
COMPOSITION_SHARE = 0.10


def fraction(purpose, name):
    """A number in [0, 1) that depends on nothing but its two arguments."""
    digest = hashlib.sha256(f"{purpose}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def normalised(name):
    return " ".join(name.casefold().split())


def of_name(name):
    """Split of a picture of one thing. Pictures of the same name, from whatever source, go together."""
    return VALIDATION if fraction("validation", normalised(name)) < VALIDATION_SHARE else TRAIN


def holds_out_object(noun):
    """Whether training meets the object only by itself, never with another object in the picture."""
    return fraction("object", normalised(noun)) < OBJECT_SHARE


def holds_out_colour(colour, noun):
    """Whether training never sees the object recoloured so."""
    return fraction("colour", f"{colour} {normalised(noun)}") < COMPOSITION_SHARE


def holds_out_count(count, noun):
    """Whether training never sees just so many of the object; one is always seen."""
    return count > 1 and fraction("count", f"{count} {normalised(noun)}") < COMPOSITION_SHARE


def of_scene(scene, caption):
    """Split of a composed scene, in the machine form of scenes.py.

    A colour that the picture has by nature ("natural") was seen with the object in its single picture, and is not held
    out. Scenes of the same caption go together.
    """
    things = scene["objects"]
    if sum(thing["count"] for thing in things) > 1 and any(holds_out_object(thing["name"]) for thing in things):
        return HELDOUT_OBJECT
    for thing in things:
        recoloured = thing["colour"] and not thing["natural"]
        if recoloured and holds_out_colour(thing["colour"], thing["name"]):
            return HELDOUT_COMPOSITION
        if holds_out_count(thing["count"], thing["name"]):
            return HELDOUT_COMPOSITION
    return of_name(caption)
