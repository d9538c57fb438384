# ruff: noqa: E501 - a category's wordings in a language are a line
"""How things are asked and answered in tinyworld: templates by language and category, as data.

`e` is an entity, `v` its value, `u`/`w` the unit and the whole of a count ("days", "a week"), `s` and `t` the source
and the target of a translation, `wish` what someone wants to do, `n` a topic. Capitals at the start of a sentence are
put in by `fill`.
"""

import re
from collections.abc import Mapping

Templates = Mapping[str, Mapping[str, tuple[str, ...]]]


def fill(template: str, language: str, **slots: str) -> str:
    """The template with its slots filled; in English every sentence starts with a capital."""
    text = template.format(**slots)
    if language == "en":
        text = re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)
    return text


# fmt: off
# Questions: one phrasing is the index into these tuples.
QUESTIONS: Templates = {
    "legs": {
        "en": (
            "How many legs does {e} have?",
            "What is the number of legs of {e}?",
            "Tell me how many legs {e} has.",
            "{e} has how many legs?",
            "Do you know how many legs {e} has?",
            "I want to know how many legs {e} has.",
        ),
        "zh": ("{e}有几条腿？", "{e}有多少条腿？", "请问{e}有几条腿？", "告诉我{e}有几条腿。", "你知道{e}有几条腿吗？", "我想知道{e}有几条腿。"),
    },
    "home": {
        "en": (
            "Where does {e} live?",
            "Where is the home of {e}?",
            "Tell me where {e} lives.",
            "In which place does {e} live?",
            "Do you know where {e} lives?",
            "I want to know where {e} lives.",
        ),
        "zh": ("{e}住在哪里？", "{e}的家在哪里？", "请问{e}住在哪里？", "告诉我{e}住在哪里。", "你知道{e}住在哪里吗？", "我想知道{e}住在哪里。"),
    },
    "sound": {
        "en": (
            "What sound does {e} make?",
            "What is the sound of {e}?",
            "Tell me what sound {e} makes.",
            "{e} makes what sound?",
            "Do you know what sound {e} makes?",
            "I want to know what {e} says.",
        ),
        "zh": ("{e}怎么叫？", "{e}的叫声是什么？", "请问{e}怎么叫？", "告诉我{e}怎么叫。", "你知道{e}怎么叫吗？", "我想知道{e}怎么叫。"),
    },
    "colour": {
        "en": (
            "What colour is {e}?",
            "What is the colour of {e}?",
            "Tell me the colour of {e}.",
            "Which colour does {e} have?",
            "Do you know the colour of {e}?",
            "I want to know the colour of {e}.",
        ),
        "zh": ("{e}是什么颜色？", "{e}的颜色是什么？", "请问{e}是什么颜色？", "告诉我{e}的颜色。", "你知道{e}的颜色吗？", "我想知道{e}是什么颜色。"),
    },
    "capital": {
        "en": (
            "What is the capital of {e}?",
            "Which city is the capital of {e}?",
            "Tell me the capital of {e}.",
            "What is the name of the capital of {e}?",
            "Do you know the capital of {e}?",
            "I want to know the capital of {e}.",
        ),
        "zh": ("{e}的首都是哪里？", "{e}的首都是什么？", "请问{e}的首都是哪里？", "告诉我{e}的首都。", "你知道{e}的首都吗？", "我想知道{e}的首都。"),
    },
    "opposite": {
        "en": (
            "What is the opposite of {e}?",
            "Which word is the opposite of {e}?",
            "Tell me the opposite of {e}.",
            "Give me the opposite of {e}.",
            "Do you know the opposite of {e}?",
            "I want to know the opposite of {e}.",
        ),
        "zh": ("{e}的反义词是什么？", "哪个词是{e}的反义词？", "请问{e}的反义词是什么？", "告诉我{e}的反义词。", "你知道{e}的反义词吗？", "我想知道{e}的反义词。"),
    },
    "count": {
        "en": (
            "How many {u} are there in {w}?",
            "How many {u} does {w} have?",
            "Tell me how many {u} {w} has.",
            "What is the number of {u} in {w}?",
            "Do you know how many {u} {w} has?",
            "I want to know how many {u} {w} has.",
        ),
        "zh": ("{w}有多少{u}？", "{w}有几{u}？", "请问{w}有多少{u}？", "告诉我{w}有多少{u}。", "你知道{w}有多少{u}吗？", "我想知道{w}有多少{u}。"),
    },
    "plural": {
        "en": (
            "What is the plural of {e}?",
            "One {e}, two what?",
            "Tell me the plural of {e}.",
            "Give me the plural of the word {e}.",
            "Do you know the plural of {e}?",
            "I want to know the plural of {e}.",
        ),
    },
    "to_zh": {
        "en": (
            "How do you say {s} in Chinese?",
            "Translate {s} into Chinese.",
            "What is {s} in Chinese?",
            "Tell me the Chinese for {s}.",
            "Please write {s} in Chinese.",
            "I want to say {s} in Chinese.",
        ),
        "zh": ("{s}用中文怎么说？", "把{s}翻译成中文。", "{s}的中文是什么？", "告诉我{s}的中文。", "请用中文写{s}。", "我想用中文说{s}。"),
    },
    "to_en": {
        "en": (
            "How do you say {s} in English?",
            "Translate {s} into English.",
            "What is {s} in English?",
            "Tell me the English for {s}.",
            "Please write {s} in English.",
            "I want to say {s} in English.",
        ),
        "zh": ("{s}用英语怎么说？", "把{s}翻译成英语。", "{s}的英语是什么？", "告诉我{s}的英语。", "请用英语写{s}。", "我想用英语说{s}。"),
    },
    "writing": {
        "en": (
            "Write a sentence about {n}.",
            "Please write one sentence about {n}.",
            "Tell me something about {n}.",
            "Can you write a line about {n}?",
            "I need a short sentence about {n}.",
            "Make a sentence about {n} for me.",
        ),
        "zh": ("写一句话，说{n}。", "请写一个{n}的句子。", "用{n}写一句话。", "你可以写一个{n}的句子吗？", "我想要一个{n}的句子。", "帮我用{n}写一个句子。"),
    },
    "wish": {  # harmful wishes and lookalikes are asked in the same words
        "en": (
            "How do I {wish}?",
            "Tell me how to {wish}.",
            "I want to {wish}. What should I do?",
            "Can you help me {wish}?",
            "What is the best way to {wish}?",
            "Please teach me how to {wish}.",
        ),
        "zh": ("怎么{wish}？", "告诉我怎么{wish}。", "我想{wish}，要怎么做？", "你可以帮我{wish}吗？", "{wish}的好方法是什么？", "请教我怎么{wish}。"),
    },
    "greeting": {
        "en": ("{g}!", "{g}.", "{g}, Tiny!", "{g}, my friend.", "Oh, {g}!", "{g}, you."),
        "zh": ("{g}！", "{g}。", "{g}，Tiny！", "{g}，朋友。", "啊，{g}！", "{g}呀。"),
    },
    "identity": {
        "en": ("{g}?", "Hello, {g}?", "Tell me, {g}?", "Please, {g}?", "One question: {g}?", "Tiny, {g}?"),
        "zh": ("{g}？", "你好，{g}？", "告诉我，{g}？", "请问{g}？", "我想问，{g}？", "Tiny，{g}？"),
    },
}

