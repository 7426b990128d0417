import unicodedata

import numpy as np
import pytest

from nearvote.text.clean import clean
from nearvote.text.fold import fold
from tests.obfuscate import OBFUSCATORS


def _squeeze(text: str) -> str:
    return "".join(
        letter for before, letter in zip(" " + text, text, strict=False) if letter != before or not letter.islower()
    )


def _plainly(text: str) -> str:
    """What folding may do to ordinary text: case, compatibility forms, repeated letters with case, nothing more."""
    return _squeeze(unicodedata.normalize("NFKC", text.casefold()))


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("FREE Free fREE", "free free free"),
        ("ｆｒｅｅ 𝐟𝐫𝐞𝐞 𝓯𝓻𝓮𝓮 ⓕⓡⓔⓔ", "free free free free"),
        ("🅵🆁🅴🅴 🅕🅡🅔🅔 ᴠɪᴀɢʀᴀ", "free free viagra"),
        ("fr\u200bee f\u00adr\u2060ee \u202efree f\ufe0free fr\U000e0041ee", "free free free free free"),
        ("frée fřėę łøan", "free free loan"),
        ("f\u0336r\u0336e\u0336e\u0336", "free"),
        ("frreeeeee moooney", "free money"),
        ("مـــجاني", "مجاني"),
    ],
)
def test_dress(disguised: str, plain: str) -> None:
    """Letters in another dress, with accents, repeated, or with something unseen between them are the letters."""
    assert fold(disguised) == fold(plain)


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("frее mоnеy", "free money"),
        ("ВUY СНЕАР", "buy cheap"),
        ("ІNVEST tнis", "invest this"),
        ("get рау now", "get pay now"),
        ("сап I рау", "can i pay"),
        ("ϲαѕino bοnus", "casino bonus"),
        ("ꓚaꓢꓧ", "cash"),
        ("беcплaтно", "бесплатно"),  # with a Latin c and a
        ("f.r.е.е", "free"),
    ],
)
def test_look_alikes(disguised: str, plain: str) -> None:
    """A word of letters from two scripts is read in one, and so is a whole word of look-alikes in Latin text."""
    assert fold(disguised) == fold(plain)


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("fr33 m0ney v1agra c@sh $ave", "free money viagra cash save"),
        ("deal$ w!n pr1z3! l0an5 0ffer", "deals win prize! loans offer"),
        ("sa1e bi11ing", "sale billing"),
        ("5el1 w17h0u7 d3p05!t", "sell without deposit"),
    ],
)
def test_leet(disguised: str, plain: str) -> None:
    """Digits and symbols among letters are read as the letters they stand for."""
    assert fold(disguised) == fold(plain)


@pytest.mark.parametrize(
    "text",
    [
        *("3pm 2nd 10kg £50 €9.90 $5 $1.5m 4u b4 mp3 covid19 b2b h2o 1080p 6:30 5g", "us$ win! hi!", "@home @10"),
        *("+44 20 7946 0123", "1-800-5-0199", "1.2.3.4", "v1.2.3", "2026-11-02", "jane.d0e@mail.example", "x86 sha256"),
    ],
)
def test_numbers_stay(text: str) -> None:
    """Times, prices, units, versions, phone numbers, addresses and names with digits at their ends are no disguise."""
    assert fold(text) == text


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        *((separator.join("viagra"), "viagra") for separator in (" ", ".", "-", "_", "*", " . ", "•")),
        ("buy v.i.a.g.r.a!", "buy viagra!"),
        ("f-r-e-e m-o-n-e-y", "free money"),
        ("f r e e m o n e y", "freemoney"),
        ("f r 3 3", "free"),
        ("с п а м", "спам"),
    ],
)
def test_letters_set_apart(disguised: str, plain: str) -> None:
    """Letters set apart by the same separator are joined."""
    assert fold(disguised) == fold(plain)


@pytest.mark.parametrize("text", ["i am a man", "plan b or c", "e.g. this, i.e. that", "at 5 p.m.", "r u ok", "a b c"])
def test_words_of_one_letter_stay(text: str) -> None:
    """A few words of one letter are words."""
    assert fold(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Пожалуйста, принесите отчёт на нашу встречу во вторник. Ещё вчера кот ел сыр.",
        "Нова версія Google вже є, її можна завантажити тут",
        "Будь ласка, принесіть звіт на нашу зустріч, їжте й пийте",
        "Παρακαλώ φέρτε την αναφορά στη συνάντηση, το νέο iPhone",
        "今日はTシャツを買いました。いいですね、ここで会いましょう",
        "请把报告带到会议上，人人都要来",
        "يرجى إحضار التقرير إلى اجتماعنا يوم الثلاثاء",
        "कृपया मंगलवार को हमारी बैठक में रिपोर्ट लाएं",
        "회의에 보고서를 가져와 주세요",
        "IT-отдел шлёт PDFы и SMSки",
    ],
)
def test_other_scripts_stay(text: str) -> None:
    """Ordinary text in any script keeps its letters and their marks."""
    assert fold(text) == _plainly(text)


def test_german_loses_its_dots_alone() -> None:
    """Accents on Latin letters go from ordinary text as well: nothing tells them from disguise."""
    assert fold("Schöne Grüße aus Köln, bis später") == _plainly("Schone Grusse aus Koln, bis spater")


@pytest.mark.parametrize(
    "text",
    [
        "Could you send me the 3 invoices from 2nd May before 5pm? Total was $1,250.00, not £999.",
        "Call +44 20 7946 0123 or mail info@shop.example, see https://www.shop.example/help?id=42#top",
        "I am on plan B; it's 10kg, 20cm wide, 50% off - a 2-for-1 deal with Wi-Fi 6 and 16GB RAM!",
    ],
)
def test_ordinary_english_stays(text: str) -> None:
    """Ordinary English changes in case and doubled letters only."""
    assert fold(text) == _plainly(text)


@pytest.mark.parametrize(
    ("one", "other"), [("loan", "lean"), ("3pm", "8pm"), ("£500", "£5000"), ("кот", "kot"), ("sale", "safe")]
)
def test_distinct_texts_stay_apart(one: str, other: str) -> None:
    """Ordinary words and numbers that differ are folded to what differs."""
    assert fold(one) != fold(other)


def _overlap(one: str, other: str) -> float:
    grams = [{f" {text} "[at : at + 3] for at in range(len(text))} for text in (one, other)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


@pytest.mark.parametrize(
    ("kind", "least"), [("leet", 0.7), ("homoglyph", 0.9), ("zero_width", 1), ("spaced", 0.9), ("repeated", 1)]
)
def test_disguised_texts_meet_plain_ones(kind: str, least: float) -> None:
    """Over many draws, a disguised text shares most of its trigrams with the plain one."""
    text = "Claim your free money today, reply with your account details to win a cash prize, offer ends tonight"
    rng = np.random.default_rng(7)
    overlaps = [_overlap(fold(text), fold(clean(OBFUSCATORS[kind](text, rng)))) for _ in range(50)]
    assert np.mean(overlaps) >= least


def test_lone_surrogates_stay() -> None:
    """What is no text at all raises nothing."""
    assert fold("a\ud800b") == "a\ud800b"
    assert fold("") == ""
