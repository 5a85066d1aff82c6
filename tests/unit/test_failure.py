"""What a refusal means: real replies of real servers, and any bytes at all."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.failure import Failure, FailureKind, classify, failure_from_reply, one_line

# As Gmail, Microsoft 365 and Outlook.com, Yahoo, Postfix, Exim and qmail put it.
REPLIES = [
    (
        (
            "550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-chec"
            "king the recipient's email address for typos or 550-5.1.1 unnecessary spaces. Learn more at 550 5.1."
            "1 https://support.google.com/mail/?p=NoSuchUser a1-20020a05 - gsmtp"
        ),
        550,
        "5.1.1",
        "ADDRESS_UNKNOWN",
    ),
    (
        (
            "452-4.2.2 The recipient's inbox is out of storage space. Please direct the recipient to 452-4.2.2 ht"
            "tps://support.google.com/mail/?p=OverQuotaTemp - gsmtp"
        ),
        452,
        "4.2.2",
        "MAILBOX_FULL",
    ),
    (
        "552-5.2.2 The email account that you tried to reach is over quota and inactive. - gsmtp",
        552,
        "5.2.2",
        "MAILBOX_FULL",
    ),
    ("550-5.2.1 The email account that you tried to reach is inactive. - gsmtp", 550, "5.2.1", "ADDRESS_UNKNOWN"),
    (
        "550-5.2.1 The user you are trying to contact is receiving mail at a rate that prevents - gsmtp",
        550,
        "5.2.1",
        "ADDRESS_UNKNOWN",
    ),
    (
        (
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all send"
            "ers to authenticate with either SPF or DKIM. - gsmtp"
        ),
        550,
        "5.7.26",
        "AUTHENTICATION",
    ),
    (
        (
            "550-5.7.26 Unauthenticated email from northgate.example is not accepted due to 550-5.7.26 domain's D"
            "MARC policy. - gsmtp"
        ),
        550,
        "5.7.26",
        "AUTHENTICATION",
    ),
    (
        (
            "550-5.7.1 [203.0.113.5 12] Our system has detected that this message is likely unsolicited mail. To "
            "reduce the amount of spam sent to Gmail, this message has been blocked. - gsmtp"
        ),
        550,
        "5.7.1",
        "SPAM",
    ),
    (
        (
            "550-5.7.1 [203.0.113.5] Our system has detected an unusual rate of unsolicited mail originating from"
            " your IP address. To protect our users from spam, mail sent from your IP address has been blocked. -"
            " gsmtp"
        ),
        550,
        "5.7.1",
        "REPUTATION",
    ),
    (
        (
            "421-4.7.0 [203.0.113.5] Our system has detected an unusual rate of unsolicited mail originating from"
            " your IP address. To protect our users from spam, mail sent from your IP address has been temporaril"
            "y rate limited. - gsmtp"
        ),
        421,
        "4.7.0",
        "REPUTATION",
    ),
    (
        ("421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP Netblock - gsmtp"),
        421,
        "4.7.28",
        "REPUTATION",
    ),
    (
        ("550-5.7.25 [203.0.113.5] The IP address sending this message does not have a PTR record setup - gsmtp"),
        550,
        "5.7.25",
        "REPUTATION",
    ),
    ("552-5.3.4 Your message exceeded Google's message size limits. - gsmtp", 552, "5.3.4", "TOO_LARGE"),
    (
        "552-5.7.0 This message was blocked because its content presents a potential security issue. - gsmtp",
        552,
        "5.7.0",
        "POLICY",
    ),
    (
        "535-5.7.8 Username and Password not accepted. For more information, go to - gsmtp",
        535,
        "5.7.8",
        "AUTHENTICATION",
    ),
    ("550-5.4.5 Daily user sending limit exceeded. - gsmtp", 550, "5.4.5", "ACCOUNT"),
    ("534-5.7.9 Application-specific password required. - gsmtp", 534, "5.7.9", "AUTHENTICATION"),
    (
        (
            "550 5.5.0 Requested action not taken: mailbox unavailable. [BN8NAM12FT042.eop-nam12.prod.protection."
            "outlook.com]"
        ),
        550,
        "5.5.0",
        "ADDRESS_UNKNOWN",
    ),
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", 550, "5.5.0", "ADDRESS_UNKNOWN"),
    (
        ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient pat@contoso.example not found by SMTP address lookup"),
        550,
        "5.1.10",
        "ADDRESS_UNKNOWN",
    ),
    (
        (
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [DB5EUR03FT012.eop-EUR03.prod.pro"
            "tection.outlook.com]"
        ),
        550,
        "5.4.1",
        "ADDRESS_UNKNOWN",
    ),
    (
        (
            "550 5.7.1 Unfortunately, messages from [203.0.113.5] weren't sent. Please contact your Internet serv"
            "ice provider since part of their network is on our block list (S3140)."
        ),
        550,
        "5.7.1",
        "REPUTATION",
    ),
    (
        (
            "550 5.7.606 Access denied, banned sending IP [203.0.113.5]. To request removal from this list please"
            " visit https://sender.office.com/"
        ),
        550,
        "5.7.606",
        "REPUTATION",
    ),
    (
        (
            "451 4.7.650 The mail server [203.0.113.5] has been temporarily rate limited due to IP reputation. Fo"
            "r e-mail delivery information, see https://postmaster.live.com (S775)"
        ),
        451,
        "4.7.650",
        "REPUTATION",
    ),
    (
        (
            "550 5.7.509 Access denied, sending domain northgate.example does not pass DMARC verification and has"
            " a DMARC policy of reject."
        ),
        550,
        "5.7.509",
        "AUTHENTICATION",
    ),
    (
        ("550 5.7.515 Access denied, sending domain northgate.example doesn't meet the required authentication level."),
        550,
        "5.7.515",
        "AUTHENTICATION",
    ),
    (
        "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
        550,
        "5.7.23",
        "AUTHENTICATION",
    ),
    (
        (
            "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restricti"
            "on check failed because the sender was not authenticated when sending to this group"
        ),
        550,
        "5.7.133",
        "POLICY",
    ),
    ("550 5.7.1 RESOLVER.RST.NotAuthorized; not authorized; Delivery restriction", 550, "5.7.1", "POLICY"),
    (
        ("554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded"),
        554,
        "5.2.2",
        "MAILBOX_FULL",
    ),
    ("452 4.2.2 mailbox full; STOREDRV", 452, "4.2.2", "MAILBOX_FULL"),
    ("550 5.7.520 Access denied, Your organization does not allow external forwarding.", 550, "5.7.520", "POLICY"),
    (
        (
            "550 5.1.8 Access denied, bad outbound sender. For more information please go to http://go.microsoft."
            "com/fwlink/?LinkId=875724."
        ),
        550,
        "5.1.8",
        "ACCOUNT",
    ),
    (
        (
            "421 RP-001 (BAY004-MC1F24) Unfortunately, some messages from 203.0.113.5 weren't sent. Please try ag"
            "ain. We have limits for how many messages can be sent per hour and per day."
        ),
        421,
        None,
        "REPUTATION",
    ),
    (
        (
            "554 delivery error: dd This user doesn't have a yahoo.com account (pat@yahoo.com) [0] - mta1234.mail"
            ".ne1.yahoo.com"
        ),
        554,
        None,
        "ADDRESS_UNKNOWN",
    ),
    ("554 delivery error: dd Requested mail action aborted, mailbox not found [-9]", 554, None, "ADDRESS_UNKNOWN"),
    ("552 1 Requested mail action aborted, mailbox not found", 552, None, "ADDRESS_UNKNOWN"),
    ("552 Requested mail action aborted: exceeded storage allocation", 552, None, "MAILBOX_FULL"),
    (
        (
            "421 4.7.0 [TSS04] Messages from 203.0.113.5 temporarily deferred due to unexpected volume or user co"
            "mplaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes"
        ),
        421,
        "4.7.0",
        "REPUTATION",
    ),
    (
        (
            "553 5.7.1 [BL21] Connections will not be accepted from 203.0.113.5, because the ip is in Spamhaus's "
            "list; see http://postmaster.yahoo.com/550-bl23.html"
        ),
        553,
        "5.7.1",
        "REPUTATION",
    ),
    (
        "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes",
        554,
        "5.7.9",
        "POLICY",
    ),
    (
        (
            "550 5.7.9 This mail has been blocked because the sender is unauthenticated. Yahoo requires all sende"
            "rs to authenticate with either SPF or DKIM."
        ),
        550,
        "5.7.9",
        "AUTHENTICATION",
    ),
    (
        "550 5.1.1 <pat@mail.example>: Recipient address rejected: User unknown in local recipient table",
        550,
        "5.1.1",
        "ADDRESS_UNKNOWN",
    ),
    (
        "550 5.1.1 <pat@mail.example>: Recipient address rejected: User unknown in virtual mailbox table",
        550,
        "5.1.1",
        "ADDRESS_UNKNOWN",
    ),
    (
        "Host or domain name not found. Name service error for name=mial.example type=MX: Host not found",
        None,
        None,
        "DOMAIN_UNKNOWN",
    ),
    (
        "5.4.4 Host or domain name not found. Name service error for name=mial.example type=A: Host not found",
        None,
        "5.4.4",
        "DOMAIN_UNKNOWN",
    ),
    ("550 5.1.2 <pat@mial.example>: Recipient address rejected: Domain not found", 550, "5.1.2", "DOMAIN_UNKNOWN"),
    (
        (
            "556 5.1.10 <pat@nomail.example>: Recipient address rejected: Domain nomail.example does not accept m"
            "ail (nullMX)"
        ),
        556,
        "5.1.10",
        "DOMAIN_UNKNOWN",
    ),
    ("4.4.1 connect to mx.mail.example[192.0.2.10]:25: Connection timed out", None, "4.4.1", "UNREACHABLE"),
    ("connect to mx.mail.example[192.0.2.10]:25: Connection refused", None, None, "UNREACHABLE"),
    ("connect to mx.mail.example[192.0.2.10]:25: No route to host", None, None, "UNREACHABLE"),
    (
        "4.4.2 conversation with mx.mail.example[192.0.2.10] timed out while sending RCPT TO",
        None,
        "4.4.2",
        "UNREACHABLE",
    ),
    ("5.4.7 Delivery expired (message too old)", None, "5.4.7", "UNREACHABLE"),
    (
        (
            "554 5.7.1 Service unavailable; Client host [203.0.113.5] blocked using zen.spamhaus.org; https://www"
            ".spamhaus.org/query/ip/203.0.113.5"
        ),
        554,
        "5.7.1",
        "REPUTATION",
    ),
    ("450 4.7.1 Client host rejected: cannot find your hostname, [203.0.113.5]", 450, "4.7.1", "REPUTATION"),
    (
        (
            "450 4.2.0 <pat@mail.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert"
            ".ch/help/mail.example.html"
        ),
        450,
        "4.2.0",
        "POLICY",
    ),
    ("451 4.7.1 Greylisting in action, please come back later", 451, "4.7.1", "POLICY"),
    ("554 5.7.1 <pat@mail.example>: Relay access denied", 554, "5.7.1", "POLICY"),
    ("550 5.7.1 <pat@mail.example>: Recipient address rejected: Access denied", 550, "5.7.1", "ADDRESS_UNKNOWN"),
    ("530 5.7.0 Must issue a STARTTLS command first", 530, "5.7.0", "AUTHENTICATION"),
    ("530 5.7.0 Authentication Required", 530, "5.7.0", "AUTHENTICATION"),
    ("552 5.3.4 Message size exceeds fixed limit", 552, "5.3.4", "TOO_LARGE"),
    ("554 5.2.3 message too large for this recipient", 554, "5.2.3", "TOO_LARGE"),
    ("552 5.2.2 <pat@mail.example>: Quota exceeded (mailbox for user is full)", 552, "5.2.2", "MAILBOX_FULL"),
    ("452 4.3.1 Insufficient system storage", 452, "4.3.1", "MAILBOX_FULL"),
    ("550 No such user here", 550, None, "ADDRESS_UNKNOWN"),
    ("550 Unrouteable address", 550, None, "DOMAIN_UNKNOWN"),
    ("550 Unknown recipient", 550, None, "ADDRESS_UNKNOWN"),
    ("551 User not local; please try <pat@other.example>", 551, None, "ADDRESS_UNKNOWN"),
    ("554 5.7.1 Spam message rejected", 554, "5.7.1", "SPAM"),
    ("550 5.7.1 Message rejected as spam by Content Filtering.", 550, "5.7.1", "SPAM"),
    (
        (
            "554 5.7.1 The message from (<hello@northgate.example>) with the subject of (Hello) matches a profile"
            " the Internet community may consider spam."
        ),
        554,
        "5.7.1",
        "SPAM",
    ),
    ("554 5.7.1 Your IP (203.0.113.5) has a poor reputation", 554, "5.7.1", "REPUTATION"),
    (
        (
            "550 SC-001 (COL004-MC1F19) Unfortunately, messages from 203.0.113.5 weren't sent. Please contact you"
            "r Internet service provider since part of their network is on our block list."
        ),
        550,
        None,
        "REPUTATION",
    ),
    ("550 5.7.1 Mail from IP 203.0.113.5 was listed in bl.spamcop.net", 550, "5.7.1", "REPUTATION"),
    ("550 5.6.0 Lone CR or LF in headers (see RFC2822 section 2.2)", 550, "5.6.0", "CONTENT"),
    ("554 5.6.0 Message content rejected", 554, "5.6.0", "CONTENT"),
    ("550 5.7.0 Your account has been suspended, please contact support", 550, "5.7.0", "ACCOUNT"),
    ("550 5.1.6 Recipient no longer on server", 550, "5.1.6", "ADDRESS_UNKNOWN"),
    ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", 553, "5.7.1", "POLICY"),
    ("550 sorry, no mailbox here by that name (#5.1.1)", 550, "5.1.1", "ADDRESS_UNKNOWN"),
    ("451 4.3.0 Temporary system problem. Try again later", 451, "4.3.0", "OTHER"),
    ("451 Requested action aborted: local error in processing", 451, None, "OTHER"),
    ("", None, None, "OTHER"),
    ("554 Transaction failed", 554, None, "OTHER"),
]


@pytest.mark.parametrize(("reply", "smtp_code", "enhanced_code", "kind"), REPLIES)
def test_a_reply_is_read_as_what_staff_can_act_on(
    reply: str, smtp_code: int | None, enhanced_code: str | None, kind: str
) -> None:
    assert failure_from_reply(reply) == Failure(FailureKind[kind], smtp_code, enhanced_code, reply)


def test_every_kind_but_those_that_only_an_esp_can_tell_is_read_from_some_reply() -> None:
    assert {kind.name for kind in FailureKind} - {kind for *_, kind in REPLIES} == {"SUPPRESSED"}


def test_what_is_given_wins_over_what_the_text_says() -> None:
    said = failure_from_reply("550 5.1.1 no such user", smtp_code=452, enhanced_code="4.2.2")
    assert said == Failure(FailureKind.MAILBOX_FULL, 452, "4.2.2", "550 5.1.1 no such user")
    assert failure_from_reply("550 5.1.1 x", kind=FailureKind.SUPPRESSED).kind is FailureKind.SUPPRESSED


def test_a_bare_code_is_read_where_there_are_no_words() -> None:
    assert [classify(code, None, "") for code in (452, 535, 550, 551, 552, 553, 556, 554, None)] == [
        FailureKind.MAILBOX_FULL,
        FailureKind.AUTHENTICATION,
        FailureKind.ADDRESS_UNKNOWN,
        FailureKind.ADDRESS_UNKNOWN,
        FailureKind.MAILBOX_FULL,
        FailureKind.ADDRESS_UNKNOWN,
        FailureKind.DOMAIN_UNKNOWN,
        FailureKind.OTHER,
        FailureKind.OTHER,
    ]


@pytest.mark.parametrize(
    ("enhanced_code", "kind"),
    [
        ("5.1.99", FailureKind.ADDRESS_UNKNOWN),
        ("5.2.99", FailureKind.ADDRESS_UNKNOWN),
        ("5.4.99", FailureKind.UNREACHABLE),
        ("5.6.99", FailureKind.CONTENT),
        ("5.7.99", FailureKind.POLICY),
        ("5.5.99", FailureKind.OTHER),
        ("5.0.0", FailureKind.OTHER),
        ("nonsense", FailureKind.OTHER),
    ],
)
def test_a_detail_that_nobody_registered_counts_by_its_subject(enhanced_code: str, kind: FailureKind) -> None:
    assert classify(None, enhanced_code, "") is kind


def test_a_reply_of_many_lines_becomes_one_of_at_most_a_thousand_characters() -> None:
    assert one_line("550-5.1.1\tno\r\n550 5.1.1\x00 such\u2028user\x1b[0m") == "550-5.1.1 no 550 5.1.1 such user [0m"
    assert one_line("x" * 5000) == "x" * 1000


@given(st.text(max_size=300), st.one_of(st.none(), st.integers(0, 999)), st.one_of(st.none(), st.text(max_size=9)))
def test_any_text_is_a_refusal(reply: str, smtp_code: int | None, enhanced_code: str | None) -> None:
    failure = failure_from_reply(reply, smtp_code=smtp_code, enhanced_code=enhanced_code)
    assert failure.reason == one_line(failure.reason)
    assert len(failure.reason.splitlines()) <= 1
    assert smtp_code in {None, failure.smtp_code}


@pytest.mark.parametrize(
    "piece",
    [
        "client host ",
        "ip address ",
        "ip ",
        "user ",
        "mailbox is ",
        "message ",
        "domain ",
        "messages from ",
        "not have a ",
        "4",
        "5.1.",
        "550 ",
        "550-5.1.1 ",
        "a",
        " ",
        "\n",
        "timed ",
        "client host rejecte ip blocke ",
    ],
)
def test_a_hundred_kilobytes_of_near_misses_cost_little(piece: str) -> None:
    reply = piece * (100_000 // len(piece))
    started = time.process_time()
    classify(None, None, reply)
    failure_from_reply(reply)
    assert time.process_time() - started < 3
