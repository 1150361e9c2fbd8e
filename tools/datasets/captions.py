"""The words of composed scenes, in English and Chinese. What they say is exactly what the scene holds."""

import colours

NUMBERS = {"en": ["no", "one", "two", "three", "four"], "zh": ["零", "一", "两", "三", "四"]}
RELATIONS = {
    "left_of": {"en": ["left of", "to the left of"], "zh": "左边", "converse": "right_of"},
    "right_of": {"en": ["right of", "to the right of"], "zh": "右边", "converse": "left_of"},
    "above": {"en": ["above", "over"], "zh": "上方", "converse": "below"},
    "below": {"en": ["below", "under"], "zh": "下方", "converse": "above"},
}
# Initial vowels that are spoken as consonants.
CONSONANT_SOUND = ("uni", "use", "eu", "one", "ukulele")


def article(phrase):
    """"a" or "an", by the sound that the phrase begins with."""
    phrase = phrase.lower()
    return "an" if phrase[0] in "aeiou" and not phrase.startswith(CONSONANT_SOUND) else "a"


def plural(noun):
    """The regular plural of an English noun; irregular ones stand in objects.tsv."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def label(thing, noun):
    """"red apple", "giraffe": one of a scene's things, with its table row, `noun` (see scenes.Noun)."""
    return f"{thing['colour']} {noun.singular}" if thing["colour"] else noun.singular


def english(thing, noun):
    """"a red apple", "three giraffes": a thing of a scene."""
    one = label(thing, noun)
    if thing["count"] == 1:
        return f"{article(one)} {one}"
    return f"{NUMBERS['en'][thing['count']]} {one.removesuffix(noun.singular)}{noun.plural}"


def chinese(thing, noun):
    """一个红色的苹果, 三只长颈鹿."""
    colour = f"{colours.CHINESE[thing['colour']]}的" if thing["colour"] else ""
    return f"{NUMBERS['zh'][thing['count']]}{noun.measure}{colour}{noun.zh}"


def _listed(phrases, comma, last):
    return phrases[0] if len(phrases) == 1 else comma.join(phrases[:-1]) + last + phrases[-1]


def of_scene(scene, nouns):
    """Captions of a scene in machine form: {"en": [...], "zh": [...]}, the plainest first; `nouns` by singular."""
    things = scene["objects"]
    en = [english(thing, nouns[thing["name"]]) for thing in things]
    zh = [chinese(thing, nouns[thing["name"]]) for thing in things]
    if scene["relations"]:
        relation = scene["relations"][0]
        a, b, how = relation["subject"], relation["object"], RELATIONS[relation["relation"]]
        back = RELATIONS[how["converse"]]
        core = {"en": [f"{en[a]} {how['en'][0]} {en[b]}", f"{en[a]} {how['en'][1]} {en[b]}",
                       f"{en[b]} {back['en'][0]} {en[a]}"],
                "zh": [f"{zh[a]}在{zh[b]}的{how['zh']}", f"{zh[b]}在{zh[a]}的{back['zh']}"]}
    else:
        core = {"en": [_listed(en, ", ", " and ")], "zh": [_listed(zh, "、", "和")]}
        if len(en) > 1:
            core["en"].append(_listed(en[::-1], ", ", " and "))
            core["zh"].append(_listed(zh[::-1], "、", "和"))
    background = scene["background"]
    en_end = f" on {article(background)} {background} background"
    zh_end = f"，{colours.CHINESE[background]}背景"
    if background == "white":
        return {"en": core["en"] + [core["en"][0] + en_end], "zh": core["zh"] + [core["zh"][0] + zh_end]}
    return {"en": [text + en_end for text in core["en"]], "zh": [text + zh_end for text in core["zh"]]}
