"""Django's SMTP backend and Celery, as their documentation has it: a task an email, which builds and sends it."""

import os

import django
from celery import Celery
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from emails import HTML, SENDER, SUBJECT, TEXT, recipient

settings.configure(
    EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=int(os.environ["SINK_PORT"]),
    EMAIL_TIMEOUT=30,
    USE_TZ=True,
)
django.setup()
app = Celery("bench", broker=os.environ["BROKER_URL"])
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=16)


@app.task(name="send")
def send(number: int) -> None:
    message = EmailMultiAlternatives(
        SUBJECT, TEXT, f"Northgate Practice <{SENDER}>", [f"Pat Example {number} <{recipient(number)}>"]
    )
    message.attach_alternative(HTML, "text/html")
    message.send()
