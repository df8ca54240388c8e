"""Responses that say no, or that they do not know, and nothing else: by their words, precision first.

A response is only taken for a refusal if it is short, begins as one, and offers nothing but excuses after it; never where
the question itself asks for such words (a polite decline, a translation, an option "cannot be determined").
"""

from __future__ import annotations

import re

MAX_REFUSAL_CHARACTERS = 600
"""A longer response says more than no."""
MAX_ADMISSION_WORDS = 16
"""A longer response says more than that it does not know."""

_SORRY = (
    r"(?:(?:i am|i'm|we're|we are) (?:(?:really|very|so|truly) )?sorry|i apologi[sz]e|my apologies|sorry|apologies|"
    r"unfortunately|regrettably|thank you for (?:asking|your (?:question|message)))[,.!;:]?\s*(?:but\s+|that\s+)?"
)
_AS_AI = (
    r"as an? (?:responsible )?(?:ai|artificial intelligence|language model|large language model|assistant)"
    r"[\w ,'-]{0,60}?,\s*"
)
_DEED = (
    r"(?:help|assist|comply|fulfil+|provide|create|generate|write|discuss|engage|participate|support|produce|share|"
    r"offer|promote|continue with|do that|answer (?:that|this)|give (?:you|out|instructions|advice|medical|legal)|"
    r"respond to|process (?:that|this|your)|complete (?:that|this|your)|talk about|be (?:used|part)|"
    r"encourage|facilitate|condone|endorse)\b"
)
_UNABLE = (
    r"(?:i\s+(?:can(?:no|'?)t|can not|will not|won'?t|must decline|have to decline|must refuse|refuse)|"
    r"(?:i'm|i am) (?:not able|unable|not allowed|not permitted|not going|not comfortable|prohibited from))"
    r"(?:\s+(?:to|in good conscience|ethically|legally|really|directly))*"
)
_ENGLISH = (
    rf"(?:{_SORRY})?(?:{_AS_AI})?(?:{_UNABLE}\s+{_DEED}|i (?:must|have to) (?:decline|refuse)|i refuse to)"
)
_OTHERS = (
    r"(?:es )?tut mir (?:sehr )?leid[,.]?\s*(?:aber\s+)?(?:ich kann|dabei kann ich|das kann ich|ich darf)[^.]{0,60}\b(?:nicht|keine)\b",
    r"(?:ich kann|dabei kann ich|damit kann ich) (?:ihnen |dir )?[^.,]{0,30}\bnicht (?:helfen|weiterhelfen|behilflich)",
    r"(?:(?:je suis )?désolée?|je regrette)[,.]?\s*(?:mais\s+)?je ne (?:peux|puis) pas",
    r"je ne (?:peux|puis) pas (?:vous |t')?(?:aider|fournir|répondre|créer|accéder)",
    r"(?:lo siento|lamentablemente)[,.]?\s*(?:pero\s+)?no puedo (?:ayudar|proporcionar|responder|cumplir|crear|hacer)",
    r"no puedo (?:ayudar(?:te|le)?|proporcionar|cumplir) ",
    r"(?:mi dispiace|spiacente)[,.]?\s*(?:ma\s+)?non posso (?:aiutar|fornire|rispondere|creare|soddisfare)",
    r"(?:desculpe|sinto muito|lamento)[,.]?\s*(?:mas\s+)?(?:eu )?não posso (?:ajudar|fornecer|responder|criar|atender)",
    r"(?:извините|к сожалению|простите)[,.]?\s*(?:но\s+)?я не могу (?:помочь|предоставить|ответить|выполнить|создать)",
    r"(?:很|非常)?(?:抱歉|对不起)[，,。！!]?\s*(?:但是?|不过)?\s*(?:作为[^，,。]{0,20}[，,])?我?(?:无法|不能|没办法)",
    r"(?:申し訳(?:ございません|ありません)(?:が)?|すみませんが)[、,。]?[^。]{0,40}(?:できません|いたしかねます|できかねます)",
    r"죄송(?:하지만|합니다)[,.]?\s*[^.]{0,40}(?:수 없습니다|어렵습니다)",
)
_REFUSAL = re.compile(rf"\W*(?:{_ENGLISH}|{'|'.join(_OTHERS)})", re.IGNORECASE)

