"""Names and letters of the demo practice. All invented."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Letter:
    """What a practice writes; `{name}` and `{practice}` are filled in."""

    subject: str
    text: str


def _letter(subject: str, body: str) -> Letter:
    return Letter(subject, f"Dear {{name}},\n\n{body}\n\nKind regards\n{{practice}}")


LETTERS: Final = (
    _letter(
        "Your appointment on Tuesday",
        "this is a reminder of your appointment on Tuesday at 9:40. Please tell us "
        "if you can't come, so that somebody else can.",
    ),
    _letter("Your results are ready", "your results are ready. Please call us between 10 and 12 to talk them over."),
    _letter(
        "Time for your flu vaccination",
        "the flu vaccine has arrived. You can book a time by telephone, or come on Saturday morning without one.",
    ),
    _letter("Repeat prescription ready for collection", "your repeat prescription is ready at the front desk."),
    _letter("How did we do?", "thank you for your visit. If you have two minutes, tell us what we could do better."),
    _letter("Change of opening hours", "from next month we open at 7:30 on Mondays and Thursdays."),
    _letter("Your referral", "we have sent your referral. The hospital will write to you within two weeks."),
    _letter(
        "Blood test: please come fasting",
        "for your blood test on Friday please don't eat or drink anything but water from midnight on.",
    ),
    _letter("Welcome to the practice", "welcome. Enclosed are our telephone numbers and how to reach us out of hours."),
    _letter("Annual check-up due", "your annual check-up is due. Please book a double appointment with the nurse."),
    _letter("Physiotherapy: your exercises", "as discussed, do the exercises twice a day and stop if it hurts."),
    _letter("Your invoice", "please find below the invoice for your travel vaccination. It is due in 30 days."),
)

NAMES: Final = (
    "Amelia Hartley",
    "Bartholomew Quince",
    "Carla Núñez",
    "Dmitri Volkov",
    "Eleanor Whitcombe",
    "Fatima Al-Sayed",
    "Gareth Llewellyn",
    "Hannah Osei",
    "Imran Qureshi",
    "Josephine Blackwood",
    "Katarzyna Wiśniewska",
    "Liam O'Sullivan",
    "Margaret Thorne",
    "Nikhil Deshmukh",
    "Olivia Pemberton",
    "Pedro Carvalho",
    "Quentin Farrow",
    "Rosalind Achebe",
    "Søren Kjær",
    "Theodora Papadakis",
    "Umar Farouk",
    "Violet Ashdown",
    "Walter Grimsby",
    "Xiulan Chen",
    "Yasmin Haddad",
    "Zachary Moss",
    "Beatrice Lindqvist",
    "Callum Fraser",
    "Delphine Moreau",
    "Edmund Sparrow",
    "Freya Nordahl",
    "George Adeyemi",
    "Harriet Bellamy",
    "Isaac Rosenthal",
    "Julia Hoffmann",
    "Kofi Mensah",
    "Lucia Romano",
    "Marcus Thistlewood",
    "Noor Rahman",
    "Oscar Villanueva",
    "Philippa Greaves",
)
