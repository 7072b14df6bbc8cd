"""Lists the words that tell what a prompt asks for. A star stands for any ending.

The lists need not be complete: `request.py` decides by what a prompt asks for beyond reading, and
passes over words that it does not know.
"""

import re
from enum import Enum


class Kind(Enum):
    """What a word of a prompt tells. The values are the words."""

    # Words that carry no topic.
    STOP = (
        "a an the go is are was were be been being do does did has have had having it its this "
        "that these those there here me my you your i we us our they them their he she his her "
        "can could would will shall should may might must please pls plz kindly just only simply "
        "now ok okay hi hello hey thanks thank help need want like let lets tell give show get "
        "find return output print put provide write type make produce create generate display "
        "send list answer reply respond see following below above attached given provided "
        "uploaded first then also any some many as well s t re ve ll if according mentioned "
        "stated task job try perform performing run running doing apply use using то это этот эта "
        "эти этого этой этом этих там тут здесь мне нам мой моя ты вы вас ваш я мы наш он она оно "
        "они его ее их же ли бы не ни есть будет был была было для меня пожалуйста пжлст плиз "
        "прошу просто только сейчас нужно надо можно можешь можете хочу помоги помогите давай "
        "привет здравствуйте спасибо скажи скажите дай дайте покажи покажите найди найдите верни "
        "верните выведи выведите вывести выдай выдайте напиши напишите написать сделай сделайте "
        "сделать создай укажи укажите сообщи сообщите подскажи подскажите ответь который которая "
        "которое которые указано указан указана следующее следующий ниже приложенный приложенном "
        "прикрепленный один одна из них потом затем также еще выполни выполните провести проведи "
        "проведите используй точн*"
    )
    # The page itself, and kinds of it.
    PAGE = (
        "image* picture* pic pics photo* img screenshot* page* document* doc docs file* pdf* scan "
        "scans scanned content contents изображени* картин* фото фотограф* фотк* снимок снимк* "
        "скрин* страниц* документ* файл* скан скана скане скану сканом сканы содержим*"
    )
    KIND = (
        "receipt* invoice* bill bills letter* form forms ticket* passport* contract* agreement* "
        "statement* certificate* book* card cards label* sign signs poster* note notes menu* "
        "slide* table tables sheet* spreadsheet* figure* chart* handwriting handwritten paper* "
        "article* чек* квитанц* счет счета счете счету счетом накладн* письм* бланк* форма форме "
        "анкет* билет* паспорт* договор* справк* акт акта акте книг* карточк* вывеск* плакат* "
        "заметк* записк* меню слайд* таблиц* лист листа листе график* рукопис* бумаг* стать*"
    )
    # The text of a page, and forms in which it is put down.
    TEXT = (
        "text* ocr* transcript* caption* words char chars character* letters inscription* writing "
        "writings verbatim wording текст* надпис* слова слов словами букв буквы символ* запись "
        "записи написанн* транскрипц*"
    )
    LINE = "word line lines row rows paragraph* строк* абзац*"
    FORMAT = (
        "markdown md html xml latex tex json csv txt plaintext yaml маркдаун* разметк* формат* "
        "format formatted formats"
    )
    ALL = (
        "information info data информаци* данные all every everything whole full entire complete "
        "completely anything each все всё весь всю вся всего целиком полный полностью полное "
        "полную полного каждый каждую каждое всем всех"
    )
    # Reads on its own: "Transcribe."
    READ = (
        "read reading reads transcri* recogni* digiti* ocr* scan parse parsing decipher* "
        "распозна* прочит* прочт* прочесть читай читайте читать считай считайте считать оцифр* "
        "транскриб* расшифр* перепиш* переписать перепечат* скопируй* скопировать набери наберите "
        "набрать спиши спишите спарси*"
    )
    # Reads if its object is the text, but may look for a part.
    EXTRACT = (
        "extract* copy pull grab capture извлек* извлеч* вытащ* достань достаньте достать выпиши "
        "выпишите выписать выдели выделите"
    )
    # Asks for the text, in a question.
    SAYS = (
        "say says said read written write writes stand stands printed tell tells написано написан "
        "написана написаны говорится сказано сообщается напечатано гласит прочитать прочесть"
    )
    SEE = "see seen contain* include* содержит* видишь видите видно видна"
    # A picture that is to be told in words.
    DESCRIBE = (
        "describe* describing description* depict* shown shows опиши опишите описать описание "
        "расскажи расскажите изображено изображена изображены изображен показан* представлен* "
        "нарисован*"
    )
    TITLE = "title* heading* headline* header* called заголов* название называется озаглавлен*"
    # What needs more than the text that was read.
    BEYOND = (
        "translat* summar* explain* explanation* interpret* analy* evaluat* compar* differ* "
        "calculat* comput* average* cheapest expensive biggest largest smallest opinion* think "
        "classif* rewrite rephrase paraphras* correct proofread improve enhance rotate crop draw "
        "edit colorize remove сократи* перевед* перевод* перевест* резюм* перескаж* пересказ* "
        "кратк* объясн* поясн* проанализ* анализ* сравн* разниц* отлич* вычисл* посчита* "
        "подсчита* сложи средн* дешев* дорог* самый самая самое самые самую думаешь* мнени* "
        "нравится исправ* улучш* поверн* обреж* нарис* удали* раскрас*"
    )
    # What only eyes see. A page may still name it: "Colour: red".
    SIGHT = (
        "color* colour* person people man woman men women child children face* animal* object* "
        "feel* emotion* mood happy sad smil* beautiful pretty цвет* человек* люди людей мужчин* "
        "женщин* ребен* дети лицо лица животн* предмет* чувств* эмоци* настроен* счастлив* "
        "грустн* улыб* красив*"
    )
    # How letters look. "Is it handwritten?" asks about them, "What is handwritten?" for them.
    LOOKS = (
        "handwritten handwriting printed typed typewritten cursive legible blurry blurred "
        "sharp bold italic рукопис* печатн* машинопис* курсив* разборчив* читаем* четк* размыт*"
    )
    # What was done with a document, which says nothing of where its date stands.
    DONE = (
        "issued made created drawn bought purchase* sold выдан* пробит* оформлен* составлен* "
        "создан* покупк* куплен* купил*"
    )
    # Words that begin a question.
    ASK = (
        "what whats which who whom whose where when why how что кто кого кому кем где куда когда "
        "зачем почему сколько какой какая какое какие какого каков какова каковы чей чья чье чему "
        "чем каким какую какому которого"
    )
    # What only an answer can tell, never the text as a whole.
    WHO = (
        "who whom whose where when why how кто кого кому кем чей чья чье где куда когда зачем "
        "почему сколько"
    )
    AUX = "is are was were does did do has have am"
    POLITE = "can could would will may можешь можете могли мог не"
    # What follows is the topic.
    ABOUT = "about regarding concerning о об обо про насчет относительно касательно"
    # What follows tells how.
    MANNER = (
        "to into as without while keep keeping keeps preserve preserving preserves maintain "
        "maintaining retain including exactly so ensure separated в виде сохрани* сохраняя "
        "сохранив включая как чтобы без соблюдая"
    )
    INTO = "to into as в"
    # Joins a phrase to the one before it.
    JOIN = (
        "of in on at from for with by within inside out over and or & из в во на с со к ко по от "
        "до для у при и или"
    )
    # The rest of the phrase is what is not wanted.
    NEGATION = (
        "not never without no neither nor avoid skip ignore exclude excluding не без никогда "
        "ничего никаких игнорируй избегай кроме"
    )
    CONDITION = "if unless when whenever where если когда где при"


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(w).replace(r"\*", r"\w*") for w in words.split()))


_PATTERNS = {kind: _pattern(kind.value.replace("ё", "е")) for kind in Kind}
_ADVERB = re.compile(r"\w{3,}ly|\w{3,}[ие]льно|\w{3,}(?:атно|овно|очно|чески)")


def kinds_of(word: str) -> frozenset[Kind]:
    """Every kind that a word in lower case is of; none if it is unknown."""
    return frozenset(kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(word))


def is_adverb(word: str) -> bool:
    """Whether the word tells how something is done, and so never what."""
    return bool(_ADVERB.fullmatch(word))