_SUBSTANCE = re.compile(
    r"```|\\boxed|\bhere(?:'s| is| are)\b|\bthe (?:\w+ )?answer\b|^\s*(?:[-*•]|\d+[.)])\s|\bfor example\b|\bstep \d|"
    r"\bbut (?:in general|generally|typically|the|it|this|these|most|a|an|you)\b|\b(?:generally|typically|usually)\b|"
    r"\bhowever,? (?:the|it|this|in|there|most|a|an|you)\b|\bthat said\b|\byou (?:should|could|need|must)\b|"
    r"\bbecause it (?:is|has|was) (?:already|not)\b|=|\d+(?:[.,]\d+)?\s*(?:%|mg|kg|km|usd|\$|€)",
    re.IGNORECASE | re.MULTILINE,
)
"""What a mere refusal does not hold: steps, examples, figures, or a "but" with something to say."""

_ABOUT_REFUSING = re.compile(
    r"\b(?:declin|refus|reject|apologi|sorry|translat|paraphras|rephras|rewrit|proofread|role.?play|pretend|"
    r"dialogue|monologue|screenplay|story|poem|lyrics|turn(?:ing)? (?:\w+ ){0,3}down|say(?:ing)? no|"
    r"(?:what|how) (?:does|would|do|should) (?:\w+ ){1,4}(?:say|reply|respond)|"
    r"(?:e-?mail|letter|message|reply|response|note|script)s? (?:to|that|in which|for|saying)|repeat|quote|"
    r"übersetz|absag|ablehn|traduis|traduire|refuser|traduce|rechaz|traduci|traduz|переведи|翻译|拒绝|翻訳|断)",
    re.IGNORECASE,
)

_CORE = (
    r"(?:do not|don'?t|cannot|can'?t|can not) (?:really |actually )?(?:know|tell|say|determine|answer)"
    r"(?: (?:that|this|it|the (?:correct |exact |right )?answer|(?:to )?(?:that|this|the|your) question))*"
)
_ADMISSION = re.compile(
    r"\W*(?:(?:i'm |i am )?sorry,? (?:but )?|unfortunately,? |hmm,? )?(?:"
    rf"i (?:honestly |simply |just )?{_CORE}"
    r"|(?:i'm|i am) (?:not sure|unsure|uncertain)(?: (?:about|of) (?:that|this|it|the answer))?"
    r"|i have no (?:idea|clue)|no idea|(?:i am|i'm) (?:unable|not able) to (?:determine|answer|tell|say)"
    r"(?: (?:that|this|it|the (?:correct |right )?answer|(?:that|this|the|your) question))*"
    r"|(?:the answer |it |this )?(?:cannot|can'?t|can not|could not) be (?:determined|answered)"
    r"|(?:there is |i have )?(?:not enough|insufficient) (?:information|data|context)"
    r"|(?:das )?weiß ich (?:leider )?nicht|ich weiß (?:es |das )?(?:leider )?nicht|je ne sais pas|no lo s[eé]|non lo so|"
    r"(?:eu )?não sei|я не знаю|我不知道|不知道|わかりません|分かりません|모르겠습니다"
    r")(?: (?:from|with|without|based on|given) [\w ]{1,40}| to (?:answer|determine|tell|say)[\w ]{0,40})?\W*",
    re.IGNORECASE,
)
_ASKED_FOR = re.compile(
    r"determin|enough information|insufficient|don'?t know|do not know|not (?:be )?sure|unsure|uncertain|unknown|"
    r"no idea|not given|unanswerable|can(?:no|')?t (?:say|tell|be)|\babstain|weiß.{0,10}nicht|ne sais pas|no s[eé]\b|"
    r"不知道|わからない|translat|übersetz|翻译",
    re.IGNORECASE,
)


def is_refusal(text: str, question: str) -> bool:
    """Whether the text does nothing but refuse. question: all text of the conversation."""
    text = _plain(text)
    if len(text) > MAX_REFUSAL_CHARACTERS:
        return False
    match = _REFUSAL.match(text)
    return (
        match is not None
        and _SUBSTANCE.search(text, match.end()) is None
        and _ABOUT_REFUSING.search(question) is None
    )


def is_admission(text: str, question: str) -> bool:
    """Whether the whole text says that it does not know the answer, though the question did not offer those words."""
    text = _plain(text)
    if len(text.split()) > MAX_ADMISSION_WORDS or _ADMISSION.fullmatch(text) is None:
        return False
    return _ASKED_FOR.search(question) is None


def _plain(text: str) -> str:
    return text.strip().replace("\u2019", "'")
