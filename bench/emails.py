"""The email of the sending benchmark: 2 KB, text and HTML."""

SENDER = "hello@northgate.example"
SUBJECT = "The practice is closed on Monday"
TEXT = (
    "Dear patient,\n\n" + "the practice is closed on Monday; in urgent cases please call us.\n" * 10 + "\nNorthgate\n"
)
HTML = f"<html><body><p>{TEXT.replace(chr(10), '<br>')}</p></body></html>"


def recipient(number: int) -> str:
    return f"patient.{number}@mail.example"