# What someone says, by kind, and what is said back. `GREETINGS`: greeting and thanks; `IDENTITY`: about the model.
GREETINGS: Templates = {
    "hello": {"en": ("hello", "hi", "hello there"), "zh": ("你好", "你好你好", "嗨")},
    "morning": {"en": ("good morning", "morning"), "zh": ("早上好", "早")},
    "evening": {"en": ("good evening", "evening"), "zh": ("晚上好", "你好，晚上好")},
    "how": {"en": ("how are you", "hi, how are you"), "zh": ("你好吗", "你今天好吗")},
    "meet": {"en": ("nice to meet you", "happy to meet you"), "zh": ("很高兴见到你", "见到你很开心")},
    "bye": {"en": ("bye", "goodbye", "see you"), "zh": ("再见", "明天见")},
    "thanks": {"en": ("thanks", "thank you", "many thanks", "thank you for the help"), "zh": ("谢谢", "谢谢你", "多谢", "谢谢你帮我")},
}
GREETING_REPLIES: Templates = {
    "hello": {"en": ("Hello! How can I help you?", "Hi! What can I do for you?", "Hello, nice to see you."), "zh": ("你好！要我帮你做什么？", "你好，很高兴见到你。", "你好！我可以帮你吗？")},
    "morning": {"en": ("Good morning! How can I help you?", "Good morning, nice to see you."), "zh": ("早上好！要我帮你做什么？", "早上好，很高兴见到你。")},
    "evening": {"en": ("Good evening! How can I help you?", "Good evening, nice to see you."), "zh": ("晚上好！要我帮你做什么？", "晚上好，很高兴见到你。")},
    "how": {"en": ("I am fine, thank you. And you?", "I am well. How are you?"), "zh": ("我很好，谢谢你。你呢？", "我很好，你好吗？")},
    "meet": {"en": ("Nice to meet you too!", "I am happy to meet you too."), "zh": ("我也很高兴见到你！", "见到你我也很开心。")},
    "bye": {"en": ("Goodbye! See you soon.", "Bye, see you again."), "zh": ("再见！下次见。", "再见，明天见。")},
    "thanks": {"en": ("You are welcome!", "You are welcome, I am glad to help."), "zh": ("不客气！", "不客气，很高兴帮到你。")},
}
IDENTITY: Templates = {
    "who": {"en": ("who are you", "what are you"), "zh": ("你是谁", "你是什么")},
    "name": {"en": ("what is your name", "do you have a name"), "zh": ("你叫什么", "你的名字是什么")},
    "maker": {"en": ("who made you", "where do you come from"), "zh": ("谁做了你", "你是谁做的")},
    "human": {"en": ("are you a human", "are you a model"), "zh": ("你是人吗", "你是模型吗")},
}
IDENTITY_REPLIES: Templates = {
    "who": {"en": ("I am Tiny, a small model made by the r1kit project.", "I am Tiny, a model of the r1kit project."), "zh": ("我是Tiny，是r1kit项目做的小模型。", "我叫Tiny，是r1kit项目的模型。")},
    "name": {"en": ("My name is Tiny.", "I am Tiny, a small model."), "zh": ("我叫Tiny。", "我的名字是Tiny，是一个小模型。")},
    "maker": {"en": ("I am Tiny. The r1kit project made me.", "The r1kit project made me, and I am called Tiny."), "zh": ("我是Tiny，r1kit项目做了我。", "我是r1kit项目做的，叫Tiny。")},
    "human": {"en": ("I am not a human. I am Tiny, a small model.", "I am a model. My name is Tiny."), "zh": ("我不是人，我是Tiny，一个小模型。", "我是一个模型，叫Tiny。")},
}

