"""More texts as in `labelled_texts`, written and counted before the measure was run on them.

The measure was made with `labelled_texts` in view; these say what it is worth on others.
"""

from tests.text.labelled_texts import Piece

HELD_OUT_ACROSS_SCRIPTS: list[tuple[str, list[Piece]]] = [
    (
        "en",
        [
            ("en", 11, "The farmer sold thirty eggs on Monday and kept the rest. "),
            ("zh", 7, "农夫星期一卖掉了三十个鸡蛋。"),
        ],
    ),
    (
        "zh",
        [
            ("zh", 12, "每个盒子里有6支铅笔，4个盒子一共有24支铅笔。"),
            ("en", 8, "Wait, let me count the pencils once more."),
        ],
    ),
    ("ru", [("ru", 7, "Поезд прошёл половину пути за два часа. "), ("zh", 6, "所以全程需要四个小时。")]),
    (
        "el",
        [
            ("el", 7, "Αν προσθέσουμε πέντε στον αριθμό, παίρνουμε δώδεκα. "),
            ("en", 6, "That means the number was seven."),
        ],
    ),
    (
        "ko",
        [
            ("ko", 7, "사과 다섯 개를 세 명이 나누어 가집니다. "),
            ("en", 8, "Each child gets one apple and two remain."),
        ],
    ),
    (
        "ar",
        [("ar", 8, "لدينا ثلاثة صناديق وفي كل صندوق أربع كرات. "), ("en", 5, "So twelve balls in total.")],
    ),
    (
        "hi",
        [("hi", 12, "राम के पास सात आम हैं और वह दो आम खाता है। "), ("en", 5, "Five mangoes are left over.")],
    ),
    ("th", [("th", 6, "ดังนั้นเราต้องหารด้วยสาม "), ("en", 5, "and the quotient is eight.")]),
    (
        "ja",
        [
            ("ja", 11, "りんごを四つ買って、友達に二つあげました。"),
            ("en", 7, "So only two apples remain for me. "),
        ],
    ),
    ("ja", [("ja", 7, "次の数を求めてください。"), ("zh", 6, "我们先设未知数为三。")]),
    (
        "en",
        [
            (
                "en",
                8,
                "Let `count = len(items)` hold; with $n^2 + n = 20$ we find n = 4, "
                "so foo_bar(x) returns four.",
            )
        ],
    ),
    ("zh", [("zh", 8, "这道题很简单，我们直接计算。"), ("ru", 3, "Ответ равен восьми.")]),
    ("he", [("he", 4, "בכיתה יש עשרים תלמידים "), ("en", 7, "and five of them are absent today.")]),
    ("en", [("zh", 6, "我觉得答案应该是十二。")]),
    ("fr", [("fr", 5, "Le marchand vend neuf pommes. "), ("ar", 5, "ثم يشتري ثلاث برتقالات أخرى.")]),
    (
        "es",
        [
            ("es", 8, "Cada niño recibe dos caramelos y sobra uno. "),
            ("ko", 4, "그래서 모두 열일곱 개입니다."),
        ],
    ),
]

HELD_OUT_WITHIN_SCRIPT: list[tuple[str, list[Piece]]] = [
    (
        "en",
        [
            ("en", 10, "The bakery opens at six and sells rolls until noon. "),
            ("de", 8, "Danach bleiben noch achtzehn Brötchen im Korb liegen."),
        ],
    ),
    (
        "fr",
        [
            ("fr", 12, "Marie possède trois chats et son voisin en possède deux de plus. "),
            ("en", 8, "Together they feed eight animals every single morning."),
        ],
    ),
    (
        "es",
        [
            ("es", 11, "La piscina se llena en cuatro horas con la manguera grande. "),
            ("en", 9, "If both hoses run, it takes far less time."),
        ],
    ),
    (
        "de",
        [
            ("de", 11, "Der Zug fährt um neun Uhr ab und braucht drei Stunden. "),
            ("fr", 9, "Il arrive donc à midi, juste avant le déjeuner."),
        ],
    ),
    ("en", [("en", 14, "Claire, Pierre and Hans share a cake; Hans eats twice as much as Claire.")]),
    ("de", [("de", 12, "Ein Rechteck ist doppelt so lang wie breit und hat den Umfang 36.")]),
    ("fr", [("fr", 11, "Si je multiplie ce nombre par trois, j'obtiens un résultat pair.")]),
    ("es", [("es", 10, "Supongamos que el primer número es mayor que el segundo.")]),
    (
        "en",
        [
            ("en", 6, "I think we should divide first. "),
            ("es", 7, "No, mejor sumamos los dos números primero. "),
            ("en", 6, "Right, then we get nineteen apples."),
        ],
    ),
    (
        "pt",
        [
            ("pt", 12, "A loja vendeu quarenta camisetas na segunda-feira e vinte na terça. "),
            ("en", 8, "That makes sixty shirts over the two days."),
        ],
    ),
    (
        "uk",
        [
            ("uk", 9, "У Марійки було дванадцять яблук, вона віддала половину братові. "),
            ("ru", 9, "Теперь посчитаем, сколько яблок осталось у неё в корзине."),
        ],
    ),
    (
        "it",
        [
            ("it", 9, "Il contadino raccoglie sette ceste di mele ogni giorno. "),
            ("en", 8, "After a week he owns forty nine baskets."),
        ],
    ),
    (
        "nl",
        [
            ("nl", 9, "De winkel heeft vijf dozen met elk acht boeken. "),
            ("en", 7, "We multiply and find forty books altogether."),
        ],
    ),
    (
        "de",
        [
            ("de", 7, "Wir wissen, dass die Summe gerade ist, "),
            ("en", 5, "because both numbers are odd, "),
            ("de", 6, "also muss das Produkt ungerade sein."),
        ],
    ),
    (
        "en",
        [
            ("en", 7, "First note that the sequence grows quickly. "),
            ("fr", 7, "Le troisième terme vaut déjà cent vingt."),
        ],
    ),
]
