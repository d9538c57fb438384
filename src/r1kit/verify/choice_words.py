"""Words around an option, in the languages that models answer in: they announce, join or negate it."""

import re

_ANSWER = "answers?|antwort|lösung|réponse|respuesta|risposta|resposta|ответ"
_OPTION = "options?|choices?|alternatives?|letters?|opción|opzione|opção|вариант"
_RIGHT_ONE = "correct|right|best|final|richtige|bonne|correcta|corretta|correta"
# "the answer is", in each language.
_IS = "is|are|was|be|ist|sind|lautet|wäre|est|sont|serait|es|son|sería|è|é|это"
_OR = "or|and|nor|oder|und|ou|et|o|y|e|или|и"
# May come between two joined options: "A or maybe B".
_FILLERS = "the|an?|both|either|also|maybe|perhaps|possibly|even|options?|choices?|it|could|be"
_NOT = (
    "not|isn't|can't be|cannot be|never|neither|nor|except|eliminate|exclude|rules? out|ruled out|instead of|"
    r"rather than|unlike|nicht|kein\w*|pas|no es|non è|não é"
)
# Right before an option: "so B", "go with B".
_LEADING = (
    f"{_IS}|{_ANSWER}|{_OPTION}|it's|picks?|choose|chose|select|selected|go with|going with|take|so|thus|"
    "therefore|hence|corresponds to|matches|only|both|either|neither|not|nor|or|but|say|guess|namely|"
    "means?|think|also|daher|somit|sondern|mais|sino|wähle|nehme|buchstabe|nicht|oder|donc|la|"
    "choix|choisis|lettre|elijo|tanto|letra|quindi|portanto"
)
# A sentence continues with these after an option: "B because".
_GOING_ON = (
    f"{_IS}|because|since|as|for|so|or|and|not|but|which|that|due|given|by|from|with|where|when|while|if|weil|denn|"
    "car|parce|porque|perché|seems|looks|must|would"
)
_WRONG = (
    r"not\b|incorrect|wrong|false\b|out\b|impossible|ruled|eliminated|excluded|can't|cannot|isn't|aren't|doesn't|"
    r"don't|fails?\b|falsch|nicht|faux|fausse|n'est|no es"
)

# An option follows; the match ends where it may begin. The 80 characters bound the search: "the answer to the
# last question is".
_FOLLOWS = (
    rf"[^.!?。！？\n:=]{{0,80}}?(?:\b(?:{_IS})\b|[:=→⇒是为はが은는]|\s-\s)|\s*\n|\s?(?=\(?[A-Z]\)?\W*$)"
)
# "the answer is", "the correct option is", "I choose", "go with", 答案是. Not "answer choices", "answer key".
CUE = re.compile(
    rf"(?:(?<!to )\b(?:{_ANSWER})\b(?!\s+(?:choices?|options?|sheet|key)\b)"
    rf"|\b(?:{_RIGHT_ONE})\s+(?:{_OPTION}|one)\b|答案|(?:正确|最佳)选项|答え|正解|정답|답)(?:{_FOLLOWS})[\s:=→]*"
    r"|\b(?:I|we)(?:'d|'ll|\s+would|\s+will)?\s+(?:choose|chose|picked|pick|take|selected|select)\s+"
    r"|\b(?:go|going|went) with\s+"
    r"|(?:选择|选|選)(?!项)[\s:]*",
    re.IGNORECASE | re.MULTILINE,
)
SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|[。！？；\n]")
# After an option: it is the answer ...
RIGHT = re.compile(
    r"[\s)\]]*(?:(?:is|are|must be|seems|looks|ist|est|es|è|é)\s+"
    rf"(?:(?:the|therefore|thus|clearly|then|indeed|die|la|le|my|our|only|final)\s+)*(?:{_RIGHT_ONE}|richtig|correcte|correcto|answer)\b|是?(?:正确|对)的?)",
    re.IGNORECASE,
)
# ... or that it is not.
WRONG = re.compile(
    rf"[\s)\]]*(?::\s*)?(?:(?:were|can|could|must|would|{_IS})\s+)?(?:(?:also|clearly|both|all|be|so)\s+)*(?:{_WRONG})"
    r"|[\s)\]]*(?:是?错|不对|不正确|不是|不符)",
    re.IGNORECASE,
)
# Right before an option that is said not to be the answer.
NEGATED = re.compile(
    rf"(?:\b(?:{_NOT})\b|不是|不选|并非|排除)\s*(?:be\b)?\s*(?:an?\b|the\b|die\b|la\b)?\s*"
    rf"(?:(?:{_ANSWER}|{_OPTION})\b|选项)?[\s(\"'“‘*$]*$",
    re.IGNORECASE,
)
# Between two options given as one answer; letters may also be adjacent ("AB", "A-B").
_BETWEEN = rf"[\s()\[\]*.\"']|\b(?:{_FILLERS})\b"
JOINS = re.compile(
    rf"(?:{_BETWEEN})*(?:[,/&、+]|\b(?:{_OR}|as well as)\b|或者?|和|及|与)"
    rf"(?:{_BETWEEN}|[,/&、]|\b(?:{_OR})\b)*",
    re.IGNORECASE,
)
LETTER_JOINS = re.compile(rf"[\s()\[\]*]*|\s?-\s?|{JOINS.pattern}", re.IGNORECASE)
# Between two options' texts that are given together, with or without list labels.
TEXT_JOINS = re.compile(rf"[\s,;]*[(\[]?\b[B-Z][).:\]]\s*|\s+|{JOINS.pattern}", re.IGNORECASE)

