"""The ways out: a webhook, mail. What could not be sent raises `NotSent`, whose text is safe to be stored: addresses of webhooks are
secrets, and those of mail servers may hold one."""

import asyncio
import smtplib
import ssl
import time
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx

from app.errors import StartupError
from app.notify.templates import SENDER, Format, post_of, refusal_in
from app.reports.outbox import Notice
from app.settings import Settings

WITHIN = 10.0
"""Seconds for one of them."""


class NotSent(Exception):
    """Why, in one line."""


class Channel(Protocol):
    async def send(self, notice: Notice, *, id: str, at: datetime) -> None:
        """`id`: the same for each try. Raises `NotSent`."""


class Webhook:
    def __init__(self, url: str, *, format: Format, secret: str | None) -> None:
        self._url = url
        self._format: Format = format
        self._secret = secret

    async def send(self, notice: Notice, *, id: str, at: datetime) -> None:
        post = post_of(notice, id=id, at=at, now=time.time(), format=self._format, secret=self._secret)
        url = self._url + (("&" if "?" in self._url else "?") + post.query if post.query else "")
        headers = {"Content-Type": "application/json", **post.headers}
        try:
            async with asyncio.timeout(WITHIN), httpx.AsyncClient(timeout=WITHIN) as client:
                answer = await client.post(url, content=post.body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as failed:
            raise NotSent(f"the webhook can't be reached ({type(failed).__name__})") from None
        if not answer.is_success:
            raise NotSent(f"the webhook answered {answer.status_code}")
        if refusal := refusal_in(answer.content, self._format):
            raise NotSent(f"the webhook refused it, {refusal}")


class Email:
    """Sent where one of `to` gets it. `server`: `smtp://` (STARTTLS where the server has it, and always where there is a password) or `smtps://`."""

    def __init__(self, server: str, *, sender: str, to: list[str]) -> None:
        self._server = urlsplit(server)
        self._sender = sender
        self._to = to

    async def send(self, notice: Notice, *, id: str, at: datetime) -> None:
        message = EmailMessage()
        message["Subject"] = f"[{SENDER}] {notice.kind}: {' '.join(notice.subject.split())}"
        message["From"], message["To"] = self._sender, ", ".join(self._to)
        message["Date"], message["Message-ID"] = format_datetime(at), f"<{id}@{SENDER}>"
        message.set_content(f"{notice.text}\n")
        try:
            await asyncio.to_thread(self._deliver, message)
        except smtplib.SMTPRecipientsRefused as refused:
            codes = sorted({code for code, _ in refused.recipients.values()})
            raise NotSent(f"the mail server takes nothing for NOTIFY_TO ({', '.join(map(str, codes))})") from None
        except smtplib.SMTPResponseException as refused:
            raise NotSent(f"the mail server answered {refused.smtp_code}") from None
        except (OSError, smtplib.SMTPException) as failed:
            raise NotSent(f"the mail server can't be reached ({type(failed).__name__})") from None

    def _deliver(self, message: EmailMessage) -> None:
        server, context = self._server, ssl.create_default_context()
        host, is_tls = server.hostname or "", server.scheme == "smtps"
        connection = (
            smtplib.SMTP_SSL(host, server.port or 465, timeout=WITHIN, context=context)
            if is_tls
            else smtplib.SMTP(host, server.port or 587, timeout=WITHIN)
        )
        with connection:
            connection.ehlo()
            if not is_tls and (server.password or connection.has_extn("starttls")):
                connection.starttls(context=context)
            if server.username:
                connection.login(unquote(server.username), unquote(server.password or ""))
            connection.send_message(message)


def channels_of(settings: Settings) -> dict[str, Channel]:
    """By name; none where nobody is to be told. Raises `StartupError`."""
    channels: dict[str, Channel] = {}
    if settings.notify_webhook is not None:
        secret = settings.notify_webhook_secret
        channels["webhook"] = Webhook(
            settings.notify_webhook.get_secret_value(),
            format=settings.notify_webhook_format,
            secret=secret.get_secret_value() if secret else None,
        )
    if settings.notify_smtp is not None:
        to = [address for address in map(str.strip, settings.notify_to.split(",")) if address]
        if not to or not settings.notify_from:
            raise StartupError("NOTIFY_SMTP: set NOTIFY_FROM and NOTIFY_TO, too")
        channels["email"] = Email(settings.notify_smtp.get_secret_value(), sender=settings.notify_from, to=to)
    return channels
