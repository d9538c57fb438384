"""Reasoning texts in eleven languages, mixed, with the number of words of each language counted by hand.

Written for this project; a word is what a reader would call one, single letters such as `a` included. A
text is a list of pieces (language, number of words, piece); numbers and formulas are not words. Chinese,
Japanese and Thai words are those a reader would separate: 我们 / 把 / 数字 / 相加.
"""

Piece = tuple[str, int, str]

# Pieces whose scripts differ: (target, pieces).
ACROSS_SCRIPTS: list[tuple[str, list[Piece]]] = [
    (
        "en",
        [("en", 16, "First we add 45 and 6 to get 51, and then we take away 7 from it, so that leaves 44.")],
    ),
    ("zh", [("zh", 11, "首先我们把45和6相加，得到51，然后再减去7，所以剩下44。")]),
    (
        "en",
        [
            ("en", 7, "So the number of apples is now 51. "),
            ("zh", 8, "然后我们检查一下这个结果是否正确。"),
            ("en", 7, "Yes, it is correct, and we stop."),
        ],
    ),
    (
        "zh",
        [
            ("zh", 8, "小明有12个苹果，又买了7个苹果。"),
            ("en", 9, "So now he has 19 apples, that is the total. "),
            ("zh", 5, "因此答案应该是19个。"),
        ],
    ),
    (
        "ru",
        [
            ("ru", 10, "Сначала сложим числа, потом умножим сумму на три и получим 36. "),
            ("en", 6, "Let me check the result again. "),
        ],
    ),
    (
        "ja",
        [
            ("ja", 14, "まず、12と7を足して19になります。次に答えを確認します。"),
            ("en", 6, "So the sum is nineteen, right? "),
        ],
    ),
    ("ja", [("ja", 13, "東京大学の学生が三人いるので、答えは三です。"), ("ko", 3, "그래서 답은 셋입니다.")]),
    ("ko", [("ko", 7, "먼저 두 수를 더하면 합은 19가 됩니다. "), ("en", 5, "Then we multiply by three.")]),
    ("th", [("th", 7, "ก่อนอื่นเราบวกเลขสองตัวนี้"), ("en", 4, " and check the sum.")]),
    (
        "ar",
        [
            ("ar", 7, "أولا نجمع العددين ثم نضرب المجموع في 3. "),
            ("fr", 7, "Ensuite nous vérifions le résultat du calcul."),
        ],
    ),
    ("hi", [("hi", 12, "पहले हम दोनों संख्याओं को जोड़ते हैं और फिर 3 से गुणा करते।"), ("en", 2, " That gives 36.")]),
    ("en", [("en", 7, "Let $x = \\frac{1}{2}$ and `total = x + 1` be given; then f(x) and x_1 agree.")]),
    ("el", [("el", 6, "Πρώτα προσθέτουμε τους δύο αριθμούς μαζί. "), ("zh", 3, "然后检查结果。")]),
]

# Pieces that share a script.
WITHIN_SCRIPT: list[tuple[str, list[Piece]]] = [
    (
        "en",
        [
            ("en", 10, "We first look at how many apples she has bought. "),
            ("fr", 9, "Ensuite nous ajoutons les trois pommes que Pierre achète. "),
            ("en", 8, "The shop owner gives her two apples back."),
        ],
    ),
    (
        "de",
        [
            ("de", 10, "Zuerst addieren wir die beiden Zahlen und erhalten die Summe. "),
            ("en", 9, "Now the train leaves the station after twenty minutes."),
        ],
    ),
    (
        "fr",
        [
            ("fr", 12, "Le train part de la gare à huit heures et roule vite. "),
            ("de", 8, "Danach fährt er noch vier Stunden nach Hause."),
        ],
    ),
    (
        "es",
        [
            ("es", 11, "Primero sumamos los dos números y después restamos siete del resultado. "),
            ("en", 8, "Finally, every child receives exactly four green marbles."),
        ],
    ),
    ("en", [("en", 13, "Sam walks his dog along the river twice a day, three miles each. ")]),
    ("de", [("de", 12, "Anna kauft im Laden vier Äpfel, danach schenkt sie ihrem Bruder zwei.")]),
    (
        "ru",
        [
            ("ru", 9, "Сначала нужно сложить все числа, которые стоят в таблице. "),
            ("uk", 8, "Потім треба помножити цю суму на кількість учнів."),
        ],
    ),
    ("es", [("es", 12, "Juan tiene doce manzanas y regala la mitad a su hermana menor.")]),
    ("it", [("it", 9, "Prima sommiamo i due numeri, poi dividiamo per quattro. ")]),
    (
        "vi",
        [
            ("vi", 11, "Đầu tiên chúng ta cộng hai số lại với nhau nhé. "),
            ("en", 7, "Then somebody subtracts seven from that amount."),
        ],
    ),
    (
        "en",
        [
            ("en", 9, "Each bus carries forty children, so four buses suffice, "),
            ("de", 7, "weil insgesamt hundertfünfzig Kinder zur Schule fahren."),
        ],
    ),
]


def joined(pieces: list[Piece]) -> str:
    """The text of the pieces."""
    return "".join(text for _, _, text in pieces)


def true_share(target: str, pieces: list[Piece]) -> float:
    """The share of words that are of the target language, by the counts."""
    return sum(n for code, n, _ in pieces if code == target) / sum(n for _, n, _ in pieces)