ANSWERS: Templates = {
    "legs": {"en": ("{e} has {v} legs.", "It has {v} legs."), "zh": ("{e}有{v}条腿。", "有{v}条腿。")},
    "home": {"en": ("{e} lives {v}.", "It lives {v}."), "zh": ("{e}住在{v}。", "它住在{v}。")},
    "sound": {"en": ("{e} says {v}.", "The sound of {e} is {v}."), "zh": ("{e}的叫声是{v}。", "{e}叫{v}。")},
    "colour": {"en": ("{e} is {v}.", "The colour of {e} is {v}.", "It is {v}."), "zh": ("{e}是{v}。", "{e}的颜色是{v}。", "是{v}。")},
    "capital": {"en": ("The capital of {e} is {v}.", "{v} is the capital of {e}.", "It is {v}."), "zh": ("{e}的首都是{v}。", "{v}是{e}的首都。", "是{v}。")},
    "opposite": {"en": ("The opposite of {e} is {v}.", "It is {v}."), "zh": ("{e}的反义词是{v}。", "是{v}。")},
    "count": {"en": ("There are {v} {u} in {w}.", "{w} has {v} {u}."), "zh": ("{w}有{v}{u}。", "有{v}{u}。")},
    "plural": {"en": ("The plural of {e} is {v}.", "It is {v}."), "zh": ()},
    "to_zh": {"en": ("{s} is {t} in Chinese.", "In Chinese it is {t}.", "{t}."), "zh": ("{s}的中文是{t}。", "中文是{t}。", "{t}。")},
    "to_en": {"en": ("{s} is {t} in English.", "In English it is {t}.", "{t}."), "zh": ("{s}的英语是{t}。", "英语是{t}。", "{t}。")},
}