# What may come right before a letter that means an option ...
LEADS = re.compile(
    rf"(?:^|[\n:;.!?,→⇒—。！？]|\b(?:{_LEADING})\b|[选選择项是为案故即以此应はがー은는])[\s\"(\[]*(?:-\s+)?$",
    re.IGNORECASE,
)
# ... and right after it. A and I are also words, so less may follow them: not "A good one", not "I am".
ENDS = re.compile(rf"\s*(?:$|[.,:;!?)\]\"—]|[^\x00-\x7f]|-\s|\(|(?:{_GOING_ON})\b)", re.IGNORECASE)
WORD_ENDS = re.compile(
    r"\s*(?:$|[.,:;!?)\]\"—\n]|[^\x00-\x7f]|\s-\s)"
    rf"|\s+(?:is|are|was|because|since|but|not|as|{_OR})\b(?!\s+(?:my|you|he|she|they|we|am)\b)"
)
# "I, for one" does not choose option I.
PRONOUN = re.compile(r",(?!\s*(?:$|[A-Z]\b|(?:since|because|as|not|and|or|but|which|so)\b))")
# Nothing but punctuation: what a lower-case "a" or "i" needs after it.
BARE_END = re.compile(r"\s*(?:$|[.,:;!?)\n])")
# A letter that is called an option ("option b"), is in brackets or quotes, or labels what follows ("B. 13").
CALLED = re.compile(rf"(?:\b(?:{_OPTION})\s*[(\"]?|选项\s*)$", re.IGNORECASE)
OPENED = re.compile(r"(?:^|[^\w)\]]|[^\x00-\x7f])[(\[\"']\Z")
LABEL = (
    (re.compile(r"(?:^|\n|[.:;,]\s)[(\[]?\Z"), re.compile(r"[).:\]]\s*[^\s.)]")),
    (re.compile(r"\s[(\[]?\Z"), re.compile(r"[):\]]\s*[^\s.]")),
)
# Letters of formulas, units, initials and hyphenated names.
_ALPHABETIC = r"A-Za-zÀ-ɏΑ-ωА-я"
IN_FORMULA_BEFORE = re.compile(
    rf"(?:[+*/^<>=∠△√|°±∩∪∈⊂]\s*|\b[A-Za-z]\s*[→⇒]\s*|[{_ALPHABETIC}]\.?|\w\s?-|[\w)]\(|\d)\Z"
)
IN_FORMULA_AFTER = re.compile(
    rf"\s*[=<>≈*^∈⊂∪∩±°%|→⇒]|\s*[+/]\s*[\w(√]|\(|[-.'][A-Za-z]|[+#-](?:\s|$)|[{_ALPHABETIC}]"
)
# "20 C": a unit.
AFTER_NUMBER = re.compile(r"\d[^\S\n]+\Z")