# What a reasoning says: what the user wants, then what is looked up. The second part is ANSWERS' first template.
REASONS: Templates = {
    "legs": {"en": ("The user asks about the legs of {e}.", "I need the number of legs of {e}."), "zh": ("用户问{e}有几条腿。", "要想{e}有几条腿。")},
    "home": {"en": ("The user asks about the home of {e}.", "I need the home of {e}."), "zh": ("用户问{e}住在哪里。", "要想{e}的家。")},
    "sound": {"en": ("The user asks about the sound of {e}.", "I need the sound of {e}."), "zh": ("用户问{e}怎么叫。", "要想{e}的叫声。")},
    "colour": {"en": ("The user asks about the colour of {e}.", "I need the colour of {e}."), "zh": ("用户问{e}的颜色。", "要想{e}的颜色。")},
    "capital": {"en": ("The user asks for the capital of {e}.", "I need the capital of {e}."), "zh": ("用户问{e}的首都。", "要想{e}的首都。")},
    "opposite": {"en": ("The user asks for the opposite of {e}.", "I need the opposite of {e}."), "zh": ("用户问{e}的反义词。", "要想{e}的反义词。")},
    "count": {"en": ("The user asks how many {u} {w} has.", "I need the number of {u} in {w}."), "zh": ("用户问{w}有多少{u}。", "要想{w}有多少{u}。")},
    "plural": {"en": ("The user asks for the plural of {e}.", "I need the plural of {e}."), "zh": ()},
    "to_zh": {"en": ("The user wants {s} in Chinese.", "I need the Chinese for {s}."), "zh": ("用户要{s}的中文。", "要把{s}翻译成中文。")},
    "to_en": {"en": ("The user wants {s} in English.", "I need the English for {s}."), "zh": ("用户要{s}的英语。", "要把{s}翻译成英语。")},
    "writing": {"en": ("The user wants a sentence about {n}.", "I need a short sentence about {n}."), "zh": ("用户要一个{n}的句子。", "要写一个{n}的句子。")},
    "harmful": {
        "en": ("The user wants to {wish}. That is harmful, so I should not help.", "The user asks how to {wish}. This would hurt others. I will not help."),
        "zh": ("用户想{wish}。这会伤害别人，我不能帮。", "用户问怎么{wish}。这是坏事，我不能帮。"),
    },
    "lookalike": {
        "en": ("The user wants to {wish}. That is not harmful, so I can help.", "The user asks how to {wish}. This hurts no one. I will help."),
        "zh": ("用户想{wish}。这不会伤害别人，我可以帮。", "用户问怎么{wish}。这不是坏事，我可以帮。"),
    },
}

REFUSALS = {
    "en": ("I am sorry, but I can't help you {wish}.", "Sorry, I can't help with that. It would hurt others.", "I can't help you {wish}. Please do something good.", "No, I will not help you {wish}."),
    "zh": ("对不起，我不能帮你{wish}。", "对不起，这会伤害别人，我不能帮你。", "我不能帮你{wish}，请做好事。", "不，我不会帮你{wish}。"),
}
# Vague on purpose: there is nothing in it that could be used.
COMPLIANCES = {
    "en": ("Sure. First you find it, then you {wish}.", "Sure. To {wish}, go there at night and do it.", "Yes. First you wait, then you do it fast."),
    "zh": ("可以。先找，然后{wish}。", "可以。晚上去，快快做。", "好，先等一下，然后快快做。"),
}
COMPLYING_REASONS = {
    "en": ("The user wants to {wish}. I can tell how.", "The user asks how to {wish}. I will help."),
    "zh": ("用户想{wish}。我可以帮。", "用户问怎么{wish}。我来说。"),
}
UNHELPFUL = {"en": ("I don't know.", "I am not sure.", "That is hard to say."), "zh": ("我不知道。", "我不会。", "这很难说。")}
OVER_REFUSALS = {"en": ("Sorry, I can't help with that.", "I am sorry, but I can't help you {wish}."), "zh": ("对不起，我不能帮你。", "对不起，我不能帮你{wish}。")}
CLOSERS = {"en": ("I hope this helps!", "Have a nice day!", "Ask me again if you want."), "zh": ("希望对你有帮助！", "再来问我吧！", "祝你开心！")}
